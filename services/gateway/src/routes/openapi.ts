import type { GatewayApp } from './types.ts';

/** GET /openapi.json, made from the zod schemas, and GET /, a note of where to go. */
export function openapiRoute(app: GatewayApp): void {
  app.get('/openapi.json', { schema: { summary: 'This document' } }, () => app.swagger());
  app.get('/', { schema: { summary: 'What this is' } }, () => ({
    name: 'Guildhall',
    api: '/v1',
    documentation: '/openapi.json',
    health: '/health',
    ready: '/ready',
  }));
}
