import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail } from '@guildhall/common';
import fc from 'fast-check';
import { pseudoEngine, type PseudoEngineOptions } from '../testing/pseudo-engine.ts';
import { RecordingSink, specOf } from '../testing/sequences.ts';

type Pseudo = ReturnType<typeof pseudoEngine>;

/** Runs an engine for a test; afterwards nothing but the cache holds pages. */
async function withEngine<T>(options: PseudoEngineOptions, body: (pseudo: Pseudo) => Promise<T>): Promise<T> {
  const pseudo = pseudoEngine({ numPages: 200, ...options });
  pseudo.engine.start();
  try {
    return await body(pseudo);
  } finally {
    await pseudo.engine.stop(fail('cancelled', 'the test is over'));
    await pseudo.kv.settle();
    const { scheduler } = pseudo.engine;
    assert.deepEqual(pseudo.counts.fatal, []);
    scheduler.checkIntegrity();
    assert.equal(scheduler.pool.numUsed, 0);
    assert.equal(scheduler.slots.numFree, scheduler.slots.numSlots);
    pseudo.kv.cache?.clear();
    assert.equal(scheduler.pool.numFree, scheduler.pool.numPages);
  }
}

function tokens(length: number, seed: number): number[] {
  return Array.from({ length }, (_, i) => (i * 31 + seed * 17 + ((i * seed) % 13)) % 97);
}

async function ask(
  { engine }: Pseudo,
  prompt: readonly number[],
  given: Parameters<typeof specOf>[0] = {},
): Promise<RecordingSink> {
  const sink = new RecordingSink();
  engine.submit(specOf({ maxTokens: 4, ...given, promptIds: Int32Array.from(prompt) }), sink);
  await sink.done;
  assert.equal(sink.error, null);
  return sink;
}

/** What a router without a cache answers. */
async function cold(prompt: readonly number[], given: Parameters<typeof specOf>[0] = {}): Promise<number[]> {
  return await withEngine({ kv: { mode: 'off' } }, async (pseudo) => (await ask(pseudo, prompt, given)).ids);
}

test('the same prompt again is computed from the last multiple of 64 below its end', async () => {
  for (const length of [63, 64, 65, 128, 200, 700]) {
    const prompt = tokens(length, 1);
    await withEngine({}, async (pseudo) => {
      const first = await ask(pseudo, prompt);
      const computed = pseudo.runner.numPromptTokens;
      const second = await ask(pseudo, prompt);
      const expected = Math.floor((length - 1) / 64) * 64;
      assert.equal(first.result?.cachedTokens, 0);
      assert.equal(second.result?.cachedTokens, expected, `${length} tokens`);
      assert.equal(pseudo.runner.numPromptTokens - computed, length - expected);
      assert.deepEqual(second.ids, first.ids);
      assert.deepEqual(second.ids, await cold(prompt));
    });
  }
});

test('the second prompt of a fork leaves a state there, from which the third goes on', async () => {
  const system = tokens(330, 2);
  const users = [3, 4, 5].map((seed) => [...system, ...tokens(150, seed)]);
  await withEngine({}, async (pseudo) => {
    const cached: number[] = [];
    for (const prompt of users) {
      const sink = await ask(pseudo, prompt);
      assert.deepEqual(sink.ids, await cold(prompt));
      cached.push(sink.result?.cachedTokens ?? -1);
    }
    // 256 is on the grid; the prompts go apart within the page that begins at 320.
    assert.deepEqual(cached, [0, 256, 320]);
  });
});

test('a conversation goes on from the end of its last prompt, not from what was generated', async () => {
  await withEngine({}, async (pseudo) => {
    let prompt = tokens(150, 6);
    let before = 0;
    for (let turn = 0; turn < 5; turn++) {
      const sink = await ask(pseudo, prompt, { maxTokens: 70 });
      assert.deepEqual(sink.ids, await cold(prompt, { maxTokens: 70 }));
      assert.equal(sink.result?.cachedTokens, before);
      before = Math.floor((prompt.length - 1) / 64) * 64;
      prompt = [...prompt, ...sink.ids, ...tokens(40, turn)];
    }
  });
});

test('prompts that arrive together are computed once', async () => {
  const prompt = tokens(600, 7);
  await withEngine({}, async (pseudo) => {
    const sinks = await Promise.all([0, 1, 2, 3].map((choice) => ask(pseudo, prompt, { choice })));
    const expected = await cold(prompt);
    for (const sink of sinks) assert.deepEqual(sink.ids, expected);
    assert.equal(pseudo.runner.numPromptTokens, 600 + 3 * (600 - 576));
  });
});

test('prompts under different salts share nothing', async () => {
  const prompt = tokens(300, 8);
  await withEngine({}, async (pseudo) => {
    for (const cacheSalt of ['', 'a', '["', 'a\u0000']) {
      assert.equal((await ask(pseudo, prompt, { cacheSalt })).result?.cachedTokens, 0);
    }
    assert.equal((await ask(pseudo, prompt, { cacheSalt: 'a' })).result?.cachedTokens, 256);
  });
});

test('log-probabilities of a prompt are computed, not skipped', async () => {
  const prompt = tokens(300, 9);
  await withEngine({}, async (pseudo) => {
    await ask(pseudo, prompt);
    assert.equal((await ask(pseudo, prompt, { promptLogprobs: true })).result?.cachedTokens, 0);
    assert.equal((await ask(pseudo, prompt)).result?.cachedTokens, 256);
  });
});

