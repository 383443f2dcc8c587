import type { GatewayContext } from '../context.ts';
import type { GatewayApp } from './types.ts';

/** GET /metrics, as Prometheus reads it; needs a key where keys are configured (the admin address does not). */
export function metricsRoute(app: GatewayApp, context: GatewayContext): void {
  app.get(
    '/metrics',
    { schema: { summary: 'Metrics in Prometheus text format', produces: ['text/plain'] } },
    async (_request, reply) => {
      context.metrics.gauge('guildhall_routers', context.pool.usable.length);
      const { contentType, body } = await context.metrics.render();
      return reply.type(contentType).send(body);
    },
  );
}
