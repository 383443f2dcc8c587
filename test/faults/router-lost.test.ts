import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { streamTokens } from '../harness/stream.ts';

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({ workers: 2, routers: 2, weights: 'bf16' });
});
after(async () => cluster?.stop());

test('a router killed in the middle of eight streams: another one goes on with the same tokens', async () => {
  const requests = Array.from({ length: 8 }, (_, index) => ({
    prompt: 'Tell me about Guildhall.',
    maxTokens: 80,
    seed: index,
  }));
  const undisturbed = await Promise.all(requests.map((request) => streamTokens(cluster, request)));
  const kill = (): void => cluster.routers[0]?.kill('SIGKILL');
  const disturbed = await Promise.all(
    requests.map((request, index) =>
      streamTokens(cluster, request, index === 0 ? { afterTokens: 15, run: kill } : null),
    ),
  );
  assert.deepEqual(disturbed, undisturbed);
  assert.ok((await cluster.metric(cluster.gateway, 'guildhall_stream_resumes_total')) > 0, 'some stream was resumed');
});
