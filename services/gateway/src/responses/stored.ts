import { fail, type ResponseLimits, type StoredResponse } from '@guildhall/common';
import type { GatewayContext } from '../context.ts';
import type { OutputItem } from '../schema/response-items.ts';
import { isResponseId, type ResponseObject } from '../schema/responses.ts';
import type { BuilderOptions } from './builder.ts';
import { ttlOf } from './prepare.ts';

const OVER: ReadonlySet<string> = new Set(['completed', 'failed', 'cancelled', 'incomplete']);

/** Whether a status is one that does not change any more. */
export function isOver(status: string): boolean {
  return OVER.has(status);
}

/** What is kept of a response beside its items. */
interface StoredHead {
  response: Omit<ResponseObject, 'output'>;
  summary: boolean;
  seal: boolean;
}

/** A response as it is kept. */
export function toStored(
  tenant: string,
  response: ResponseObject,
  { summary, seal }: BuilderOptions,
  input: string,
  job = '',
): StoredResponse {
  const { output, ...rest } = response;
  const head: StoredHead = { response: rest, summary, seal };
  return {
    id: response.id,
    tenant,
    status: response.status,
    previous: response.previous_response_id ?? '',
    head: JSON.stringify(head),
    input,
    output: JSON.stringify(output),
    job,
    deaths: 0,
  };
}

/** A response as it was when it was kept last. */
export function fromStored(stored: StoredResponse): ResponseObject {
  const { response } = JSON.parse(stored.head) as StoredHead;
  return { ...response, output: JSON.parse(stored.output) as OutputItem[] };
}

/** What a builder of the same response begins with. */
export function builderOf(stored: StoredResponse): BuilderOptions {
  const { response, summary, seal } = JSON.parse(stored.head) as StoredHead;
  const status = response.background ? 'queued' : 'in_progress';
  const fresh = { usage: null, error: null, completed_at: null, incomplete_details: null };
  return { head: { ...response, ...fresh, status, output: [] }, summary, seal };
}

/** A tenant's response. Throws `not_found`, also for another tenant's. */
export async function storedOf(context: GatewayContext, tenant: string, id: string): Promise<StoredResponse> {
  const found = isResponseId(id) ? await context.responses.get(tenant, id) : null;
  if (found !== null) return found;
  throw fail('not_found', `there is no response ${id}; it may have been removed, or not kept`, {
    field: 'response_id',
  });
}

export function limitsOf(context: GatewayContext): ResponseLimits {
  const { responseTenantMib, maxBackgroundResponses } = context.config;
  return { ttlMs: ttlOf(context), tenantBytes: responseTenantMib * 1024 * 1024, maxBackground: maxBackgroundResponses };
}

/**
 * Keeps a response that is over, for whoever asks for it or goes on from it. An answer does not depend on it: false when
 * Redis does not take it.
 */
export async function keep(
  context: GatewayContext,
  tenant: string,
  response: ResponseObject,
  builder: BuilderOptions,
  input: string,
): Promise<boolean> {
  const { responses, logger, metrics } = context;
  try {
    await responses.put(toStored(tenant, response, builder, input), limitsOf(context));
    metrics.count('guildhall_responses_stored_total', { outcome: 'stored' });
    return true;
  } catch (err) {
    logger.warn({ response: response.id, err }, 'a response could not be kept');
    metrics.count('guildhall_responses_stored_total', { outcome: 'failed' });
    return false;
  }
}
