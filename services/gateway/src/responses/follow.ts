import { fail, type StoredResponse } from '@guildhall/common';
import type { GatewayContext } from '../context.ts';
import type { OutputItem } from '../schema/response-items.ts';
import type { ResponseObject } from '../schema/responses.ts';
import { ResponseBuilder, type ResponseEnd, type ResponseEvent } from './builder.ts';
import { addEntries, readLog } from './log.ts';
import { emptyPiece, type Piece } from './piece.ts';
import { builderOf, fromStored, isOver } from './stored.ts';

/** How often a follower looks for more. */
const LOOK_MS = 100;

/** Takes events; it is awaited before there are more. */
export type TakeEvents = (events: ResponseEvent[]) => Promise<void>;

/** How a response that is over ended. */
function endOf({ status, completed_at: atS, usage, error }: ResponseObject): ResponseEnd {
  return { status: status as ResponseEnd['status'], atS: atS ?? 0, usage, error };
}

/** Items of a response as the pieces that would give them. */
function piecesOf(items: readonly OutputItem[]): Piece[] {
  let calls = 0;
  return items.map((item) => {
    if (item.type === 'reasoning')
      return { ...emptyPiece(), reasoning: item.summary[0]?.text ?? item.content?.[0]?.text ?? '' };
    if (item.type === 'message')
      return { ...emptyPiece(), content: item.content[0]?.text ?? '', logprobs: item.content[0]?.logprobs ?? [] };
    const { call_id: id, name, arguments: args } = item;
    return { ...emptyPiece(), toolCalls: [{ index: calls++, id, name, arguments: args }] };
  });
}

/** Tells the events of a stored response that did not run in the background: the same items, in larger pieces. */
export async function retell(stored: StoredResponse, take: TakeEvents): Promise<void> {
  const response = fromStored(stored);
  const builder = new ResponseBuilder(builderOf(stored));
  await take(builder.begin());
  for (const piece of piecesOf(response.output)) await take(builder.add(piece));
  await take(builder.end(endOf(response)));
}

/** Tells the events of a background response from the first one on, and goes on as they come until the last one. */
export async function follow(
  { responses, clock }: GatewayContext,
  stored: StoredResponse,
  take: TakeEvents,
  signal: AbortSignal,
): Promise<void> {
  const builder = new ResponseBuilder(builderOf(stored));
  await take(builder.begin());
  for (let seen = 0; ;) {
    // Asked for before the log is read: what it was when it ended is in the log by then.
    const status = await responses.status(stored.id);
    const entries = await readLog(responses, stored.id, seen);
    seen += entries.length;
    const events = addEntries(builder, entries);
    if (events.length > 0) await take(events);
    if (status === null) throw fail('not_found', 'the response was removed');
    if (isOver(status)) break;
    await clock.sleep(LOOK_MS, signal);
  }
  const over = await responses.get(stored.tenant, stored.id);
  if (over === null) throw fail('not_found', 'the response was removed');
  await take(builder.end(endOf(fromStored(over))));
}

/** A background response as far as it is, for whoever asks before it is over. */
export async function soFar({ responses }: GatewayContext, stored: StoredResponse): Promise<ResponseBuilder> {
  const builder = new ResponseBuilder(builderOf(stored));
  if (stored.status !== 'queued') builder.begin();
  addEntries(builder, await readLog(responses, stored.id, 0));
  return builder;
}
