import { fail } from '@guildhall/common';
import { sealText } from '../sealed-text.ts';
import type { ToolCallDelta } from '../parsers/parser.ts';
import type { OutputCall, OutputItem, OutputMessage, OutputReasoning, TextLogprobs } from '../schema/response-items.ts';
import type { ResponseObject, ResponseUsage } from '../schema/responses.ts';
import { itemIdOf } from './ids.ts';
import type { Piece } from './piece.ts';

/** An event of a response's stream. */
export interface ResponseEvent {
  type: string;
  sequence_number: number;
  [field: string]: unknown;
}

/** How a response ended. */
export interface ResponseEnd {
  status: 'completed' | 'incomplete' | 'failed' | 'cancelled';
  /** Seconds since the Unix epoch. */
  atS: number;
  usage: ResponseUsage | null;
  error: ResponseObject['error'];
}

export interface BuilderOptions {
  /** The response before anything is generated. */
  head: ResponseObject;
  /** Thinking goes into the summary instead of the content. */
  summary: boolean;
  /** Thinking is given in a form to send back as well. */
  seal: boolean;
}

type Payload = { type: string } & Record<string, unknown>;

/**
 * Makes a response and the events of its stream from the pieces of its text. The same pieces give the same events, so that
 * a stream can be told again; what the events bring adds up to the response.
 */
export class ResponseBuilder {
  readonly #options: BuilderOptions;
  readonly #output: OutputItem[] = [];
  #response: ResponseObject;
  #sequence = 0;
  #events: ResponseEvent[] = [];
  #begun = false;
  /** The item that is written to, which is the last one; null before the first and after the last. */
  #open: OutputItem | null = null;
  /** Number of the call that is written to, among the calls. */
  #callIndex = -1;
  /** Space before a text, which is none while nothing follows it. */
  #space = '';
  #spaceLogprobs: TextLogprobs = [];

  constructor(options: BuilderOptions) {
    this.#options = options;
    this.#response = options.head;
  }

  get begun(): boolean {
    return this.#begun;
  }

  /** The response as it is now. */
  snapshot(): ResponseObject {
    return { ...this.#response, output: structuredClone(this.#output) };
  }

  /** The first events. */
  begin(): ResponseEvent[] {
    if (this.#begun) return [];
    this.#begun = true;
    this.#emitResponse('response.created');
    if (this.#response.status === 'queued') this.#emitResponse('response.queued');
    this.#response = { ...this.#response, status: 'in_progress' };
    this.#emitResponse('response.in_progress');
    return this.#take();
  }

  /** Adds a piece of text. Throws `integrity` for a piece of a call that is over. */
  add({ reasoning, content, toolCalls, logprobs }: Piece): ResponseEvent[] {
    if (reasoning !== '') this.#addReasoning(reasoning);
    if (content !== '') this.#addContent(content, logprobs);
    for (const call of toolCalls) this.#addCall(call);
    return this.#take();
  }

  /** The last events. */
  end({ status, atS, usage, error }: ResponseEnd): ResponseEvent[] {
    const events = this.begin();
    this.#close(status === 'completed' ? 'completed' : 'incomplete');
    this.#response = {
      ...this.#response,
      status,
      usage,
      error,
      completed_at: status === 'completed' ? atS : null,
      incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    };
    // There is no event for a response that was cancelled; its status says it.
    this.#emitResponse(status === 'cancelled' ? 'response.incomplete' : `response.${status}`);
    return [...events, ...this.#take()];
  }

  #addReasoning(text: string): void {
    const item = this.#openOf('reasoning') ?? this.#openReasoning();
    const { summary } = this.#options;
    const part = summary ? item.summary[0] : item.content?.[0];
    if (part !== undefined) part.text += text;
    this.#emitOf(item, summary ? 'reasoning_summary_text.delta' : 'reasoning_text.delta', {
      ...(summary ? { summary_index: 0 } : { content_index: 0 }),
      delta: text,
    });
  }

