import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { type Disturbed, quantile, streamDuring } from '../harness/rolling.ts';
import { ROOT, type ServiceProcess } from '../harness/service-process.ts';
import type { StreamedToken, StreamRequest } from '../harness/stream.ts';
import { until } from '../harness/wait.ts';

const REQUESTS: StreamRequest[] = Array.from({ length: 32 }, (_, index) => ({
  prompt: `Tell me about Guildhall, number ${index}.`,
  maxTokens: 60,
  seed: index,
}));

let cluster: Cluster;
let undisturbed: StreamedToken[][];
let calm: Disturbed;

before(async () => {
  cluster = await Cluster.start({ workers: 3, weights: 'bf16' });
  calm = await streamDuring(cluster, REQUESTS, async () => undefined);
  undisturbed = calm.rounds[0] ?? [];
});
after(async () => cluster?.stop());

/** Every stream gave what it gives undisturbed; the pauses are said, not judged. */
function same(t: TestContext, { rounds, gapsMs }: Disturbed): void {
  for (const round of rounds) assert.deepEqual(round, undisturbed);
  const p99 = (gaps: number[]): string => quantile(gaps, 0.99).toFixed(0);
  const longest = (gapsMs.at(-1) ?? 0).toFixed(0);
  t.diagnostic(
    `${rounds.length} rounds of ${REQUESTS.length} streams, p99 between tokens ${p99(gapsMs)} ms (undisturbed ${p99(calm.gapsMs)} ms), longest ${longest} ms`,
  );
}

async function guildhall(...args: string[]): Promise<string> {
  const main = join(ROOT, 'services', 'cli', 'src', 'main.ts');
  const child = spawn(process.execPath, [main, ...args, '--redis', cluster.redis.url, '--cluster', 'test'], {
    env: { ...process.env, NODE_NO_WARNINGS: '1', GUILDHALL_CLUSTER_TOKEN: cluster.token },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (data: Buffer) => (out += data.toString()));
  child.stderr.on('data', (data: Buffer) => (err += data.toString()));
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(code, 0, err);
  return out;
}

function held(worker: ServiceProcess): Promise<number> {
  return cluster.metric(worker, 'guildhall_experts_held');
}

async function holdsSomething(worker: ServiceProcess): Promise<void> {
  await worker.listening();
  await until('the worker to hold experts', async () => (await held(worker)) > 0, 120_000);
}

/** The epoch that router and worker have taken up is the one in force. */
async function settled(workers: readonly ServiceProcess[]): Promise<void> {
  const epoch = (process: ServiceProcess): Promise<number> => cluster.metric(process, 'guildhall_epoch');
  await until(
    'the newest epoch to be in use',
    async () => {
      const newest = await epoch(cluster.controller);
      const all = await Promise.all([cluster.router(1), ...workers].map(epoch));
      return all.every((one) => one === newest);
    },
    120_000,
  );
}

test('a worker is drained under 32 streams', async (t) => {
  const [, leaver] = cluster.experts as [ServiceProcess, ServiceProcess, ServiceProcess];
  const disturbed = await streamDuring(cluster, REQUESTS, async () => {
    const said = JSON.parse(await guildhall('drain', 'expert-2', '--json')) as { state: string };
    assert.equal(said.state, 'done');
    await until('it to hold nothing', async () => (await held(leaver)) === 0);
  });
  same(t, disturbed);
  assert.match(await guildhall('status'), /expert-2 +done/);
  leaver.kill('SIGTERM');
  assert.equal(await leaver.exit(), 0);
});

test('a drained worker comes back with nothing, and gets experts under 32 streams when that is undone', async (t) => {
  const back = cluster.addExpert('expert-2');
  cluster.experts.splice(1, 1, ...cluster.experts.splice(-1, 1));
  await back.listening();
  const disturbed = await streamDuring(cluster, REQUESTS, async () => {
    assert.equal(await held(back), 0);
    await guildhall('drain', 'expert-2', '--undo');
    await holdsSomething(back);
    await settled(cluster.experts);
  });
  same(t, disturbed);
});

test('a worker joins under 32 streams', async (t) => {
  const disturbed = await streamDuring(cluster, REQUESTS, async () => {
    await holdsSomething(cluster.addExpert('expert-4'));
    await settled(cluster.experts);
  });
  same(t, disturbed);
});

test('every worker is restarted, one after the other, under 32 streams', async (t) => {
  const disturbed = await streamDuring(cluster, REQUESTS, async () => {
    for (const [index, old] of [...cluster.experts].entries()) {
      old.kill('SIGTERM');
      assert.equal(await old.exit(), 0, old.output.slice(-2000));
      assert.match(old.output, /"end":"served"/);
      const next = cluster.addExpert(`expert-${index + 1}`);
      cluster.experts.splice(index, 1, ...cluster.experts.splice(-1, 1));
      await holdsSomething(next);
      await settled(cluster.experts);
    }
  });
  same(t, disturbed);
  const reasons = await guildhall('events', '--json', '--kind', 'experts_lost');
  assert.equal(reasons, '', 'no expert was ever without a holder');
});
