import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail, FakeClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { ExpertLoads, LoadReporter } from './expert-loads.ts';
import { SetSamples, SETS_PER_LAYER } from './set-samples.ts';

const SHAPE = { numLayers: 2, numExperts: 8, topK: 2 };

/** Sets of two neighbours: token t has (t, t+1) modulo 8. */
function idsOf(first: number, numTokens: number): Int32Array {
  return Int32Array.from({ length: numTokens * 2 }, (_, i) => (first + (i >> 1) + (i & 1)) % 8);
}

test('a report counts every token, names the sets, and is settled once it was taken', () => {
  const loads = new ExpertLoads(SHAPE);
  assert.equal(loads.snapshot(), null);
  loads.add(0, Int32Array.of(0, 1, 6, 7, 99), 4);
  loads.add(1, Int32Array.of(3, 2), 2);
  const counted = loads.snapshot();
  assert.ok(counted);
  // What comes between the report and its receipt belongs to the next one.
  loads.add(0, Int32Array.of(5, 4), 2);
  const head = { reporter: 'router-1', epoch: 3, intervalMs: 4999.6, sequence: 9 };
  assert.deepEqual(loads.report(counted, head), {
    reporter: 'router-1',
    epoch: 3n,
    intervalMs: 5000n,
    topK: 2,
    steps: 1n,
    sequence: 9n,
    layers: [
      { layer: 0, tokens: [1n, 1n, 0n, 0n, 0n, 0n, 1n, 1n], samples: Buffer.from([0, 0, 1, 0, 6, 0, 7, 0]) },
      { layer: 1, tokens: [0n, 0n, 1n, 1n, 0n, 0n, 0n, 0n], samples: Buffer.from([3, 0, 2, 0]) },
    ],
  });
  loads.settle(counted);
  const rest = loads.snapshot();
  assert.deepEqual([...(rest?.counts ?? [])].slice(0, 8), [0, 0, 0, 0, 1, 1, 0, 0]);
  assert.equal(rest?.steps, 1);
});

test('the sample holds all of few tokens, and of many a uniform choice of whole sets', () => {
  const samples = new SetSamples(SHAPE, 7);
  samples.add(0, idsOf(0, 5), 5);
  assert.deepEqual(samples.sets(0), Uint16Array.of(0, 1, 1, 2, 2, 3, 3, 4, 4, 5));
  assert.equal(samples.sets(1).length, 0);
  samples.reset();
  assert.equal(samples.sets(0).length, 0);
  // Which of 4,096 tokens were taken shows in the first expert of a set: each eighth of the stream has its own.
  const taken = new Float64Array(8);
  for (let round = 0; round < 200; round++) {
    samples.reset();
    for (let eighth = 0; eighth < 8; eighth++) {
      for (const batch of [1, 7, 120, 384]) {
        const ids = Int32Array.from({ length: batch * 2 }, (_, i) => (eighth + (i & 1)) % 8);
        samples.add(0, ids, batch);
      }
    }
    const sets = samples.sets(0);
    assert.equal(sets.length, SETS_PER_LAYER * 2);
    for (let i = 0; i < sets.length; i += 2) {
      const first = sets[i] as number;
      assert.equal(sets[i + 1], (first + 1) % 8, 'sets stay together');
      taken[first] = (taken[first] as number) + 1;
    }
  }
  // 1,600 are expected of each eighth, with a standard deviation of about 37.
  for (const [eighth, count] of taken.entries()) assert.ok(Math.abs(count - 1600) < 200, `${eighth}: ${count}`);
});

test('what Redis did not take is in the next report, which has the same number', async () => {
  const loads = new ExpertLoads(SHAPE);
  const clock = new FakeClock();
  const sent: control.LoadReport[] = [];
  let away = true;
  const store = {
    report: async (_reporter: string, bytes: Uint8Array): Promise<void> => {
      if (away) throw fail('redis_unavailable', 'away');
      sent.push(control.LoadReport.decode(bytes));
    },
  };
  const logger = silentLogger();
  const reporter = new LoadReporter({ loads, store, reporter: 'r', epoch: () => 4, everyMs: 1000, clock, logger });
  reporter.start();
  await clock.advance(1000);
  loads.add(0, Int32Array.of(0, 1), 2);
  await clock.advance(1000);
  away = false;
  loads.add(0, Int32Array.of(0, 1), 2);
  await clock.advance(1000);
  loads.add(0, Int32Array.of(2, 3), 2);
  await clock.advance(1000);
  await clock.advance(1000);
  reporter.stop();
  assert.deepEqual(
    sent.map(({ sequence, steps, intervalMs }) => [sequence, steps, intervalMs]),
    [
      [1n, 2n, 3000n],
      [2n, 1n, 1000n],
    ],
  );
  assert.deepEqual(sent[0]?.layers[0]?.tokens.slice(0, 2), [2n, 2n]);
  assert.equal(clock.pending, 0);
});
