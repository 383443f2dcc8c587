import { loadConfig, runService, SHUTDOWN_LIMIT_MS, systemClock } from '@guildhall/common';
import { startExpert } from './app.ts';
import { expertSchema } from './config.ts';

await runService('expert', async (ctx) => {
  const config = loadConfig(expertSchema, { argv: ctx.argv, env: ctx.env, program: 'guildhall-expert' });
  const app = await startExpert(config, {
    logger: ctx.logger,
    clock: systemClock,
    onFatal: ctx.fatal,
    signal: ctx.signal,
  });
  ctx.onShutdown(() => app.stop(), config.drainMs + SHUTDOWN_LIMIT_MS);
  return { address: app.address, admin: app.admin, extra: { id: app.id } };
});
