import { fail, type ResponseStore } from '@guildhall/common';
import type { InputItem, ItemReference, MessageItem, OutputItem } from '../schema/response-items.ts';
import type { ResponseRequest } from '../schema/responses.ts';
import { type ItemPrefix, itemIdOf, responseOfItem } from './ids.ts';

/** An item of a conversation, as it was sent or given. */
export type ConversationItem = InputItem | OutputItem;

/** Where an item stands in the request, for errors; null for one of an earlier response. */
export type ItemPlace = string | null;

export interface PlacedItem {
  item: ConversationItem;
  place: ItemPlace;
}

const PREFIXES: Record<InputItem['type'], ItemPrefix> = {
  message: 'msg',
  function_call: 'fc',
  function_call_output: 'fco',
  reasoning: 'rs',
};

/** The input of a request as items. */
export function itemsOf(input: ResponseRequest['input']): (InputItem | ItemReference)[] {
  // Items of other kinds have been refused with the request.
  if (typeof input !== 'string') return input as (InputItem | ItemReference)[];
  return [{ type: 'message', role: 'user', content: input }];
}

/** The items before a request's own. Throws `previous_response_not_found`, and `invalid_value` for one that is not over. */
export async function historyOf(
  store: ResponseStore,
  tenant: string,
  previousId: string | null,
  ttlMs: number,
): Promise<ConversationItem[]> {
  if (previousId === null) return [];
  const chain = await store.chain(tenant, previousId, ttlMs);
  if (chain.fault === null) return chain.items.flatMap((items) => JSON.parse(items) as ConversationItem[]);
  const field = 'previous_response_id';
  const { fault, id } = chain;
  if (fault === 'missing') {
    const why = id === previousId ? '' : `, which ${previousId} goes on from`;
    throw fail('previous_response_not_found', `${field}: there is no response ${id}${why}`, { field });
  }
  if (fault === 'running') throw fail('invalid_value', `${field}: response ${id} is not over yet`, { field });
  throw fail('invalid_value', `${field}: the conversation is too long; send its last items as input`, { field });
}

/** References to stored items replaced by the items. Throws `invalid_value` for one that is not there. */
export async function resolved(
  store: ResponseStore,
  tenant: string,
  items: readonly (InputItem | ItemReference)[],
): Promise<PlacedItem[]> {
  const stored = new Map<string, Promise<ConversationItem[]>>();
  const itemsIn = async (responseId: string): Promise<ConversationItem[]> => {
    const found = await store.get(tenant, responseId);
    if (found === null) return [];
    return [found.input, found.output].flatMap((text) => JSON.parse(text) as ConversationItem[]);
  };
  const resolve = async (item: InputItem | ItemReference, index: number): Promise<PlacedItem> => {
    const place = `input[${index}]`;
    if (item.type !== 'item_reference') return { item, place };
    const responseId = responseOfItem(item.id);
    if (responseId !== null && !stored.has(responseId)) stored.set(responseId, itemsIn(responseId));
    const there = responseId === null ? [] : await stored.get(responseId);
    const found = there?.find(({ id }) => id === item.id);
    if (found !== undefined) return { item: found, place };
    throw fail('invalid_value', `${place}.id: there is no stored item with this id`, { field: `${place}.id` });
  };
  return await Promise.all(items.map(resolve));
}

/** Text of a message or of a function's output. */
export function textOf(content: MessageItem['content'] | OutputContent): string {
  if (typeof content === 'string') return content;
  return content
    .map((part) => ('text' in part ? String(part.text) : 'refusal' in part ? String(part.refusal) : ''))
    .join('');
}

type OutputContent = Extract<OutputItem, { type: 'message' }>['content'];

function partsOf(content: MessageItem['content'] | OutputContent, type: 'input_text' | 'output_text'): object[] {
  if (typeof content === 'string')
    return [{ type, text: content, ...(type === 'output_text' ? { annotations: [] } : {}) }];
  return content;
}

/** Items as they are kept, each with an id of its response. */
export function storedItems(responseId: string, items: readonly ConversationItem[]): (object & { id: string })[] {
  return items.map((item, index) => {
    const id = itemIdOf(PREFIXES[item.type], responseId, 'input', index);
    if (item.type === 'reasoning') return { ...item, id };
    if (item.type !== 'message') return { ...item, id, status: 'completed' };
    const part = item.role === 'assistant' ? 'output_text' : 'input_text';
    return { ...item, id, status: 'completed', content: partsOf(item.content, part) };
  });
}
