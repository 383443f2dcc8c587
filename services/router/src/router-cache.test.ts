import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Generated, promptOf, RouterRig } from './testing/router-rig.ts';

let rig: RouterRig;

before(async () => {
  rig = await RouterRig.start();
  await rig.addRouter('cached');
  await rig.addRouter('cold', ['--prefix-cache', 'off']);
});
after(async () => rig?.stop());

/** Ids and log-probabilities, and what came from the cache. */
function summary(result: Generated): { tokens: [number, number][]; cached: number | undefined } {
  assert.equal(result.error, null);
  return { tokens: result.tokens.map(({ id, logprob }) => [id, logprob]), cached: result.finished?.cachedTokens };
}

async function both(promptIds: number[]): Promise<number | undefined> {
  const cold = summary(await rig.generate('cold', { promptIds }));
  const cached = summary(await rig.generate('cached', { promptIds }));
  assert.deepEqual(cached.tokens, cold.tokens);
  assert.equal(cold.cached, 0);
  return cached.cached;
}

test('a hit gives the log-probabilities of a miss, bit for bit', async () => {
  for (const length of [65, 128, 300, 1000]) {
    const prompt = promptOf(length, 3);
    await both(prompt);
    assert.equal(await both(prompt), Math.floor((length - 1) / 64) * 64);
  }
});
