import { fail } from '@guildhall/common';
import type { GatewayContext } from '../context.ts';
import type { ResponseObject } from '../schema/responses.ts';
import { soFar } from './follow.ts';
import { builderOf, fromStored, isOver, storedOf, toStored } from './stored.ts';

/** A stored response; a background one that is not over, as far as it is. Throws `not_found`. */
export async function retrieve(context: GatewayContext, tenant: string, id: string): Promise<ResponseObject> {
  const stored = await storedOf(context, tenant, id);
  return isOver(stored.status) ? fromStored(stored) : (await soFar(context, stored)).snapshot();
}

/**
 * Cancels a background response; one that is over stays as it is. Throws `not_found`, and `invalid_value` for one that does not
 * run in the background.
 */
export async function cancel(context: GatewayContext, tenant: string, id: string): Promise<ResponseObject> {
  const stored = await storedOf(context, tenant, id);
  const before = fromStored(stored);
  if (!before.background)
    throw fail('invalid_value', 'only background responses can be cancelled; close the connection of others', {
      field: 'response_id',
    });
  if (isOver(stored.status)) return before;
  const builder = await soFar(context, stored);
  builder.end({ status: 'cancelled', atS: 0, usage: null, error: null });
  const over = toStored(tenant, builder.snapshot(), builderOf(stored), stored.input);
  const done = await context.responses.finish(over, '');
  context.background.drop(id);
  return done ? builder.snapshot() : await retrieve(context, tenant, id);
}

/** Removes a response; one that runs is not generated any more. Throws `not_found`. */
export async function remove(context: GatewayContext, tenant: string, id: string): Promise<void> {
  await storedOf(context, tenant, id);
  await context.responses.delete(tenant, id);
  context.background.drop(id);
}

/** A page of a response's input items. Throws `not_found`, and `invalid_value` for an `after` that is not one of them. */
export async function inputItems(
  context: GatewayContext,
  tenant: string,
  id: string,
  query: { after?: string | undefined; limit: number; order: 'asc' | 'desc' },
) {
  const stored = await storedOf(context, tenant, id);
  const all = JSON.parse(stored.input) as { id: string; type: string }[];
  const ordered = query.order === 'asc' ? all : all.toReversed();
  const at = query.after === undefined ? -1 : ordered.findIndex((item) => item.id === query.after);
  if (query.after !== undefined && at < 0)
    throw fail('invalid_value', 'after: the response has no such item', { field: 'after' });
  const data = ordered.slice(at + 1, at + 1 + query.limit);
  return {
    object: 'list' as const,
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: at + 1 + data.length < ordered.length,
  };
}
