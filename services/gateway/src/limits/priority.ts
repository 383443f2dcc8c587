import { fail } from '@guildhall/common';
import type { Caller } from '../caller.ts';
import type { GatewayContext } from '../context.ts';
import { mayHurry, SERVICE_TIERS, servedTier, tierPriority } from '../service-tier.ts';

type PriorityContext = Pick<GatewayContext, 'config' | 'limits'>;

/** Batches go after everything that somebody waits for. */
const BACKGROUND = 1000;
/** Ends of what the API takes. */
const MOST_URGENT = -100;
const LEAST_URGENT = 100;

/**
 * Priority of a request in the API's sense, smaller first: what its body asks for, else that of its key, moved by its tier. The body was
 * checked against its schema. Throws `unsupported` where callers may not ask for one, and `invalid_value` beyond the cap of the key.
 */
export function askedPriority(context: PriorityContext, caller: Caller, body: unknown): number {
  if (caller.background) return BACKGROUND;
  const { priority, service_tier: tier } = fieldsOf(body);
  if (typeof priority === 'number' && priority !== 0) return ownPriority(context, caller, priority);
  const known = SERVICE_TIERS.find((one) => one === tier) ?? null;
  const moved = caller.priority + tierPriority(servedTier(context, known));
  return Math.max(MOST_URGENT, Math.min(LEAST_URGENT, moved));
}

function fieldsOf(body: unknown): { priority?: unknown; service_tier?: unknown } {
  return typeof body === 'object' && body !== null ? body : {};
}

function ownPriority(context: PriorityContext, { priorityCap }: Caller, asked: number): number {
  if (priorityCap !== null) {
    if (asked >= priorityCap) return asked;
    const message = `priority: with this key it must be ${priorityCap} or larger`;
    throw fail('invalid_value', message, { field: 'priority' });
  }
  if (mayHurry(context)) return asked;
  const message = 'priority: this gateway serves all callers alike; it must be started with --allow-priority on';
  throw fail('unsupported', message, { field: 'priority' });
}
