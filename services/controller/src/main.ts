import { loadConfig, runService, systemClock } from '@guildhall/common';
import { startController } from './app.ts';
import { controllerSchema } from './config.ts';

await runService('controller', async (ctx) => {
  const config = loadConfig(controllerSchema, { argv: ctx.argv, env: ctx.env, program: 'guildhall-controller' });
  const app = await startController(config, { logger: ctx.logger, clock: systemClock, onFatal: ctx.fatal });
  ctx.onShutdown(() => app.stop());
  return { address: null, admin: app.admin, extra: { id: app.id } };
});
