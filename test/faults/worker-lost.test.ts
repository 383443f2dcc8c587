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

const REQUEST: StreamRequest = { prompt: 'Hello! Who are you?', maxTokens: 120, seed: 7 };

test('a worker killed in the middle of a stream costs a pause, not an error, and no other token', async () => {
  const undisturbed = await streamTokens(cluster, REQUEST);
  const [, victim] = cluster.experts;
  const disturbed = await streamTokens(cluster, REQUEST, { afterTokens: 20, run: () => victim?.kill('SIGKILL') });
  assert.deepEqual(disturbed, undisturbed);
  assert.equal(victim?.running, false);
});

test('the survivor holds every expert, and new requests are served', async () => {
  assert.deepEqual(await streamTokens(cluster, REQUEST), await streamTokens(cluster, REQUEST));
  await cluster.ready();
});

test('a worker that joins gets experts by a new epoch, without a pause in service', async () => {
  const before = await streamTokens(cluster, REQUEST);
  const newcomer = cluster.addExpert('expert-3');
  await newcomer.listening();
  await until(
    'the newcomer to hold experts',
    async () => (await cluster.metric(newcomer, 'guildhall_experts_held')) > 0,
  );
  await until('the router to send it rows', async () => {
    assert.deepEqual(await streamTokens(cluster, REQUEST), before);
    return (await cluster.metric(newcomer, 'guildhall_expert_rows_total')) > 0;
  });
});

test('a worker stopped gracefully leaves without breaking a stream', async () => {
  const undisturbed = await streamTokens(cluster, REQUEST);
  const leaver = cluster.experts.find((expert) => expert.running);
  const disturbed = await streamTokens(cluster, REQUEST, { afterTokens: 10, run: () => leaver?.kill('SIGTERM') });
  assert.deepEqual(disturbed, undisturbed);
  assert.equal(await leaver?.exit(), 0);
});
