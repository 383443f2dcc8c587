import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { bitsOf, promptOf, RouterRig } from './testing/router-rig.ts';

const REQUESTS = [1, 2, 3].map((seed) => ({
  promptIds: promptOf(110 + 30 * seed, seed),
  tenant: `tenant-${seed % 2}`,
  sampling: { temperature: 0.8, seed: BigInt(seed), topLogprobs: 4 },
  stop: { maxTokens: 90 },
}));
/** One of them needs up to 5 pages, all three 13. */
const SMALL = ['--experts', 'local', '--num-pages', '7', '--max-running', '4'];

let scratch: string;

before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-swap-'));
});

after(() => rmSync(scratch, { recursive: true, force: true }));

/** Answers them one after the other, then all at once; both must have the same bits. */
async function assertUndisturbed(rig: RouterRig): Promise<void> {
  const alone = [];
  for (const request of REQUESTS) alone.push(await rig.generate(request));
  assert.equal(await rig.metric('vllm:num_preemptions_total'), 0);
  const together = await Promise.all(REQUESTS.map((request) => rig.generate(request)));
  assert.deepEqual(
    together.map((answer) => [bitsOf(answer), answer.tokens.map(({ top }) => top)]),
    alone.map((answer) => [bitsOf(answer), answer.tokens.map(({ top }) => top)]),
  );
  assert.ok((await rig.metric('vllm:num_preemptions_total')) > 0, 'nobody had to give way');
  await rig.idle();
}

for (const [where, args] of [
  ['host memory', () => ['--kv-host-memory', '64MiB']],
  ['disk', () => ['--kv-host-memory', '0', '--kv-disk', join(scratch, 'pages')]],
] as const) {
  test(`a sequence that was copied to ${where} and back goes on with the same bits`, { timeout: 200_000 }, async () => {
    await RouterRig.run({ workers: 0, routerArgs: [...SMALL, ...args()] }, async (rig) => {
      await assertUndisturbed(rig);
      assert.ok((await rig.metric('guildhall_swap_bytes_total')) > 0, 'nothing was copied');
      assert.equal(await rig.metric('guildhall_swap_lost_total'), 0);
      // Files of sequences that have ended are removed in the background.
      await eventually(
        async () => (await rig.metric('guildhall_kv_tier_held_bytes')) === 0,
        'the copies to be removed',
      );
    });
  });
}

test('one that is computed again instead has the same bits too', { timeout: 200_000 }, async () => {
  await RouterRig.run({ workers: 0, routerArgs: [...SMALL, '--swap', 'off'] }, async (rig) => {
    await assertUndisturbed(rig);
    assert.equal(await rig.metric('guildhall_swap_bytes_total'), 0);
  });
});
