import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Checkpoint, EXPERTS_DIR } from '@guildhall/model/weights';
import { Cluster } from '../harness/cluster.ts';
import { type ServiceProcess, TINY } from '../harness/service-process.ts';
import { streamTokens } from '../harness/stream.ts';
import { until } from '../harness/wait.ts';

const REQUEST = { prompt: 'What is the capital of France?', maxTokens: 48, seed: 1 };

test('a worker without a checkpoint joins under a stream, takes over from one that dies, and no token changes', async () => {
  const cluster = await Cluster.start({ workers: 2, weights: 'bf16' });
  try {
    const dir = join(cluster.dir, 'from-peers');
    const undisturbed = await streamTokens(cluster, REQUEST);
    let joined: ServiceProcess | null = null;
    const served = (process: ServiceProcess | null): Promise<number> =>
      process === null ? Promise.resolve(0) : cluster.metric(process, 'guildhall_expert_rows_total');
    const underJoin = await streamTokens(cluster, REQUEST, {
      afterTokens: 4,
      run: () => (joined = cluster.addExpert('expert-3', ['--model', dir, '--model-from-peers'])),
    });
    assert.deepEqual(underJoin, undisturbed);
    await until('the worker to serve', async () => {
      await streamTokens(cluster, { ...REQUEST, maxTokens: 4 });
      return (await served(joined)) > 0;
    });
    assert.equal(Checkpoint.open(dir).fingerprint, Checkpoint.open(TINY).fingerprint);
    assert.equal(existsSync(join(dir, 'model-00001-of-00002.safetensors')), false);
    const stored = (): number => readdirSync(join(dir, EXPERTS_DIR)).length;
    const before = stored();
    assert.ok(before > 0);
    const [first] = cluster.experts;
    const underLoss = await streamTokens(cluster, REQUEST, { afterTokens: 8, run: () => first?.kill() });
    assert.deepEqual(underLoss, undisturbed);
    await until('the lost experts to be fetched from the worker that is left', () => stored() > before);
    assert.deepEqual(await streamTokens(cluster, REQUEST), undisturbed);
  } finally {
    await cluster.stop();
  }
});
