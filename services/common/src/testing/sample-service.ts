// A process for lifecycle.test.ts: what it does is chosen by its first argument.
import { systemClock } from '../clock.ts';
import { fail } from '../errors.ts';
import { runService, SHUTDOWN_LIMIT_MS } from '../lifecycle.ts';

const keepAlive = setInterval(() => undefined, 1000);

await runService('sample', async (ctx) => {
  const [mode] = ctx.argv;
  ctx.onShutdown(() => {
    process.stdout.write('first hook added, last run\n');
    clearInterval(keepAlive);
  });
  const limitMs = mode === 'slow' ? SHUTDOWN_LIMIT_MS * 10 : undefined;
  ctx.onShutdown(async () => {
    if (mode === 'hang') await systemClock.sleep(3_600_000);
    if (mode === 'bad-hook') throw fail('internal', 'the hook failed');
    if (mode === 'slow') await systemClock.sleep(SHUTDOWN_LIMIT_MS + 500);
    process.stdout.write('last hook added, first run\n');
  }, limitMs);
  if (mode === 'config-error') throw fail('config_invalid', '--model is required', { field: 'model' });
  if (mode === 'fatal') systemClock.setTimer(10, () => ctx.fatal(fail('id_in_use', 'taken', { field: 'id' })));
  if (mode === 'reject') void Promise.reject(new RangeError('nobody waits'));
  return { address: '127.0.0.1:1', admin: null, extra: { aborted: ctx.signal.aborted } };
});