test('named pages of several physical ones are found in their own size', async () => {
  const prompt = tokens(700, 10);
  await withEngine({ kv: { pageTokens: 256, snapshotGrid: 512 } }, async (pseudo) => {
    await ask(pseudo, prompt);
    const sink = await ask(pseudo, prompt);
    assert.equal(sink.result?.cachedTokens, 512);
    assert.deepEqual(sink.ids, await cold(prompt));
  });
});

test('fast mode goes on from what decode made, under names of its own, and says so', async () => {
  const first = tokens(150, 11);
  await withEngine({ kv: { mode: 'fast' } }, async (pseudo) => {
    const answer = await ask(pseudo, first, { maxTokens: 200 });
    assert.deepEqual(answer.ids, await cold(first, { maxTokens: 200 }));
    const next = [...first, ...answer.ids, ...tokens(30, 12)];
    const second = await ask(pseudo, next);
    // 349 tokens of the first turn are in pages: the last one was sampled and never computed.
    assert.equal(second.result?.cachedTokens, 320);
    assert.equal(second.result?.decodeCachedTokens, 320 - 128);
    // The same text as a prompt of another conversation finds them too; one that only begins like it does not.
    const third = await ask(pseudo, [...next, 1]);
    assert.ok((third.result?.decodeCachedTokens ?? 0) > 0);
    const other = await ask(pseudo, [...first, ...tokens(90, 13)]);
    assert.deepEqual([other.result?.cachedTokens, other.result?.decodeCachedTokens], [128, 0]);
    assert.deepEqual(other.ids, await cold([...first, ...tokens(90, 13)]));
  });
});

test('exact mode takes nothing from decode', async () => {
  const first = tokens(150, 11);
  await withEngine({}, async (pseudo) => {
    const answer = await ask(pseudo, first, { maxTokens: 200 });
    const next = [...first, ...answer.ids, ...tokens(30, 12)];
    const second = await ask(pseudo, next);
    assert.deepEqual([second.result?.cachedTokens, second.result?.decodeCachedTokens], [128, 0]);
    assert.deepEqual(second.ids, await cold(next));
  });
});

test('property: any conversations, forks, pools and cancels give the tokens of a router without a cache', async () => {
  const turn = fc.record({
    user: fc.nat(5),
    extra: fc.integer({ min: 1, max: 150 }),
    seed: fc.nat(3),
    maxTokens: fc.integer({ min: 1, max: 70 }),
    cancelAfter: fc.option(fc.nat(30), { freq: 4 }),
    fork: fc.boolean(),
    priority: fc.constantFrom(0, 0, 0, 1),
    wait: fc.boolean(),
  });
  const world = fc.record({
    numPages: fc.integer({ min: 24, max: 60 }),
    numSnapshots: fc.integer({ min: 1, max: 6 }),
    pageTokens: fc.constantFrom(64, 64, 128),
    snapshotGrid: fc.constantFrom(128, 256, 512),
    maxRunning: fc.integer({ min: 1, max: 6 }),
  });
  const answers = new Map<string, number[]>();
  const expected = async (prompt: readonly number[], maxTokens: number): Promise<number[]> => {
    const key = `${maxTokens}/${prompt.join()}`;
    const known = answers.get(key) ?? (await cold(prompt, { maxTokens }));
    answers.set(key, known);
    return known;
  };
  await fc.assert(
    fc.asyncProperty(world, fc.array(turn, { minLength: 1, maxLength: 14 }), async (given, turns) => {
      const { numPages, maxRunning, ...kv } = given;
      await withEngine({ numPages, maxRunning, kv }, async (pseudo) => {
        const histories = Array.from({ length: 6 }, (_, user) => tokens(100 + 40 * (user % 2), 1 + (user % 2)));
        const running: Promise<void>[] = [];
        for (const { user, extra, seed, maxTokens, cancelAfter, fork, priority, wait } of turns) {
          const prompt = [...(histories[user] as number[]), ...tokens(extra, seed)].slice(0, 20 * 64);
          const sink = new RecordingSink();
          const spec = specOf({ maxTokens, priority, promptIds: Int32Array.from(prompt) });
          const seq = pseudo.engine.submit(spec, sink);
          const one = async (): Promise<void> => {
            if (cancelAfter !== null) {
              for (let i = 0; i < cancelAfter; i++) await new Promise(setImmediate);
              pseudo.engine.cancel(seq);
              return;
            }
            await sink.done;
            assert.equal(sink.error, null);
            assert.deepEqual(sink.ids, await expected(prompt, maxTokens));
            if (!fork) histories[user] = [...prompt, ...sink.ids];
          };
          running.push(one());
          if (wait) await Promise.all(running);
        }
        await Promise.all(running);
      });
    }),
    { numRuns: 60 },
  );
});

test('a grid finer than the shared pages, or no multiple of them, takes snapshots at their ends', async () => {
  const prompt = tokens(900, 9);
  for (const [snapshotGrid, pageTokens] of [
    [64, 128],
    [320, 192],
  ] as const) {
    await withEngine({ kv: { snapshotGrid, pageTokens } }, async (pseudo) => {
      const first = await ask(pseudo, prompt);
      const second = await ask(pseudo, prompt);
      assert.equal(second.result?.cachedTokens, Math.floor(899 / pageTokens) * pageTokens);
      assert.deepEqual(second.ids, first.ids);
    });
  }
});
