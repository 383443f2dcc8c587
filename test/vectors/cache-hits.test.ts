import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CacheRig, type CacheShape, type RigRouter } from '../harness/cache-rig.ts';
import { type Answer, bitsOf, type RequestFields } from '../harness/router-client.ts';
import { tokensOf } from './lib/conversations.ts';
import { checkpointDir } from './lib/paths.ts';
import { readTensors, writeCheckpoint } from './lib/rewrite-checkpoint.ts';

const HYBRID = 'q3-next';
const ATTENTION = 'q3-moe';
const VOCAB = 192;

let rig: CacheRig;
const plain = new Map<string, RigRouter>();

before(async () => {
  rig = await CacheRig.start();
  for (const model of [HYBRID, ATTENTION]) {
    plain.set(model, await rig.router(checkpointDir(model), { numPages: 200, args: ['--prefix-cache', 'off'] }));
  }
});
after(async () => rig?.stop());

function prompt(seed: number, length: number): number[] {
  return tokensOf(seed, length, VOCAB);
}

/** Runs `body` with a router of its own and checks that it holds nothing for sequences at the end. */
async function withRouter(
  model: string,
  shape: Partial<CacheShape>,
  body: (router: RigRouter) => Promise<void>,
): Promise<void> {
  const router = await rig.router(model.includes('/') ? model : checkpointDir(model), { numPages: 200, ...shape });
  try {
    await body(router);
    await router.idle();
  } finally {
    await router.stop();
  }
}

/** An answer with the bits of a router without a cache; returns how many tokens came from the cache. */
async function cachedOf(model: string, router: RigRouter, request: RequestFields): Promise<number> {
  const expected = await (plain.get(model) as RigRouter).client.generate(request);
  const answer = await router.client.generate(request);
  assert.deepEqual(bitsOf(answer), bitsOf(expected), `prompt of ${request.promptIds.length}`);
  const cached = answer.finished?.cachedTokens ?? -1;
  assert.equal(answer.started?.cachedTokens, cached);
  return cached;
}

for (const model of [HYBRID, ATTENTION]) {
  test(`${model}: the same prompt twice hits up to the last multiple of 64 below its end`, async () => {
    await withRouter(model, {}, async (router) => {
      for (const [seed, length, hit] of [
        [1, 40, 0],
        [2, 64, 0],
        [3, 65, 64],
        [4, 191, 128],
        [5, 192, 128],
        [6, 193, 192],
        [7, 700, 640],
      ] as const) {
        const promptIds = prompt(seed, length);
        assert.equal(await cachedOf(model, router, { promptIds }), 0, `first, ${length}`);
        assert.equal(await cachedOf(model, router, { promptIds }), hit, `second, ${length}`);
        const sampling = { temperature: 0.8, seed: 5n, topLogprobs: 2 };
        assert.equal(await cachedOf(model, router, { promptIds, sampling }), hit, `sampled, ${length}`);
      }
    });
  });

  test(`${model}: the n choices of a prompt share it`, async () => {
    await withRouter(model, {}, async (router) => {
      const promptIds = prompt(8, 300);
      const sampling = { temperature: 1, seed: 7n };
      assert.equal(await cachedOf(model, router, { promptIds, sampling }), 0);
      const choices = [1, 2, 3].map((choice) => cachedOf(model, router, { promptIds, sampling, choice }));
      assert.deepEqual(await Promise.all(choices), [256, 256, 256]);
    });
  });

  test(`${model}: salts do not share, and none is not the empty page of another`, async () => {
    await withRouter(model, {}, async (router) => {
      const promptIds = prompt(9, 300);
      for (const cacheSalt of ['', 'a', 'b', '["a"]', '\u0000', 'a'.repeat(256)]) {
        assert.equal(await cachedOf(model, router, { promptIds, cacheSalt }), 0, `first, salt ${cacheSalt}`);
        assert.equal(await cachedOf(model, router, { promptIds, cacheSalt }), 256, `second, salt ${cacheSalt}`);
      }
    });
  });

  test(`${model}: log-probabilities of a prompt are all there, after a hit as well`, async () => {
    await withRouter(model, {}, async (router) => {
      const promptIds = prompt(10, 300);
      await cachedOf(model, router, { promptIds });
      const request = { promptIds, promptLogprobs: true, sampling: { topLogprobs: 2 } };
      await cachedOf(model, router, request);
      const answer = await router.client.generate(request);
      assert.equal(answer.prompt.length, 299);
      assert.equal(await cachedOf(model, router, { promptIds }), 256, 'and what follows hits');
    });
  });

  test(`${model}: a turn that was generated is part of a prompt next time`, async () => {
    await withRouter(model, {}, async (router) => {
      const first = prompt(11, 200);
      const answer = await router.client.generate({ promptIds: first, stop: { maxTokens: 150 } });
      const promptIds = [...first, ...answer.tokens.map(({ id }) => id), ...prompt(12, 30)];
      // Without recurrent layers decode makes the bits of prefill, and its pages are shared like those.
      assert.equal(await cachedOf(model, router, { promptIds }), model === ATTENTION ? 320 : 192);
      assert.equal(await cachedOf(model, router, { promptIds }), 320, 'the second time it is all of a prompt');
    });
  });
}

