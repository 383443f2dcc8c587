import { createMetrics, createLogger, systemClock } from '@guildhall/common';
import { buildApp } from './app.ts';
import { gatewaySchema } from './config.ts';
import type { GatewayContext } from './context.ts';
import { InFlight } from './in-flight.ts';

/** The OpenAPI document as docs/openapi.json holds it. No handler runs for it, so no model or router is needed. */
export async function openapiDocument(): Promise<string> {
  const logger = createLogger({ service: 'gateway', id: null, level: 'silent' });
  const config = gatewaySchema.parse({ model: '.' });
  const metrics = createMetrics('gateway');
  const context: Partial<GatewayContext> = {
    config,
    inFlight: new InFlight({ ...config, clock: systemClock, metrics }),
    metrics,
    clock: systemClock,
    logger,
  };
  const app = await buildApp(context as GatewayContext);
  await app.ready();
  const document = JSON.stringify(app.swagger(), null, 2);
  await app.close();
  return `${document}\n`;
}
