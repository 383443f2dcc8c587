import { loadConfig, runService, SHUTDOWN_LIMIT_MS, systemClock } from '@guildhall/common';
import { startBatch } from './app.ts';
import { batchSchema } from './config.ts';

await runService('batch', async (ctx) => {
  const config = loadConfig(batchSchema, { argv: ctx.argv, env: ctx.env, program: 'guildhall-batch' });
  const app = await startBatch(config, { logger: ctx.logger, clock: systemClock, onFatal: ctx.fatal });
  ctx.onShutdown(() => app.stop(), config.drainMs + SHUTDOWN_LIMIT_MS);
  return { address: app.address, admin: app.admin, extra: { id: app.id } };
});