test('a hybrid shares a fork from the third conversation on, full attention from the second', async () => {
  const shared = prompt(13, 330);
  const conversation = (seed: number): number[] => [...shared, ...prompt(seed, 150)];
  await withRouter(HYBRID, {}, async (router) => {
    assert.equal(await cachedOf(HYBRID, router, { promptIds: conversation(20) }), 0);
    // Its pages are there up to 320, no state is; this one leaves one.
    assert.equal(await cachedOf(HYBRID, router, { promptIds: conversation(21) }), 0);
    assert.equal(await cachedOf(HYBRID, router, { promptIds: conversation(22) }), 320);
  });
  await withRouter(ATTENTION, {}, async (router) => {
    assert.equal(await cachedOf(ATTENTION, router, { promptIds: conversation(20) }), 0);
    assert.equal(await cachedOf(ATTENTION, router, { promptIds: conversation(21) }), 320);
  });
});

test('the grid makes prefixes reusable that no prompt ended with', async () => {
  await withRouter(HYBRID, { args: ['--snapshot-grid', '128'] }, async (router) => {
    const promptIds = prompt(14, 500);
    await cachedOf(HYBRID, router, { promptIds });
    const other = [...promptIds.slice(0, 300), ...prompt(15, 60)];
    assert.equal(await cachedOf(HYBRID, router, { promptIds: other }), 256);
  });
});

test('a router that starts again finds its pages on disk', async () => {
  const promptIds = prompt(16, 500);
  const args = ['--kv-disk', join(rig.dir, 'again'), '--kv-disk-limit', '16MiB'];
  await withRouter(HYBRID, { args }, async (router) => {
    assert.equal(await cachedOf(HYBRID, router, { promptIds }), 0);
  });
  await withRouter(HYBRID, { args }, async (router) => {
    assert.equal(await cachedOf(HYBRID, router, { promptIds }), 448);
  });
  rmSync(join(rig.dir, 'again'), { recursive: true });
});

test('a router pulls what another one holds', async () => {
  const promptIds = prompt(17, 600);
  await withRouter(HYBRID, {}, async (holder) => {
    assert.equal(await cachedOf(HYBRID, holder, { promptIds }), 0);
    const hint = { routerId: holder.app.id, address: holder.app.address, tokens: 576 };
    await withRouter(HYBRID, { args: ['--pull-rate', '64GiB'] }, async (router) => {
      assert.equal(await cachedOf(HYBRID, router, { promptIds, holder: hint }), 576);
      assert.equal(await cachedOf(HYBRID, router, { promptIds }), 576);
    });
  });
});

/** A checkpoint like another one, with other weights. */
function sibling(model: string): string {
  const dir = join(rig.dir, `${model}-sibling`);
  const tensors = readTensors(checkpointDir(model));
  for (const tensor of tensors.values()) {
    if (tensor.shape.length === 2 && tensor.dtype === 'BF16') tensor.data = swapHalves(tensor.data);
  }
  writeCheckpoint(checkpointDir(model), dir, tensors, 1);
  return dir;
}

function swapHalves(bytes: Uint8Array): Uint8Array {
  const half = Math.floor(bytes.length / 4) * 2;
  return Uint8Array.from([...bytes.subarray(half), ...bytes.subarray(0, half)]);
}

test('two models with the same tokens, one Redis and one folder: neither sees the other', async () => {
  const other = sibling(HYBRID);
  const promptIds = prompt(18, 400);
  const args = ['--kv-disk', join(rig.dir, 'both'), '--kv-disk-limit', '16MiB'];
  const reference = await rig.router(other, { numPages: 200, args: ['--prefix-cache', 'off'] });
  plain.set(other, reference);
  const answers: Answer[] = [];
  for (const round of [0, 384]) {
    for (const model of [HYBRID, other]) {
      await withRouter(model, { args }, async (router) => {
        assert.equal(await cachedOf(model, router, { promptIds }), round, model);
        answers.push(await router.client.generate({ promptIds }));
      });
    }
  }
  assert.notDeepEqual(bitsOf(answers[0] as Answer), bitsOf(answers[1] as Answer), 'the models differ');
  assert.ok(readdirSync(join(rig.dir, 'both'), { recursive: true }).length > 0);
});
