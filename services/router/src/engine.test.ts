import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'node:test';
import { fail, FakeClock } from '@guildhall/common';
import fc from 'fast-check';
import { pseudoEngine, type PseudoEngineOptions } from './testing/pseudo-engine.ts';
import { RecordingSink, specOf } from './testing/sequences.ts';

type Pseudo = ReturnType<typeof pseudoEngine>;
type Given = Parameters<typeof specOf>[0];

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await nextTurn();
}

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
  assert.equal(scheduler.numActive + scheduler.numWaiting, 0);
  assert.equal(scheduler.pool.numUsed, 0);
  assert.equal(scheduler.slots.numFree, scheduler.slots.numSlots);
  assert.equal(pseudo.views.pins, 0);
}

/** Tokens of a request that has an engine to itself. */
async function alone(given: Given): Promise<number[]> {
  const sink = new RecordingSink();
  await withEngine({ numPages: 1000 }, async ({ engine }) => {
    engine.submit(specOf(given), sink);
    await sink.done;
  });
  assert.equal(sink.error, null);
  return sink.ids;
}

test('a request gets its tokens, in order, and a summary', async () => {
  const sink = new RecordingSink();
  await withEngine({}, async ({ engine }) => {
    engine.submit(specOf({ numPrompt: 200, maxTokens: 5 }), sink);
    await sink.done;
  });
  assert.deepEqual(sink.startedEpochs, [7]);
  assert.deepEqual(
    sink.tokens.map(({ index }) => index),
    [0, 1, 2, 3, 4],
  );
  assert.equal(sink.result?.reason.kind, 'length');
  assert.equal(sink.result?.promptTokens, 200);
  assert.equal(sink.result?.completionTokens, 5);
});

test('a resumed sequence goes on as if it had never stopped', async () => {
  const given = { numPrompt: 150, maxTokens: 90 };
  const whole = await alone(given);
  for (const cut of [1, 2, 63, 89]) {
    const rest = await alone({ ...given, generatedIds: Int32Array.from(whole.slice(0, cut)) });
    assert.deepEqual(rest, whole.slice(cut));
  }
});

test('a resumed sequence that has ended says so without computing', async () => {
  const given = { numPrompt: 20, maxTokens: 6 };
  const whole = await alone(given);
  await withEngine({}, async ({ engine, runner }) => {
    const sink = new RecordingSink();
    engine.submit(specOf({ ...given, generatedIds: Int32Array.from(whole) }), sink);
    assert.equal(sink.result?.reason.kind, 'length');
    assert.equal(sink.result?.completionTokens, 6);
    assert.equal(runner.specs.length, 0);
    const tooLong = specOf({ ...given, generatedIds: Int32Array.from([...whole, 1]) });
    assert.throws(() => engine.submit(tooLong, new RecordingSink()), { code: 'invalid_value', field: 'generated_ids' });
  });
});

test('a stop string ends the sequence, across tokens', async () => {
  const letters = (id: number): string => String.fromCharCode(97 + (id % 26));
  const text = (await alone({ maxTokens: 30 })).map(letters).join('');
  const stop = text.slice(10, 13);
  const expected = text.indexOf(stop) + 3;
  const sink = new RecordingSink();
  await withEngine({ text: letters }, async ({ engine }) => {
    engine.submit(specOf({ stop: { maxTokens: 30, minTokens: 0, stopStrings: [stop], stopIds: [] } }), sink);
    await sink.done;
  });
  assert.equal(sink.ids.length, expected);
  assert.deepEqual(sink.result?.reason, { kind: 'stop', stopString: stop, stopTokenId: null });
});

test('prefill of one sequence and decode of another run side by side', async () => {
  await withEngine({}, async ({ engine, runner }) => {
    const first = new RecordingSink();
    engine.submit(specOf({ maxTokens: 2000, numPrompt: 30 }), first);
    while (first.ids.length < 3) await nextTurn();
    let open: () => void = () => undefined;
    runner.holdPrefill = new Promise((resolve) => (open = resolve));
    const second = new RecordingSink();
    engine.submit(specOf({ numPrompt: 100, maxTokens: 4 }), second);
    await turns(6);
    const before = first.ids.length;
    await turns(20);
    assert.ok(first.ids.length > before + 5, 'decode stands still while a prefill step is under way');
    runner.holdPrefill = null;
    open();
    await second.done;
    assert.ok(runner.maxTogether >= 2);
  });
});

