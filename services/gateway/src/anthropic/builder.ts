import { randomBytes } from 'node:crypto';
import { fail } from '@guildhall/common';
import { usageOf } from '../answers/usage.ts';
import type { ChoiceCounts, ChoiceDelta, FinishName } from '../choice-assembler.ts';
import type { ToolCallDelta } from '../parsers/parser.ts';
import type { AnthropicBlock, AnthropicMessage, AnthropicUsage, StopReason } from '../schema/anthropic.ts';
import { sealText, textDigest } from '../sealed-text.ts';

/** An event of a message's stream. */
export interface MessageEvent {
  type: string;
  [field: string]: unknown;
}

export interface MessageOptions {
  id: string;
  /** The name that the client asked for. */
  model: string;
  promptTokens: number;
  /** Thinking is left out; its signature brings it back. */
  omitThinking: boolean;
  /** The context ends before the tokens that were asked for. */
  cutByContext: boolean;
}

type Open =
  | { kind: 'text'; text: string }
  | { kind: 'thinking'; text: string }
  | { kind: 'tool_use'; index: number; id: string; name: string; json: string };

/** `msg_…`. */
export function newMessageId(): string {
  return `msg_${randomBytes(16).toString('hex')}`;
}

/**
 * Makes a message and the events of its stream from the deltas of a choice. What the events bring adds up to the message.
 */
export class MessageBuilder {
  readonly #options: MessageOptions;
  readonly #content: AnthropicBlock[] = [];
  #events: MessageEvent[] = [];
  #begun = false;
  #open: Open | null = null;
  #calls = -1;
  /** Space before a text, which is none while nothing follows it. */
  #space = '';
  #finish: FinishName = 'stop';
  #stopReason: string | number | null = null;

  constructor(options: MessageOptions) {
    this.#options = options;
  }

  get begun(): boolean {
    return this.#begun;
  }

