import type { Socket } from 'node:net';
import { fail, type GuildhallError, toGuildhallError } from '@guildhall/common';
import type { FastifyReply } from 'fastify';
import { type Caller, callerOf, checkModel } from './caller.ts';
import type { GatewayContext } from './context.ts';
import type { Admission } from './limits/admission.ts';
import { askedPriority } from './limits/priority.ts';

/** What one completion request runs under. */
export interface RequestScope {
  /** Aborts when the client goes away, the time is up or the gateway shuts down. */
  signal: AbortSignal;
  /** Monotonic times. */
  arrivedAtMs: number;
  deadlineAtMs: number | null;
  /** Its account: quotas and usage. */
  admission: Admission;
}

/** Who a piece of work is for, and how long anybody waits for it. */
export interface WorkRequest {
  caller: Caller;
  /** Name that the client asked for. */
  modelName: string;
  /** Smaller goes first where places are scarce. */
  priority: number;
  /** Aborted when nobody waits any more; the gateway aborts it at shutdown. */
  controller: AbortController;
  /** What the answer goes to; work in the background has none. */
  connection: Socket | null;
  /** Called whenever more is known of the caller's quotas. */
  onQuota: (headers: Record<string, string>) => void;
}

/** Runs a completion within the limit of requests in flight, and cancels it when nobody waits for it any more. */
export async function withRequestScope<T>(
  context: GatewayContext,
  reply: FastifyReply,
  modelName: string,
  run: (scope: RequestScope) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const onClose = (): void => {
    if (!reply.raw.writableFinished) controller.abort(fail('cancelled', 'the client closed the connection'));
  };
  reply.raw.once('close', onClose);
  if (reply.raw.closed) onClose();
  const caller = callerOf(reply.request);
  const priority = askedPriority(context, caller, reply.request.body);
  const connection = reply.request.raw.socket;
  const onQuota = (headers: Record<string, string>): void => void reply.headers(headers);
  try {
    return await withWorkScope(context, { caller, modelName, priority, controller, connection, onQuota }, run);
  } finally {
    reply.raw.off('close', onClose);
  }
}

/**
 * Runs work for a caller, whether or not a connection waits for it: takes it from the caller's quotas, waits for a place, and ends it
 * when its time is up. Throws `forbidden`, `rate_limited`, `queue_full`, `overloaded`, `not_ready` before it has begun.
 */
export async function withWorkScope<T>(
  context: GatewayContext,
  work: WorkRequest,
  run: (scope: RequestScope) => Promise<T>,
): Promise<T> {
  const { clock, config, inFlight, metrics, limits } = context;
  const { caller, controller, connection, modelName, priority, onQuota } = work;
  checkModel(caller, modelName);
  const arrivedAtMs = clock.monotonicMs();
  const timeoutMs = config.requestTimeoutMs;
  const onTime = (): void =>
    controller.abort(fail('deadline_exceeded', `the request took longer than ${timeoutMs} ms`));
  const timer = timeoutMs === 0 ? null : clock.setTimer(timeoutMs, onTime);
  const deadlineAtMs = timer === null ? null : arrivedAtMs + timeoutMs;
  const admission = limits.admission(caller);
  let error: GuildhallError | null = null;
  try {
    await admission.enter().finally(() => onQuota(admission.headers));
    await inFlight.enter({ controller, connection, tenant: caller.tenant, priority });
    metrics.gauge('guildhall_http_in_flight', inFlight.size);
    return await run({ signal: controller.signal, arrivedAtMs, deadlineAtMs, admission });
  } catch (err) {
    error = toGuildhallError(err);
    throw err;
  } finally {
    timer?.cancel();
    onQuota(admission.headers);
    inFlight.leave(controller);
    void admission.close(error);
    metrics.gauge('guildhall_http_in_flight', inFlight.size);
    metrics.observe('vllm:e2e_request_latency_seconds', (clock.monotonicMs() - arrivedAtMs) / 1000, {
      model_name: context.models.labelOf(modelName),
    });
  }
}
