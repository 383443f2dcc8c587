import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bitsOf, promptOf, type RigRequest, RouterRig } from './testing/router-rig.ts';

const REQUESTS: RigRequest[] = Array.from({ length: 12 }, (_, i) => ({
  promptIds: promptOf(1 + ((i * 31) % 170), i),
  sampling: { temperature: i % 2, seed: BigInt(i) },
  stop: { maxTokens: 8 + i },
}));

test('one worker, two or four: the same bits', async () => {
  const answers: [number, number][][][] = [];
  for (const workers of [1, 2, 4]) {
    await RouterRig.run({ workers }, async (rig) => {
      const all = await Promise.all(REQUESTS.map((request) => rig.generate(request)));
      answers.push(all.map(bitsOf));
      assert.equal(all.at(-1)?.finished?.expertRows.size, workers);
    });
  }
  assert.deepEqual(answers[1], answers[0]);
  assert.deepEqual(answers[2], answers[0]);
});

test('bf16: the same bits alone, together, and after a resume', async () => {
  await RouterRig.run({ numerics: ['--weights', 'bf16'] }, async (rig) => {
    const together = await Promise.all(REQUESTS.map((request) => rig.generate(request)));
    for (const [i, request] of REQUESTS.entries()) {
      const expected = together[i];
      const alone = await rig.generate(request);
      assert.deepEqual(bitsOf(alone), expected && bitsOf(expected), `request ${i}`);
      const generatedIds = alone.tokens.slice(0, 5).map(({ id }) => id);
      const rest = await rig.generate({ ...request, generatedIds, numericsId: alone.started?.numericsId ?? '' });
      assert.deepEqual(bitsOf(rest), bitsOf(alone).slice(5), `request ${i} resumed`);
    }
    assert.match(together[0]?.started?.numericsId ?? '', /^bf16-.*\/exact$/);
  });
});

test('partial combine: whole answers, near those of the exact mode', async () => {
  const first: number[][] = [];
  for (const combine of ['exact', 'partial']) {
    await RouterRig.run({ numerics: ['--weights', 'f32', '--combine', combine] }, async (rig) => {
      const answers = await Promise.all(REQUESTS.map((request) => rig.generate(request)));
      for (const [i, { tokens }] of answers.entries()) assert.equal(tokens.length, REQUESTS[i]?.stop?.maxTokens);
      first.push(answers.map(({ tokens }) => tokens[0]?.logprob ?? Number.NaN));
    });
  }
  for (const [i, logprob] of first[1]?.entries() ?? []) assert.ok(Math.abs(logprob - (first[0]?.[i] ?? 0)) < 1e-3);
});