  /** The first events. @param counts with what was found cached. */
  begin(counts: ChoiceCounts): MessageEvent[] {
    if (this.#begun) return [];
    this.#begun = true;
    const message = this.#message({ ...counts, completionTokens: 0, reasoningTokens: 0 }, null, null);
    return [{ type: 'message_start', message }, { type: 'ping' }];
  }

  /** Adds a delta. Throws `integrity` for a piece of a call that is over. */
  add({ parts, finish, stopReason }: Pick<ChoiceDelta, 'parts' | 'finish' | 'stopReason'>): MessageEvent[] {
    for (const part of parts) {
      if (part.kind === 'reasoning') this.#addThinking(part.text);
      else if (part.kind === 'content') this.#addText(part.text);
      else this.#addCall(part.call);
    }
    this.#finish = finish ?? this.#finish;
    this.#stopReason = stopReason ?? this.#stopReason;
    return this.#take();
  }

  /** The last events. */
  end(counts: ChoiceCounts): MessageEvent[] {
    this.#close();
    const { usage, stop_reason, stop_sequence } = this.whole(counts);
    const { input_tokens, cache_creation_input_tokens, cache_read_input_tokens, output_tokens } = usage;
    const { output_tokens_details, server_tool_use } = usage;
    this.#events.push({
      type: 'message_delta',
      delta: { stop_reason, stop_sequence, stop_details: null, container: null },
      usage: {
        input_tokens,
        cache_creation_input_tokens,
        cache_read_input_tokens,
        output_tokens,
        output_tokens_details,
        server_tool_use,
      },
    });
    this.#events.push({ type: 'message_stop' });
    return this.#take();
  }

  /** The message, when all is added. */
  whole(counts: ChoiceCounts): AnthropicMessage {
    this.#close();
    const sequence = this.#finish === 'stop' && typeof this.#stopReason === 'string' ? this.#stopReason : null;
    return this.#message(counts, this.#reason(sequence), sequence);
  }

  #reason(sequence: string | null): StopReason {
    if (this.#finish === 'length') return this.#options.cutByContext ? 'model_context_window_exceeded' : 'max_tokens';
    if (this.#finish === 'tool_calls') return 'tool_use';
    return sequence === null ? 'end_turn' : 'stop_sequence';
  }

  #message(counts: ChoiceCounts, reason: StopReason | null, sequence: string | null): AnthropicMessage {
    return {
      id: this.#options.id,
      type: 'message',
      role: 'assistant',
      model: this.#options.model,
      content: structuredClone(this.#content),
      stop_reason: reason,
      stop_sequence: sequence,
      stop_details: null,
      container: null,
      diagnostics: null,
      usage: messageUsage(this.#options.promptTokens, counts),
    };
  }

  #addThinking(text: string): void {
    if (this.#open?.kind !== 'thinking') {
      this.#start({ kind: 'thinking', text: '' }, { type: 'thinking', thinking: '', signature: '' });
    }
    if (this.#open?.kind === 'thinking') this.#open.text += text;
    if (!this.#options.omitThinking) this.#delta({ type: 'thinking_delta', thinking: text });
  }

  #addText(text: string): void {
    if (this.#open?.kind !== 'text') {
      if (text.trim() === '') {
        this.#space += text;
        return;
      }
      const space = this.#space;
      this.#start({ kind: 'text', text: '' }, { type: 'text', text: '', citations: null });
      text = space + text;
    }
    if (this.#open?.kind === 'text') this.#open.text += text;
    this.#delta({ type: 'text_delta', text });
  }

  #addCall({ index, id, name, arguments: json }: ToolCallDelta): void {
    if (this.#open?.kind !== 'tool_use' || this.#open.index !== index) {
      if (index <= this.#calls || id === undefined)
        throw fail('integrity', `a piece of call ${index}, which is not open`);
      this.#calls = index;
      const open: Open = { kind: 'tool_use', index, id: toolUseId(id), name: name ?? '', json: '' };
      const caller = { type: 'direct' as const };
      this.#start(open, { type: 'tool_use', id: open.id, name: open.name, input: {}, caller });
    }
    if (this.#open?.kind === 'tool_use') this.#open.json += json;
    if (json !== '') this.#delta({ type: 'input_json_delta', partial_json: json });
  }

  get #index(): number {
    return this.#content.length;
  }

  #start(open: Open, block: AnthropicBlock): void {
    this.#close();
    this.#open = open;
    this.#space = '';
    this.#events.push({ type: 'content_block_start', index: this.#index, content_block: block });
  }

  #delta(delta: object): void {
    this.#events.push({ type: 'content_block_delta', index: this.#index, delta });
  }

  #close(): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    const index = this.#index;
    if (open.kind === 'thinking') {
      const signature = this.#options.omitThinking ? sealText(open.text) : textDigest(open.text);
      this.#delta({ type: 'signature_delta', signature });
      this.#content.push({ type: 'thinking', thinking: this.#options.omitThinking ? '' : open.text, signature });
    } else if (open.kind === 'text') this.#content.push({ type: 'text', text: open.text, citations: null });
    else {
      const { id, name, json } = open;
      this.#content.push({ type: 'tool_use', id, name, input: inputOf(json), caller: { type: 'direct' } });
    }
    this.#events.push({ type: 'content_block_stop', index });
  }

  #take(): MessageEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }
}

/** Ids of uses begin as Anthropic's do. */
function toolUseId(callId: string): string {
  return callId.startsWith('call_') ? `toolu_${callId.slice('call_'.length)}` : callId;
}

/** Arguments as an object; what was cut off in the middle is none. */
function inputOf(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}

/** Counts as Anthropic shows them: tokens that came from the cache are apart from those that were computed. */
export function messageUsage(promptTokens: number, counts: ChoiceCounts): AnthropicUsage {
  const usage = usageOf([promptTokens], [counts]);
  const { cached_tokens: cached } = usage.prompt_tokens_details;
  return {
    input_tokens: usage.prompt_tokens - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { thinking_tokens: usage.completion_tokens_details.reasoning_tokens },
    server_tool_use: null,
    service_tier: 'standard',
    inference_geo: null,
    speed: null,
  };
}
