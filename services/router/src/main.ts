import { runService, SHUTDOWN_LIMIT_MS, systemClock } from '@guildhall/common';
import { startRouter } from './app.ts';
import { loadRouterConfig } from './config.ts';

await runService('router', async (ctx) => {
  const config = loadRouterConfig(ctx.argv, ctx.env);
  const { logger, signal } = ctx;
  const app = await startRouter(config, { logger, signal, clock: systemClock, onFatal: ctx.fatal });
  ctx.onShutdown(() => app.stop(), config.drainMs + SHUTDOWN_LIMIT_MS);
  return { address: app.address, admin: app.admin, extra: { id: app.id } };
});
