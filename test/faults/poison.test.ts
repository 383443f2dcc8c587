import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { writePoisonedCheckpoint } from '../fakes/poisoned-checkpoint.ts';
import { Cluster } from '../harness/cluster.ts';
import { bitsOf } from '../harness/router-client.ts';
import { TINY } from '../harness/service-process.ts';

/** A token that no answer here comes to. */
const POISON = 2777;
let dir: string;
let cluster: Cluster;

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'guildhall-poison-'));
  writePoisonedCheckpoint(TINY, join(dir, 'model'), [POISON]);
  cluster = await Cluster.start({ model: join(dir, 'model'), workers: 2, routers: 1, weights: 'bf16', gateway: false });
});
after(async () => {
  await cluster?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const promptOf = (seed: number, length = 40): number[] =>
  Array.from({ length }, (_, i) => 10 + ((i * 7919 + seed * 104_729) % 2700));
const poisoned = (seed: number): number[] => promptOf(seed).with(17, POISON);

test('a prompt that breaks native steps fails alone; eight streams in those steps keep their bits', async () => {
  const client = await cluster.routerClient(1);
  const requests = Array.from({ length: 8 }, (_, seed) => ({
    promptIds: promptOf(seed, 30 + 9 * seed),
    sampling: { temperature: 0.9, seed: BigInt(seed) },
    stop: { maxTokens: 40 },
  }));
  const undisturbed = await Promise.all(requests.map((request) => client.generate(request)));
  const [bad, ...good] = await Promise.all([
    client.start({ promptIds: poisoned(1) }).done,
    ...requests.map((request) => client.start(request).done),
  ]);
  assert.equal(bad?.error?.code, 'computation_failed');
  assert.match(bad.error.message, /not finite/);
  assert.deepEqual(good.map(bitsOf), undisturbed.map(bitsOf));
});
