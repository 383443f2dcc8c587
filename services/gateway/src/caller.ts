import { fail, type Quota } from '@guildhall/common';
import type { FastifyRequest } from 'fastify';

/** Who sent a request. */
export interface Caller {
  /** Whom it is for, '' where no key is required. */
  tenant: string;
  /** It comes from the batch service and gives way to others. */
  background: boolean;
  /** Name of the key, which does not give it away: '' without a key, `batch` for the batch service. */
  keyId: string;
  /** Of requests that ask for none; smaller is more urgent, as in the API. */
  priority: number;
  /** The most urgent one that a request may ask for; null where the gateway's own rule decides. */
  priorityCap: number | null;
  /** Names of models that it may ask for; null for all. */
  models: readonly string[] | null;
  /** What the key may use. */
  quota: Quota;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Who sent it; null on routes that are open to everybody. */
    caller: Caller | null;
  }
}

/** Header by which a process of the cluster says on whose behalf it asks. */
export const TENANT_HEADER = 'x-guildhall-tenant';

const NO_QUOTA: Quota = { requestsPerMinute: null, tokensPerMinute: null, concurrency: null };

/** A caller without limits of its own. */
export function plainCaller(tenant: string, keyId: string, background = false): Caller {
  return { tenant, background, keyId, priority: 0, priorityCap: null, models: null, quota: NO_QUOTA };
}

/** The caller of a request, who was checked before its body was read. */
export function callerOf(request: Pick<FastifyRequest, 'caller'>): Caller {
  if (request.caller === null) throw fail('internal', 'the caller of this request was not checked');
  return request.caller;
}

/** Throws `forbidden` where the caller's key is not for this model. */
export function checkModel({ models }: Caller, model: string): void {
  if (models === null || models.includes(model)) return;
  throw fail('forbidden', `model: this key is for ${models.join(', ')} only`, { field: 'model' });
}
