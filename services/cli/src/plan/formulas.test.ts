import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  distinctExperts,
  slowestEntries,
  tokenLayerBytes,
  workersPerToken,
  workersReached,
  workMs,
} from './formulas.ts';

const QWEN = { numExperts: 512, topK: 10 };
const near = (got: number, want: number, within: number): void =>
  assert.ok(Math.abs(got / want - 1) <= within, `${got} is not ${want}`);

describe('workers per token', () => {
  it('are those of the hypergeometric formula with one copy', () => {
    for (const [workers, m] of [
      [4, 3.78],
      [8, 5.92],
      [16, 7.66],
      [32, 8.77],
      [64, 9.4],
    ] as const) {
      assert.equal(workersPerToken({ ...QWEN, workers, copies: 1 }).toFixed(2), m.toFixed(2));
    }
  });

  it('are as many as a choice that joins workers reaches, drawn at random', () => {
    // The same rule, played out: each expert has its copies on random workers.
    const [workers, copies, draws] = [8, 2, 20_000];
    let state = 12345;
    const next = (): number => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) / 2 ** 32;
    let total = 0;
    for (let i = 0; i < draws; i++) {
      const used = new Set<number>();
      for (let expert = 0; expert < QWEN.topK; expert++) {
        const first = Math.floor(next() * workers);
        const second = (first + 1 + Math.floor(next() * (workers - 1))) % workers;
        if (!used.has(first) && !used.has(second)) used.add(first);
      }
      total += used.size;
    }
    near(workersPerToken({ ...QWEN, workers, copies }), total / draws, 0.02);
  });

  it('stay between one and both k and N, grow with N and fall with copies', () => {
    const spread = fc.record({
      numExperts: fc.integer({ min: 16, max: 512 }),
      topK: fc.integer({ min: 1, max: 10 }),
      workers: fc.integer({ min: 1, max: 16 }),
      copies: fc.integer({ min: 1, max: 4 }),
    });
    fc.assert(
      fc.property(spread, (one) => {
        const m = workersPerToken(one);
        assert.ok(m >= Math.min(1, one.workers) - 1e-9 && m <= Math.min(one.topK, one.workers) + 1e-9);
        assert.ok(workersPerToken({ ...one, workers: one.workers + 1 }) >= m - 1e-9);
        if (one.copies > 1) assert.ok(workersPerToken({ ...one, copies: one.copies + 1 }) <= m + 1e-9);
        const reached = workersReached(one.workers, m, 7);
        assert.ok(reached >= m - 1e-9 && reached <= one.workers + 1e-9);
        assert.ok(slowestEntries(one, 5) >= (5 * one.topK) / one.workers - 1e-9);
      }),
    );
  });
});

describe('bytes of a token over 60 layers', () => {
  const layers = 60;
  const both = ({ out, back }: { out: number; back: number }): number => (layers * (out + back)) / 1e6;
  const m = (workers: number): number => workersPerToken({ ...QWEN, workers, copies: 1 });

  it('are 9.87 MB where each expert gets a copy in BF16', () => {
    near(both(tokenLayerBytes(10, 10, { out: 8256, outEntry: 0, back: 8192 }, 'exact')), 9.87, 0.001);
  });

  // FP8 rows with their scales out, BF16 partial sums back.
  for (const [workers, megabytes] of [
    [4, 2.83],
    [8, 4.43],
    [16, 5.73],
    [64, 7.04],
  ] as const) {
    it(`are ${megabytes} MB with ${workers} workers, FP8 out and sums back`, () => {
      near(both(tokenLayerBytes(m(workers), 10, { out: 4288, outEntry: 0, back: 8192 }, 'partial')), megabytes, 0.003);
    });
  }

  it('are 3.02 MB where sums come back in FP8 too', () => {
    near(both(tokenLayerBytes(m(8), 10, { out: 4288, outEntry: 0, back: 4224 }, 'partial')), 3.02, 0.003);
  });
});

describe('work', () => {
  const on = { bytesPerSecond: 1e9, flopsPerSecond: 1e12 };

  it('takes as long as the longer part at least, and both together at most', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 1e12, noNaN: true }),
        fc.double({ min: 1, max: 1e15, noNaN: true }),
        (bytes, flops) => {
          const [reading, computing] = [bytes / 1e6, flops / 1e9];
          const ms = workMs(bytes, flops, on);
          assert.ok(ms >= Math.max(reading, computing) * (1 - 1e-9));
          assert.ok(ms <= (reading + computing) * (1 + 1e-9));
        },
      ),
    );
  });

  it('reads as many different experts as draws hit', () => {
    assert.equal(distinctExperts(1, 5), 1);
    near(distinctExperts(64, 1), 1, 1e-9);
    near(distinctExperts(512, 80), 74.1, 0.01);
    assert.ok(distinctExperts(8, 1e6) <= 8);
  });
});
