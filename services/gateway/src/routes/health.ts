import type { Readiness } from '@guildhall/common';
import type { GatewayContext } from '../context.ts';
import { healthResponse, readyResponse } from '../schema/error.ts';
import type { GatewayApp } from './types.ts';

/**
 * Whether completions can be served now. A gateway whose Redis is away serves with the routers it knew last. One that holds requests
 * is ready without a router: nobody would send it what is to wake the model up otherwise.
 */
export function readiness(context: Pick<GatewayContext, 'pool' | 'inFlight' | 'hold'>): Readiness {
  const routers = context.pool.usable.length;
  const reason = context.inFlight.draining
    ? 'shutting down'
    : routers === 0 && !context.hold.enabled
      ? 'no router is ready'
      : null;
  return { ready: reason === null, reason, details: { routers, redis: context.pool.stale ? 'lost' : 'connected' } };
}

/** GET /health (the process is alive) and GET /ready (it can serve); open without a key. */
export function healthRoute(app: GatewayApp, context: GatewayContext): void {
  app.get('/health', { schema: { summary: 'Alive', response: { 200: healthResponse } } }, () => ({ status: 'alive' }));
  app.get(
    '/ready',
    { schema: { summary: 'Able to serve', response: { 200: readyResponse, 503: readyResponse } } },
    async (_request, reply) => {
      const state = readiness(context);
      const redis = context.pool.stale ? ('lost' as const) : ('connected' as const);
      const body = { ready: state.ready, reason: state.reason, routers: context.pool.usable.length, redis };
      return reply.code(state.ready ? 200 : 503).send(body);
    },
  );
}