test('when pages run out the last to arrive is computed again, with the same tokens', async () => {
  const given = [0, 1, 2, 3].map((i) => ({ numPrompt: 100 + i, maxTokens: 150 }));
  const expected = await Promise.all(given.map(alone));
  await withEngine({ numPages: 9 }, async ({ engine, counts }) => {
    const sinks = given.map((spec) => {
      const sink = new RecordingSink();
      engine.submit(specOf(spec), sink);
      return sink;
    });
    await Promise.all(sinks.map((sink) => sink.done));
    assert.ok(counts.preempted > 0);
    assert.deepEqual(
      sinks.map((sink) => sink.ids),
      expected,
    );
    assert.ok(sinks.every((sink) => sink.startedEpochs.length === 1));
  });
});

test('a slow reader pauses its own sequence and nobody else', async () => {
  const given = { numPrompt: 40, maxTokens: 60 };
  const expected = await alone(given);
  await withEngine({}, async ({ engine }) => {
    const slow = new RecordingSink();
    engine.submit(specOf(given), slow);
    while (slow.ids.length < 10) await nextTurn();
    slow.slow = true;
    await turns(4);
    const paused = slow.ids.length;
    const other = new RecordingSink();
    engine.submit(specOf(given), other);
    await other.done;
    assert.deepEqual(other.ids, expected);
    assert.equal(slow.ids.length, paused);
    slow.slow = false;
    engine.wake();
    await slow.done;
    assert.deepEqual(slow.ids, expected);
  });
});

test('a paused sequence gives its pages and slot to those that can go on', async () => {
  const given = { numPrompt: 40, maxTokens: 60 };
  const expected = await alone(given);
  await withEngine({ maxRunning: 1 }, async ({ engine, counts }) => {
    const slow = new RecordingSink();
    engine.submit(specOf(given), slow);
    while (slow.ids.length < 10) await nextTurn();
    slow.slow = true;
    const other = new RecordingSink();
    engine.submit(specOf(given), other);
    await other.done;
    assert.ok(counts.preempted >= 1);
    slow.slow = false;
    engine.wake();
    await slow.done;
    assert.deepEqual(slow.ids, expected);
  });
});

test('cancelling frees everything, whatever the sequence is doing', async () => {
  await withEngine({ maxRunning: 2 }, async ({ engine, runner }) => {
    const sinks = [0, 1, 2].map(() => new RecordingSink());
    const seqs = sinks.map((sink) => engine.submit(specOf({ numPrompt: 300, maxTokens: 1000 }), sink));
    let open: () => void = () => undefined;
    runner.holdPrefill = new Promise((resolve) => (open = resolve));
    await turns(3);
    for (const seq of seqs) engine.cancel(seq);
    assert.ok(engine.scheduler.pool.numUsed > 0, 'pages of a step in flight are not free');
    runner.holdPrefill = null;
    open();
    await turns(5);
    assert.equal(engine.scheduler.pool.numUsed, 0);
    assert.ok(sinks.every((sink) => sink.result === null && sink.error === null));
  });
});

test('a deadline ends a sequence with an error, and only that one', async () => {
  const clock = new FakeClock();
  await withEngine({ clock }, async ({ engine }) => {
    const late = new RecordingSink();
    const other = new RecordingSink();
    engine.submit(specOf({ maxTokens: 3000, deadlineAtMs: clock.monotonicMs() + 500 }), late);
    engine.submit(specOf({ maxTokens: 50 }), other);
    await turns(5);
    await clock.advance(600);
    await late.done;
    assert.equal(late.error?.code, 'deadline_exceeded');
    await other.done;
    assert.equal(other.ids.length, 50);
  });
});

test('the queue is bounded in length and in time', async () => {
  const clock = new FakeClock();
  await withEngine({ clock, maxRunning: 1, limits: { maxWaiting: 2 } }, async ({ engine }) => {
    const running = new RecordingSink();
    engine.submit(specOf({ maxTokens: 3000 }), running);
    await turns(3);
    const waiting = [new RecordingSink(), new RecordingSink()];
    for (const sink of waiting) engine.submit(specOf(), sink);
    assert.throws(() => engine.submit(specOf(), new RecordingSink()), { code: 'queue_full' });
    await clock.advance(31_000);
    await Promise.all(waiting.map((sink) => sink.done));
    assert.deepEqual(
      waiting.map((sink) => sink.error?.code),
      ['overloaded', 'overloaded'],
    );
    assert.equal(running.error, null);
  });
});

test('what can never fit is refused at once', async () => {
  await withEngine({ numPages: 4 }, ({ engine }) => {
    assert.throws(() => engine.submit(specOf({ numPrompt: 256 }), new RecordingSink()), { code: 'out_of_pages' });
    return Promise.resolve();
  });
});

