import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { evalRows, passRate } from '../harness/tiny-eval.ts';

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({ weights: 'bf16' });
});
after(async () => cluster?.stop());

test('at least 95 % of the held-out recall questions are right through the API', async (t) => {
  const { rate, misses } = await passRate(cluster.client(), evalRows('recall'));
  t.diagnostic(`right: ${(rate * 100).toFixed(1)} %`);
  assert.ok(rate >= 0.95, misses.join('\n'));
});

test('at least 90 % of the held-out chat turns are good', async (t) => {
  // Rows that replay a call carry no call ids, which the API asks for.
  const rows = evalRows('chat').filter((row) => row.messages.every(({ role }) => role === 'system' || role === 'user'));
  const { rate, misses } = await passRate(cluster.client(), rows);
  t.diagnostic(`good: ${(rate * 100).toFixed(1)} %`);
  assert.ok(rate >= 0.9, misses.join('\n'));
});
