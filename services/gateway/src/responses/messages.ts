import { fail, type GuildhallError } from '@guildhall/common';
import type { z } from 'zod';
import type { message } from '../schema/messages.ts';
import { unsealText } from '../sealed-text.ts';
import { type ItemPlace, type PlacedItem, textOf } from './items.ts';

type ChatMessage = z.input<typeof message>;
type Of<T extends PlacedItem['item']['type']> = Extract<PlacedItem['item'], { type: T }>;

interface AssistantTurn {
  reasoning: string;
  content: string;
  calls: { id: string; type: 'function'; function: { name: string; arguments: string } }[];
}

/**
 * Items as chat messages. What the assistant says between two turns of others is one message, as the template has it.
 * System and developer messages come first, as one: the template allows a system message nowhere else.
 */
export class MessageList {
  readonly #system: string[] = [];
  readonly #messages: ChatMessage[] = [];
  /** Calls by id, and whether they were answered. */
  readonly #calls = new Map<string, boolean>();
  #turn: AssistantTurn | null = null;

  constructor(instructions: string | null) {
    if (instructions !== null && instructions !== '') this.#system.push(instructions);
  }

  /** Adds an item. Throws `invalid_value` for an answer to no call, and for a turn that leaves calls unanswered. */
  add({ item, place }: PlacedItem): void {
    if (item.type === 'reasoning') this.#addReasoning(item, place);
    else if (item.type === 'function_call') this.#addCall(item, place);
    else if (item.type === 'function_call_output') this.#addOutput(item, place);
    else if (item.role === 'assistant') this.#addText(textOf(item.content));
    else if (item.role === 'user') this.#addUser(textOf(item.content), place);
    else this.#system.push(textOf(item.content));
  }

  /** All messages. Throws `invalid_value` when a call is unanswered. */
  messages(): ChatMessage[] {
    this.#checkAnswered('input');
    this.#endTurn();
    const system: ChatMessage[] =
      this.#system.length === 0 ? [] : [{ role: 'system', content: this.#system.join('\n\n') }];
    return [...system, ...this.#messages];
  }

  #addReasoning(item: Of<'reasoning'>, place: ItemPlace): void {
    const { content, summary, encrypted_content: sealed } = item;
    const parts = (content ?? []).length > 0 ? content : summary;
    let text = (parts ?? []).map((part) => part.text).join('\n\n');
    if (text === '' && sealed !== null && sealed !== undefined)
      text = unsealText(sealed, `${place ?? 'input'}.encrypted_content`);
    const turn = this.#turnWith(({ content: said, calls }) => said === '' && calls.length === 0);
    turn.reasoning += turn.reasoning === '' ? text : `\n\n${text}`;
  }

  #addText(text: string): void {
    const turn = this.#turnWith(({ calls }) => calls.length === 0);
    turn.content += turn.content === '' ? text : `\n\n${text}`;
  }

  #addCall({ call_id: id, name, arguments: args }: Of<'function_call'>, place: ItemPlace): void {
    if (this.#calls.has(id)) throw wrong(place, 'call_id', 'another call has the same call_id');
    this.#calls.set(id, false);
    this.#turnWith(() => true).calls.push({ id, type: 'function', function: { name, arguments: args } });
  }

  #addOutput({ call_id: id, output }: Of<'function_call_output'>, place: ItemPlace): void {
    const answered = this.#calls.get(id);
    if (answered === undefined) throw wrong(place, 'call_id', 'there is no function_call with this call_id before it');
    if (answered) throw wrong(place, 'call_id', 'the call with this call_id was answered before');
    this.#calls.set(id, true);
    this.#endTurn();
    this.#messages.push({ role: 'tool', tool_call_id: id, content: textOf(output) });
  }

  #addUser(text: string, place: ItemPlace): void {
    this.#checkAnswered(place ?? 'input');
    this.#endTurn();
    this.#messages.push({ role: 'user', content: text });
  }

  #checkAnswered(field: string): void {
    const open = [...this.#calls].find(([, answered]) => !answered);
    if (open === undefined) return;
    throw fail('invalid_value', `${field}: there is no function_call_output for the call ${open[0]}`, { field });
  }

  /** The assistant's turn, a new one where there is none or it does not take more. */
  #turnWith(takes: (turn: AssistantTurn) => boolean): AssistantTurn {
    if (this.#turn === null || !takes(this.#turn)) {
      this.#endTurn();
      this.#turn = { reasoning: '', content: '', calls: [] };
    }
    return this.#turn;
  }

  #endTurn(): void {
    const turn = this.#turn;
    this.#turn = null;
    // Thinking that came to nothing is not worth a turn.
    if (turn === null || (turn.content === '' && turn.calls.length === 0)) return;
    this.#messages.push({
      role: 'assistant',
      content: turn.content,
      ...(turn.reasoning === '' ? {} : { reasoning_content: turn.reasoning }),
      ...(turn.calls.length === 0 ? {} : { tool_calls: turn.calls }),
    });
  }
}

function wrong(place: ItemPlace, name: string, message: string): GuildhallError {
  const field = place === null ? 'input' : `${place}.${name}`;
  return fail('invalid_value', `${field}: ${message}`, { field });
}
