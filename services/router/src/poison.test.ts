import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail, type GuildhallError } from '@guildhall/common';
import fc from 'fast-check';
import type { Sequence } from './sequence.ts';
import { pseudoEngine, type PseudoEngineOptions } from './testing/pseudo-engine.ts';
import { RecordingSink, specOf } from './testing/sequences.ts';

type Given = Parameters<typeof specOf>[0];
type Pseudo = ReturnType<typeof pseudoEngine>;

/** Runs an engine for a test and checks at the end that everything was given back. */
async function withEngine(options: PseudoEngineOptions, body: (pseudo: Pseudo) => Promise<void>): Promise<void> {
  const pseudo = pseudoEngine(options);
  pseudo.engine.start();
  try {
    await body(pseudo);
  } finally {
    await pseudo.engine.stop(fail('cancelled', 'the test is over'));
  }
  const { scheduler } = pseudo.engine;
  assert.deepEqual(pseudo.counts.fatal, []);
  scheduler.checkIntegrity();
  assert.equal(scheduler.pool.numUsed + scheduler.numActive + scheduler.numWaiting, 0);
}

async function alone(given: Given): Promise<number[]> {
  const sink = new RecordingSink();
  await withEngine({ numPages: 1000 }, async ({ engine }) => {
    engine.submit(specOf(given), sink);
    await sink.done;
  });
  return sink.ids;
}

/** Breaks every step that brings a poisonous sequence past its `at`th token. */
function poisonAt(at: number, error: GuildhallError = fail('native_failure', 'row 3 is not finite')) {
  return (seq: Sequence): GuildhallError | null =>
    seq.spec.requestId === 'poison' && seq.numTokens >= at && seq.numComputed + 128 >= at ? error : null;
}

function submitAll(engine: Pseudo['engine'], givens: readonly Given[]): RecordingSink[] {
  return givens.map((given) => {
    const sink = new RecordingSink();
    engine.submit(specOf(given), sink);
    return sink;
  });
}

const INNOCENTS = [0, 1, 2, 3, 4, 5].map((i) => ({ requestId: `good-${i}`, numPrompt: 20 + 30 * i, maxTokens: 40 }));

test('a prompt that breaks its step fails alone, with what failed; the others in it get the tokens they get alone', async () => {
  const expected = await Promise.all(INNOCENTS.map(alone));
  await withEngine({}, async ({ engine, runner }) => {
    runner.breaks = poisonAt(0);
    const [poison, ...good] = submitAll(engine, [{ requestId: 'poison', numPrompt: 50 }, ...INNOCENTS]);
    await Promise.all(good.map((sink) => sink.done));
    await poison?.done;
    assert.equal(poison?.error?.code, 'computation_failed');
    assert.match(poison.error.message, /row 3 is not finite/);
    assert.deepEqual(
      good.map(({ ids, error }) => ({ ids, error })),
      expected.map((ids) => ({ ids, error: null })),
    );
    assert.ok((runner.broken[0]?.length ?? 0) > 1, 'it broke a step that others were in');
    assert.deepEqual(
      runner.broken.slice(1).map((seqs) => seqs.map((seq) => seq.spec.requestId)),
      [['poison']],
    );
  });
});

test('one that breaks in the midst of its answer fails there, and keeps what it had', async () => {
  const expected = await Promise.all(INNOCENTS.map(alone));
  const whole = await alone({ requestId: 'poison', numPrompt: 50, maxTokens: 40 });
  await withEngine({}, async ({ engine, runner }) => {
    runner.breaks = poisonAt(50 + 12);
    const [poison, ...good] = submitAll(engine, [{ requestId: 'poison', numPrompt: 50, maxTokens: 40 }, ...INNOCENTS]);
    await Promise.all([poison?.done, ...good.map((sink) => sink.done)]);
    assert.equal(poison?.error?.code, 'computation_failed');
    assert.deepEqual(poison.ids, whole.slice(0, 12));
    assert.deepEqual(
      good.map((sink) => sink.ids),
      expected,
    );
    assert.ok(runner.broken.length === 2 && (runner.broken[0]?.length ?? 0) > 1);
  });
});

