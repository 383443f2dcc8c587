import { fail } from '@guildhall/common';
import type { Caller } from '../caller.ts';
import type { GatewayConfig } from '../config.ts';
import type { Limits } from './limits.ts';

interface PriorityContext {
  config: Pick<GatewayConfig, 'allowPriority'>;
  limits: { auth: Pick<Limits['auth'], 'required'> };
}

/**
 * Priority of a request in the API's sense, smaller first: what it asks for, else that of its key. Throws `unsupported` where callers
 * may not ask for one, and `invalid_value` beyond the cap of the key.
 */
export function priorityOf({ config, limits }: PriorityContext, caller: Caller, asked: number | null): number {
  const { priority, priorityCap } = caller;
  if (asked === null || asked === 0) return priority;
  if (priorityCap !== null) {
    if (asked >= priorityCap) return asked;
    const message = `priority: with this key it must be ${priorityCap} or larger`;
    throw fail('invalid_value', message, { field: 'priority' });
  }
  const allowed = config.allowPriority === 'auto' ? !limits.auth.required : config.allowPriority === 'on';
  if (allowed) return asked;
  const message = 'priority: this gateway serves all callers alike; it must be started with --allow-priority on';
  throw fail('unsupported', message, { field: 'priority' });
}

/** Batches go after everything that somebody waits for. */
const BACKGROUND = 1000;

/** The same, from a body that was checked, for the order in which requests wait. */
export function askedPriority(context: PriorityContext, caller: Caller, body: unknown): number {
  if (caller.background) return BACKGROUND;
  const given = typeof body === 'object' && body !== null && 'priority' in body ? body.priority : null;
  return priorityOf(context, caller, typeof given === 'number' ? given : null);
}
