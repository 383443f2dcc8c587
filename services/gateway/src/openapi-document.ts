import { createMetrics, createLogger, systemClock } from '@guildhall/common';
import { buildApp } from './app.ts';
import { ApiKeys } from './auth.ts';
import { gatewaySchema } from './config.ts';
import type { GatewayContext } from './context.ts';
import { InFlight } from './in-flight.ts';

/** The OpenAPI document as docs/openapi.json holds it. No handler runs for it, so no model or router is needed. */
export async function openapiDocument(): Promise<string> {
  const logger = createLogger({ service: 'gateway', id: null, level: 'silent' });
  const context: Partial<GatewayContext> = {
    config: gatewaySchema.parse({ model: '.' }),
    keys: new ApiKeys([]),
    inFlight: new InFlight(1, systemClock),
    metrics: createMetrics('gateway'),
    clock: systemClock,
    logger,
  };
  const app = await buildApp(context as GatewayContext);
  await app.ready();
  const document = JSON.stringify(app.swagger(), null, 2);
  await app.close();
  return `${document}\n`;
}
