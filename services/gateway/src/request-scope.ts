import { fail } from '@guildhall/common';
import type { FastifyReply } from 'fastify';
import type { GatewayContext } from './context.ts';

/** What one completion request runs under. */
export interface RequestScope {
  /** Aborts when the client goes away, the time is up or the gateway shuts down. */
  signal: AbortSignal;
  /** Monotonic times. */
  arrivedAtMs: number;
  deadlineAtMs: number | null;
}

/** Runs a completion within the limit of requests in flight, and cancels it when nobody waits for it any more. */
export async function withRequestScope<T>(
  context: GatewayContext,
  reply: FastifyReply,
  modelName: string,
  run: (scope: RequestScope) => Promise<T>,
): Promise<T> {
  const { clock, config, inFlight, metrics } = context;
  const controller = inFlight.enter(reply.request.raw.socket);
  metrics.gauge('guildhall_http_in_flight', inFlight.size);
  const arrivedAtMs = clock.monotonicMs();
  const timeoutMs = config.requestTimeoutMs;
  const timer =
    timeoutMs === 0
      ? null
      : clock.setTimer(timeoutMs, () =>
          controller.abort(fail('deadline_exceeded', `the request took longer than ${timeoutMs} ms`)),
        );
  const onClose = (): void => {
    if (!reply.raw.writableFinished) controller.abort(fail('cancelled', 'the client closed the connection'));
  };
  reply.raw.once('close', onClose);
  if (reply.raw.closed) onClose();
  try {
    return await run({
      signal: controller.signal,
      arrivedAtMs,
      deadlineAtMs: timer === null ? null : arrivedAtMs + timeoutMs,
    });
  } finally {
    reply.raw.off('close', onClose);
    timer?.cancel();
    inFlight.leave(controller);
    metrics.gauge('guildhall_http_in_flight', inFlight.size);
    metrics.observe('vllm:e2e_request_latency_seconds', (clock.monotonicMs() - arrivedAtMs) / 1000, {
      model_name: context.models.labelOf(modelName),
    });
  }
}