test('who is named by a failure is blamed, and nobody else', async () => {
  for (const [sequences, steps] of [
    // Workers were tried with the rows of this one alone.
    [[0], 1],
    [[0, 1], 2],
  ] as const) {
    await withEngine({}, async ({ engine, runner }) => {
      const broken = fail('computation_failed', 'layer 2 failed in two workers', { details: { sequences } });
      const sinks = submitAll(engine, [{ requestId: 'poison', numPrompt: 50 }, ...INNOCENTS]);
      runner.breaks = poisonAt(0, broken);
      await Promise.all(sinks.map((sink) => sink.done));
      assert.equal(sinks[0]?.error, broken);
      assert.deepEqual(
        sinks.slice(1).map(({ error }) => error),
        INNOCENTS.map(() => null),
      );
      const [first = [], second] = runner.broken;
      assert.ok(first.length > 1);
      assert.equal(runner.broken.length, steps);
      if (steps === 2) assert.deepEqual(second, [first[0]]);
      const next = runner.specs.slice(steps).map((spec) => spec.rowCount.length);
      assert.ok(Math.max(...next) > 1, 'those who were not named go on together');
    });
  }
});

test('a step that breaks once costs nobody an answer, and nobody stays apart afterwards', async () => {
  const expected = await Promise.all(INNOCENTS.map(alone));
  await withEngine({}, async ({ engine, runner }) => {
    const sinks = submitAll(engine, INNOCENTS);
    while (sinks.some((sink) => sink.ids.length < 5)) await new Promise((resolve) => setImmediate(resolve));
    runner.failNext.push({ error: fail('native_failure', 'out of memory'), kind: 'again' });
    await Promise.all(sinks.map((sink) => sink.done));
    assert.deepEqual(
      sinks.map((sink) => sink.ids),
      expected,
    );
    assert.equal(runner.broken.length, 1);
    const last = runner.specs.slice(-5).map((spec) => spec.rowCount.length);
    assert.ok(Math.max(...last) > 1, 'they decode together again');
  });
});

test('property: whoever poisons, and wherever, the others get the tokens they get alone', async () => {
  const request = fc.record({
    numPrompt: fc.integer({ min: 1, max: 200 }),
    maxTokens: fc.integer({ min: 1, max: 60 }),
    poisonAt: fc.option(fc.nat(220), { nil: null, freq: 2 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { minLength: 2, maxLength: 7 }),
      fc.integer({ min: 8, max: 40 }),
      async (requests, numPages) => {
        const expected = await Promise.all(requests.map(({ numPrompt, maxTokens }) => alone({ numPrompt, maxTokens })));
        await withEngine({ numPages, maxRunning: 4, limits: { chunkTokens: 256 } }, async ({ engine, runner }) => {
          const thresholds = new Map<string, number>();
          runner.breaks = (seq) => {
            const at = thresholds.get(seq.spec.requestId) ?? Infinity;
            return seq.numComputed + seq.nextChunk(256).count > at ? fail('native_failure', 'broke') : null;
          };
          const sinks = requests.map(({ poisonAt: at, ...given }, i) => {
            if (at !== null) thresholds.set(`request-${i}`, at);
            const sink = new RecordingSink();
            engine.submit(specOf({ ...given, requestId: `request-${i}` }), sink);
            return sink;
          });
          await Promise.all(sinks.map((sink) => sink.done));
          for (const [i, { ids, error }] of sinks.entries()) {
            if (error === null) assert.deepEqual(ids, expected[i]);
            else assert.equal(error.code, 'computation_failed');
            assert.deepEqual(ids, expected[i]?.slice(0, ids.length));
            if (requests[i]?.poisonAt === null) assert.equal(error, null);
          }
        });
      },
    ),
    { numRuns: 60, seed: 7 },
  );
});
