import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { type StreamRequest, streamTokens } from '../harness/stream.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({
    workers: 0,
    routers: 2,
    weights: 'bf16',
    routerArgs: ['--experts', 'local', '--drain-ms', '9000', '--pull-stall-ms', '10000'],
  });
});
after(async () => cluster?.stop());

const requests: StreamRequest[] = Array.from({ length: 8 }, (_, index) => ({
  prompt: `Tell me about Guildhall, number ${index}.`,
  maxTokens: 120,
  seed: index,
}));

test('a router asked to stop in the middle of eight streams: the other one takes them over, with the same tokens', async () => {
  const undisturbed = await Promise.all(requests.map((request) => streamTokens(cluster, request)));
  const leaving = cluster.router(1);
  const stop = (): void => leaving.kill('SIGTERM');
  const disturbed = await Promise.all(
    requests.map((request, index) =>
      streamTokens(cluster, request, index === 0 ? { afterTokens: 15, run: stop } : null),
    ),
  );
  assert.deepEqual(disturbed, undisturbed);
  await until('the router to have gone', () => !leaving.running);
  const moved = await cluster.metric(cluster.gateway, 'guildhall_stream_resumes_total', 'outcome="moved"');
  const taken = await cluster.metric(cluster.router(2), 'guildhall_sequence_takeovers_total', 'outcome="taken"');
  assert.ok(moved > 0 && taken === moved, `${moved} streams were moved, ${taken} taken over`);
  assert.equal(await cluster.metric(cluster.gateway, 'guildhall_stream_resumes_total', 'outcome="failed"'), 0);
});
