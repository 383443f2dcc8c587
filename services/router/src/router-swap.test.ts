import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { Tokenizer } from '@guildhall/model';
import { bitsOf, type Generated, promptOf, type RigRequest, RouterRig } from './testing/router-rig.ts';

const tokenizer = Tokenizer.load(join(import.meta.dirname, '../../../models/tiny'));
const THINK_END = tokenizer.tokenToId('</think>') ?? assert.fail('there is a token that ends thoughts');

const REQUESTS = [1, 2, 3].map((seed) => ({
  promptIds: promptOf(110 + 30 * seed, seed),
  tenant: `tenant-${seed % 2}`,
  sampling: { temperature: 0.8, seed: BigInt(seed), topLogprobs: 4 },
  stop: { maxTokens: 90 },
}));
/** One of them needs up to 5 pages, all three 13. */
const SMALL = ['--experts', 'local', '--num-pages', '7', '--max-running', '4'];

/** Answers in a grammar: at once, as several choices of one request, and after thoughts that a budget ends. */
const SCHEMA = {
  type: 'array',
  items: { type: 'object', properties: { a: { type: 'string', minLength: 3, maxLength: 30 }, b: { type: 'integer' } } },
  minItems: 30,
};
const constraint = {
  kind: { $case: 'jsonSchema' as const, value: JSON.stringify(SCHEMA) },
  afterToken: 0,
  addedTokens: false,
};
const held = { stop: { maxTokens: 90, ignoreEos: false } };
const CONSTRAINED: RigRequest[] = [
  ...[0, 1].map((choice) => ({ ...REQUESTS[0], ...held, choice, constraint })),
  {
    ...REQUESTS[1],
    ...held,
    constraint: { ...constraint, afterToken: THINK_END },
    thinking: { tokens: 20, endIds: [THINK_END] },
  },
];

let scratch: string;

before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-swap-'));
});

after(() => rmSync(scratch, { recursive: true, force: true }));

/** Answers them one after the other, then all at once; both must have the same bits. */
async function assertUndisturbed(rig: RouterRig, requests: readonly RigRequest[] = REQUESTS): Promise<Generated[]> {
  const alone: Generated[] = [];
  for (const request of requests) alone.push(await rig.generate(request));
  assert.equal(await rig.metric('vllm:num_preemptions_total'), 0);
  const together = await Promise.all(requests.map((request) => rig.generate(request)));
  assert.deepEqual(
    together.map((answer) => [bitsOf(answer), answer.tokens.map(({ top }) => top)]),
    alone.map((answer) => [bitsOf(answer), answer.tokens.map(({ top }) => top)]),
  );
  assert.ok((await rig.metric('vllm:num_preemptions_total')) > 0, 'nobody had to give way');
  await rig.idle();
  return together;
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

for (const [what, args] of [
  ['copied to host memory and back', () => ['--kv-host-memory', '64MiB']],
  ['copied to disk and back', () => ['--kv-host-memory', '0', '--kv-disk', join(scratch, 'constrained')]],
  ['computed again', () => ['--swap', 'off']],
] as const) {
  test(`answers in a grammar stay in it, with the same bits, when they are ${what}`, { timeout: 300_000 }, async () => {
    await RouterRig.run({ workers: 0, routerArgs: [...SMALL, ...args()] }, async (rig) => {
      const answers = await assertUndisturbed(rig, CONSTRAINED);
      assert.equal((await rig.metric('guildhall_swap_bytes_total')) > 0, what !== 'computed again');
      for (const { tokens, finished, error } of answers) {
        assert.equal(error, null);
        assert.notEqual(finished, null);
        const ids = tokens.map(({ id }) => id);
        const text = tokenizer.decode(ids.slice(ids.indexOf(THINK_END) + 1)).trimStart();
        assert.match(text, /^\[\s*(\{\s*("(a|b)"|$)|$)/);
        assert.ok(text.length > 10, text);
      }
      // Choices of one request differ, those with thoughts have them.
      const [first, second, thoughtful] = answers.map(({ tokens }) => tokens.map(({ id }) => id));
      assert.notDeepEqual(first, second);
      assert.equal(thoughtful?.indexOf(THINK_END), 20);
    });
  });
}