test('without all experts sequences wait, then fail if nobody comes', async () => {
  const clock = new FakeClock();
  await withEngine({ clock }, async ({ engine, views }) => {
    const first = new RecordingSink();
    engine.submit(specOf({ maxTokens: 3000 }), first);
    await turns(5);
    views.set(false, clock.monotonicMs());
    await turns(3);
    const before = first.ids.length;
    const second = new RecordingSink();
    engine.submit(specOf({ maxTokens: 20 }), second);
    await clock.advance(5000);
    await turns(3);
    assert.equal(first.ids.length, before);
    views.set(true, clock.monotonicMs());
    await second.done;
    assert.equal(second.error, null);
    views.set(false, clock.monotonicMs());
    await clock.advance(10_100);
    await first.done;
    assert.equal(first.error?.code, 'expert_unavailable');
  });
});

test('a step that breaks off costs time, not the answer; one that breaks again without company fails the sequence', async () => {
  const given = { numPrompt: 90, maxTokens: 20 };
  const expected = await alone(given);
  const broken = { error: fail('native_failure', 'broke'), kind: 'again' as const };
  await withEngine({}, async ({ engine, runner }) => {
    const sink = new RecordingSink();
    runner.failNext.push(broken);
    engine.submit(specOf(given), sink);
    while (sink.ids.length < 5) await nextTurn();
    runner.failNext.push(broken);
    await sink.done;
    assert.deepEqual(sink.ids, expected);
    const doomed = new RecordingSink();
    runner.failNext.push(broken, broken);
    engine.submit(specOf(given), doomed);
    await doomed.done;
    assert.equal(doomed.error?.code, 'computation_failed');
  });
});

test('a more urgent request takes the place of a less urgent one', async () => {
  const given = { numPrompt: 60, maxTokens: 100 };
  const expected = await alone(given);
  await withEngine({ maxRunning: 1 }, async ({ engine }) => {
    const low = new RecordingSink();
    engine.submit(specOf(given), low);
    while (low.ids.length < 10) await nextTurn();
    const high = new RecordingSink();
    engine.submit(specOf({ ...given, priority: 5 }), high);
    await high.done;
    assert.equal(low.result, null);
    await low.done;
    assert.deepEqual(low.ids, expected);
  });
});

test('stopping ends everybody with the reason', async () => {
  const { engine } = pseudoEngine({});
  engine.start();
  const sink = new RecordingSink();
  engine.submit(specOf({ maxTokens: 5000 }), sink);
  await turns(4);
  await engine.stop(fail('not_ready', 'shutting down'));
  assert.equal(sink.error?.code, 'not_ready');
  assert.throws(() => engine.submit(specOf(), new RecordingSink()), { code: 'not_ready' });
  assert.equal(engine.scheduler.pool.numUsed, 0);
});

test('property: whatever arrives, pauses and is cancelled, everybody else gets the tokens it gets alone', async () => {
  const request = fc.record({
    numPrompt: fc.integer({ min: 1, max: 260 }),
    maxTokens: fc.integer({ min: 1, max: 120 }),
    priority: fc.integer({ min: -1, max: 1 }),
    after: fc.nat(40),
    cancelAfter: fc.option(fc.nat(60), { nil: null }),
    slowAt: fc.option(fc.nat(30), { nil: null }),
  });
  const known = new Map<string, Promise<number[]>>();
  const expectedOf = (given: { numPrompt: number; maxTokens: number }): Promise<number[]> => {
    const key = `${given.numPrompt}/${given.maxTokens}`;
    const tokens = known.get(key) ?? alone(given);
    known.set(key, tokens);
    return tokens;
  };
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 6, max: 14 }),
      fc.integer({ min: 1, max: 4 }),
      async (requests, numPages, maxRunning) => {
        await withEngine({ numPages, maxRunning, limits: { chunkTokens: 64 } }, async ({ engine }) => {
          await Promise.all(
            requests.map(async ({ after, cancelAfter, slowAt, ...given }) => {
              await turns(after);
              const sink = new RecordingSink();
              const seq = engine.submit(specOf(given), sink);
              if (cancelAfter !== null) {
                await turns(cancelAfter);
                engine.cancel(seq);
                return;
              }
              if (slowAt !== null) {
                await turns(slowAt);
                sink.slow = true;
                await turns(20);
                sink.slow = false;
                engine.wake();
              }
              await sink.done;
              assert.deepEqual(sink.ids, await expectedOf(given));
              assert.equal(sink.startedEpochs.length, 1);
            }),
          );
        });
      },
    ),
    { numRuns: 40 },
  );
});
