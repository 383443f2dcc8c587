import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { streamTokens, type StreamRequest } from '../harness/stream.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({ workers: 2, weights: 'bf16' });
});
after(async () => cluster?.stop());

const REQUEST: StreamRequest = { prompt: 'Hello! Who are you?', maxTokens: 100, seed: 3 };

test('Redis killed: running streams finish, new ones work on the last known placement', async () => {
  const undisturbed = await streamTokens(cluster, REQUEST);
  const disturbed = await streamTokens(cluster, REQUEST, { afterTokens: 10, run: () => cluster.redis.kill() });
  assert.deepEqual(disturbed, undisturbed);
  assert.deepEqual(await streamTokens(cluster, REQUEST), undisturbed);
  // Longer than any lease.
  await new Promise((resolve) => setTimeout(resolve, 8000));
  assert.deepEqual(await streamTokens(cluster, REQUEST), undisturbed);
  assert.equal((await fetch(`${cluster.url}/ready`)).status, 200);
});

test('Redis back and empty: members register again by themselves, and a new worker gets experts', async () => {
  const before = await streamTokens(cluster, REQUEST);
  await cluster.redis.restart();
  const newcomer = cluster.addExpert('expert-3');
  await newcomer.listening();
  await until(
    'the newcomer to hold experts',
    async () => (await cluster.metric(newcomer, 'guildhall_experts_held')) > 0,
  );
  assert.deepEqual(await streamTokens(cluster, REQUEST), before);
});

test('Redis paused: requests go on', async () => {
  const before = await streamTokens(cluster, REQUEST);
  cluster.redis.pause();
  try {
    assert.deepEqual(await streamTokens(cluster, REQUEST), before);
  } finally {
    cluster.redis.resume();
  }
});