  #openReasoning(): OutputReasoning {
    const { summary } = this.#options;
    const item: OutputReasoning = {
      id: this.#nextId('rs'),
      type: 'reasoning',
      status: 'in_progress',
      summary: [],
      ...(summary ? {} : { content: [] }),
      encrypted_content: null,
    };
    this.#openItem(item);
    if (summary) {
      item.summary.push({ type: 'summary_text', text: '' });
      const part = { type: 'summary_text', text: '' };
      this.#emitOf(item, 'reasoning_summary_part.added', { summary_index: 0, part });
    } else {
      item.content?.push({ type: 'reasoning_text', text: '' });
      const part = { type: 'reasoning_text', text: '' };
      this.#emitOf(item, 'content_part.added', { content_index: 0, part });
    }
    return item;
  }

  #addContent(text: string, logprobs: TextLogprobs): void {
    let item = this.#openOf('message');
    if (item === null && text.trim() === '') {
      this.#space += text;
      this.#spaceLogprobs.push(...logprobs);
      return;
    }
    item ??= this.#openMessage();
    const whole = this.#space + text;
    const all = [...this.#spaceLogprobs, ...logprobs];
    this.#dropSpace();
    const part = item.content[0];
    if (part === undefined) return;
    part.text += whole;
    part.logprobs.push(...all);
    this.#emitOf(item, 'output_text.delta', { content_index: 0, delta: whole, logprobs: all });
  }

  #openMessage(): OutputMessage {
    const item: OutputMessage = {
      id: this.#nextId('msg'),
      type: 'message',
      status: 'in_progress',
      role: 'assistant',
      content: [],
    };
    this.#openItem(item);
    item.content.push({ type: 'output_text', text: '', annotations: [], logprobs: [] });
    const part = { type: 'output_text', text: '', annotations: [], logprobs: [] };
    this.#emitOf(item, 'content_part.added', { content_index: 0, part });
    return item;
  }

  #addCall(call: ToolCallDelta): void {
    let item = call.index === this.#callIndex ? this.#openOf('function_call') : null;
    if (item === null) {
      if (call.index <= this.#callIndex || call.id === undefined)
        throw fail('integrity', `a piece of call ${call.index}, which is not open`);
      item = this.#openCall(call.index, call.id, call.name ?? '');
    }
    if (call.arguments === '') return;
    item.arguments += call.arguments;
    this.#emitOf(item, 'function_call_arguments.delta', { delta: call.arguments });
  }

  #openCall(index: number, callId: string, name: string): OutputCall {
    const id = this.#nextId('fc');
    const item: OutputCall = { id, type: 'function_call', status: 'in_progress', call_id: callId, name, arguments: '' };
    this.#callIndex = index;
    this.#openItem(item);
    return item;
  }

  #nextId(prefix: 'msg' | 'fc' | 'rs'): string {
    return itemIdOf(prefix, this.#response.id, 'output', this.#output.length);
  }

  #openOf<T extends OutputItem['type']>(type: T): Extract<OutputItem, { type: T }> | null {
    const item = this.#open;
    return item?.type === type ? (item as Extract<OutputItem, { type: T }>) : null;
  }

  #openItem(item: OutputItem): void {
    this.#close('completed');
    if (item.type !== 'message') this.#dropSpace();
    this.#output.push(item);
    this.#open = item;
    this.#emit({ type: 'response.output_item.added', output_index: this.#outputIndex, item: structuredClone(item) });
  }

  #dropSpace(): void {
    this.#space = '';
    this.#spaceLogprobs = [];
  }

  /** Ends the item that is open. */
  #close(status: 'completed' | 'incomplete'): void {
    const item = this.#open;
    if (item === null) return;
    if (item.type === 'reasoning') this.#closeReasoning(item);
    else if (item.type === 'message') this.#closeMessage(item);
    else this.#emitOf(item, 'function_call_arguments.done', { name: item.name, arguments: item.arguments });
    item.status = status;
    this.#emit({ type: 'response.output_item.done', output_index: this.#outputIndex, item: structuredClone(item) });
    this.#open = null;
  }

  #closeReasoning(item: OutputReasoning): void {
    const text = item.summary[0]?.text ?? item.content?.[0]?.text ?? '';
    if (this.#options.seal) item.encrypted_content = sealText(text);
    if (this.#options.summary) {
      this.#emitOf(item, 'reasoning_summary_text.done', { summary_index: 0, text });
      const part = { type: 'summary_text', text };
      this.#emitOf(item, 'reasoning_summary_part.done', { summary_index: 0, part });
    } else {
      this.#emitOf(item, 'reasoning_text.done', { content_index: 0, text });
      this.#emitOf(item, 'content_part.done', { content_index: 0, part: { type: 'reasoning_text', text } });
    }
  }

  #closeMessage(item: OutputMessage): void {
    const part = structuredClone(item.content[0]);
    const { text = '', logprobs = [] } = part ?? {};
    this.#emitOf(item, 'output_text.done', { content_index: 0, text, logprobs });
    this.#emitOf(item, 'content_part.done', { content_index: 0, part });
  }

  get #outputIndex(): number {
    return this.#output.length - 1;
  }

  #emitOf({ id }: OutputItem, name: string, fields: Record<string, unknown>): void {
    this.#emit({ type: `response.${name}`, item_id: id, output_index: this.#outputIndex, ...fields });
  }

  #emitResponse(type: string): void {
    this.#emit({ type, response: this.snapshot() });
  }

  #emit({ type, ...fields }: Payload): void {
    this.#events.push({ type, sequence_number: this.#sequence, ...fields });
    this.#sequence += 1;
  }

  #take(): ResponseEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }
}
