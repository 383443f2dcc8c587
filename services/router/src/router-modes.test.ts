import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { RouterApp } from './app.ts';
import { type Generated, promptOf, RouterRig } from './testing/router-rig.ts';

let rig: RouterRig;
let cold: RouterApp;

before(async () => {
  rig = await RouterRig.start({ routerArgs: ['--prefix-cache', 'off'] });
  cold = rig.routers[0] as RouterApp;
});
after(async () => rig?.end());

function bits(answer: Generated): [number, number][] {
  return answer.tokens.map(({ id, logprob }) => [id, logprob]);
}

async function add(id: string, args: string[]): Promise<RouterApp> {
  const app = await rig.addRouter(id, args);
  await rig.ready(app);
  return app;
}

test('fast mode goes on from pages and states of decode, and says how many tokens of them', async () => {
  const fast = await add('fast', ['--prefix-cache', 'fast']);
  const promptIds = promptOf(150, 5);
  const first = await rig.generate({ promptIds, stop: { maxTokens: 200 } }, fast);
  assert.deepEqual(bits(first), bits(await rig.generate({ promptIds, stop: { maxTokens: 200 } }, cold)));
  const next = [...promptIds, ...first.tokens.map(({ id }) => id), ...promptOf(20, 6)];
  const { finished } = await rig.generate({ promptIds: next }, fast);
  assert.deepEqual([finished?.cachedTokens, finished?.decodeCachedTokens], [320, 192]);
  await rig.idle(fast);
});

test('shared pages of 256 tokens, and no tier below the pool', async () => {
  const args = ['--page-tokens', '256', '--kv-host-memory', '0', '--snapshot-grid', '512'];
  const coarse = await add('coarse', args);
  const promptIds = promptOf(900, 7);
  const expected = bits(await rig.generate({ promptIds }, cold));
  for (const cached of [0, 768]) {
    const answer = await rig.generate({ promptIds }, coarse);
    assert.deepEqual(bits(answer), expected);
    assert.equal(answer.finished?.cachedTokens, cached);
  }
  await rig.idle(coarse);
});

test('a pool that is too small for its tenants keeps its promises: states and pages are evicted under load', async () => {
  const small = await add('small', ['--num-pages', '40', '--snapshot-memory', '300KiB', '--snapshot-grid', '128']);
  const prompts = Array.from({ length: 8 }, (_, i) => [...promptOf(400, i % 3), ...promptOf(100 + 30 * i, 40 + i)]);
  const expected = await Promise.all(prompts.map((promptIds) => rig.generate({ promptIds }, cold)));
  for (let round = 0; round < 2; round++) {
    const answers = await Promise.all(prompts.map((promptIds) => rig.generate({ promptIds }, small)));
    assert.deepEqual(answers.map(bits), expected.map(bits));
  }
  assert.ok((await rig.metric('guildhall_kv_evictions_total', small)) > 0);
  await rig.idle(small);
});
