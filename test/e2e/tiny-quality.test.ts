import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { evalRows, passRate } from '../harness/tiny-eval.ts';

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({ weights: 'bf16' });
});
after(async () => cluster?.stop());

test('the model that ships answers held-out chat turns of its domain and ends them', async () => {
  const rows = evalRows('chat').filter((row) => row.tools === undefined);
  const { rate, misses } = await passRate(cluster.client(), rows.slice(0, 40));
  assert.ok(rate >= 0.9, `${(rate * 100).toFixed(0)} % were good; the others:\n${misses.join('\n')}`);
});

test('it recalls values of held-out lists (every fifth row; the long suite asks them all)', async () => {
  const rows = evalRows('recall').filter((_, index) => index % 5 === 0);
  const { rate, misses } = await passRate(cluster.client(), rows);
  assert.ok(rate >= 0.9, `${(rate * 100).toFixed(0)} % were right; the others:\n${misses.join('\n')}`);
});
