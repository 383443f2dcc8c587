import { VERSION } from '@guildhall/common';
import { z } from 'zod';
import type { GatewayContext } from '../context.ts';
import { readiness } from './health.ts';
import type { GatewayApp } from './types.ts';

/**
 * GET /version, as vLLM has it, and GET and POST /ping, which SageMaker's and other load balancers ask without a key: 200
 * while completions can be served, else 503, and no body.
 */
export function versionRoute(app: GatewayApp, context: GatewayContext): void {
  app.get(
    '/version',
    { schema: { summary: 'Release of the server', response: { 200: z.object({ version: z.string() }) } } },
    () => ({ version: VERSION }),
  );
  for (const method of ['GET', 'POST'] as const) {
    app.route({
      method,
      url: '/ping',
      schema: { summary: 'Able to serve, in the status alone' },
      // Answered before a body is read, of whatever type it is.
      onRequest: async (_request, reply) => {
        return reply.code(readiness(context).ready ? 200 : 503).send();
      },
      handler: () => undefined,
    });
  }
}
