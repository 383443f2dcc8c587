import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Distribution } from './distribution.ts';
import { PointStatistics } from './point-statistics.ts';
import type { RequestRecord } from './request-record.ts';
import { Sample } from './sample.ts';
import { meets, parseSlo } from './slo.ts';
import { TimeBins } from './time-bins.ts';

test('quantiles of a few values are those that NumPy gives', () => {
  const distribution = new Distribution();
  for (const value of [4, 1, 3, 2]) distribution.add(value);
  // numpy.quantile([1, 2, 3, 4], [0, 0.25, 0.5, 0.9, 1])
  const quantiles = [0, 0.25, 0.5, 0.9, 1].map((share) => distribution.quantile(share));
  assert.deepEqual(quantiles, [1, 1.75, 2.5, 3.7, 4]);
  assert.equal(distribution.mean, 2.5);
  distribution.add(100);
  assert.equal(distribution.quantile(0.5), 3, 'a value that comes after a quantile was asked counts');
  assert.equal(new Distribution().summary().p50, null);
});

test('a million values keep their quantiles within half a percent, in bounded memory', () => {
  const distribution = new Distribution();
  // Evenly over (0, 1000]: the quantile of a share is a thousand times the share.
  for (let index = 1; index <= 1_000_000; index++) distribution.add(((index * 387_721) % 1_000_000) / 1000 + 0.001);
  for (const share of [0.01, 0.1, 0.5, 0.9, 0.99, 0.999]) {
    const value = distribution.quantile(share) as number;
    assert.ok(Math.abs(value / (1000 * share) - 1) < 0.005, `${share}: ${value}`);
  }
  assert.equal(distribution.count, 1_000_000);
  assert.equal(distribution.quantile(1), 1000);
  const { cdf } = distribution.summary();
  assert.ok(cdf.length < 100);
  assert.ok(
    cdf.every(([value, share], index) => index === 0 || (value >= cdf[index - 1]![0] && share > cdf[index - 1]![1])),
  );
});

test('bins of time lose no count, however long it takes', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1e7, noNaN: true }), { maxLength: 200 }), (times) => {
      const bins = new TimeBins();
      for (const atMs of times) bins.add(atMs, 'tokens');
      assert.equal(
        bins.bins.reduce((sum, { tokens }) => sum + tokens, 0),
        times.length,
      );
      assert.ok(bins.bins.length <= 480);
      const last = times.length === 0 ? 0 : Math.max(...times);
      assert.ok(bins.bins.length * bins.widthMs >= last);
    }),
  );
});

test('objectives are read, and what they bound is judged', () => {
  assert.deepEqual(parseSlo('ttft:500,tpot:50.5'), { ttft: 500, tpot: 50.5 });
  for (const bad of ['', 'ttft', 'ttft:', 'ttft:0', 'ttft:-1', 'ttft:x', 'p99:5', 'ttft:1:2', 'ttft:500,'])
    assert.throws(() => parseSlo(bad), { code: 'config_invalid', field: '--slo' }, bad);
  const times = { ttft: 500, tpot: null, e2e: 900, gap: 80 };
  assert.ok(meets({ ttft: 500, tpot: 1 }, times), 'the bound itself is kept, and a single token has no TPOT');
  assert.ok(!meets({ ttft: 499.9 }, times));
  assert.ok(!meets({ ttft: 500, gap: 79 }, times));
});

function record(change: Partial<RequestRecord>): RequestRecord {
  return {
    dueMs: 1000,
    sentMs: 1000,
    firstTokenMs: 1100,
    lastTokenMs: 1300,
    endMs: 1310,
    promptTokens: 40,
    cachedTokens: 10,
    outputTokens: 5,
    counted: true,
    chunks: 3,
    gapsMs: [50, 150],
    failure: null,
    ...change,
  };
}

test('a point adds up: rates, goodput, attainment, errors and what was aborted', () => {
  const point = new PointStatistics({ kind: 'rate', perSecond: 2 }, { ttft: 150, tpot: 60 }, 1000);
  for (let index = 0; index < 5; index++) point.started(1000);
  for (const atMs of [1100, 1150, 1300]) point.text(atMs);
  point.ended(record({}));
  // Late by a second: its times count from when it was due.
  point.ended(record({ sentMs: 2000, firstTokenMs: 2100, lastTokenMs: 2300, endMs: 2310, counted: false }));
  point.ended(record({ endMs: 3000, failure: { kind: 'timeout', message: 'after 2000 ms' } }));
  point.ended(record({ endMs: 3000, failure: { kind: 'timeout', message: 'after 2000 ms' } }));
  point.ended(record({ endMs: 3000, failure: 'aborted' }));
  const result = point.result();
  assert.deepEqual(result.requests, { sent: 5, succeeded: 2, failed: 2, aborted: 1 });
  assert.equal(result.durationS, 2);
  assert.equal(result.requestsPerSecond, 1);
  assert.equal(result.outputTokensPerSecond, 5);
  assert.equal(result.totalTokensPerSecond, 45);
  assert.equal(result.goodputPerSecond, 0.5);
  assert.equal(result.attainment, 0.25, 'failed requests count, aborted ones do not');
  assert.deepEqual([result.ttftMs.min, result.ttftMs.max], [100, 1100]);
  assert.deepEqual([result.tpotMs.min, result.tpotMs.max], [50, 50], '200 ms over the four tokens after the first');
  assert.deepEqual([result.itlMs.count, result.itlMs.mean], [4, 100]);
  assert.deepEqual([result.e2eMs.min, result.e2eMs.max], [310, 1310]);
  assert.equal(result.lateMs.max, 1000);
  assert.deepEqual(result.errors, [{ kind: 'timeout', count: 2, examples: ['after 2000 ms'] }]);
  assert.deepEqual(result.tokens, { prompt: 80, cached: 20, output: 10, countedBy: 'both', perChunk: 10 / 6 });
  assert.equal(result.concurrency.max, 5);
  assert.equal(
    result.series.tokens.reduce((sum, count) => sum + count, 0),
    3,
  );
  assert.equal(result.series.inFlight[0], 5);
});

test('a sample keeps each value with the same chance', () => {
  const sample = new Sample<number>(1000);
  for (let value = 0; value < 100_000; value++) sample.add(value);
  assert.equal(sample.values.length, 1000);
  assert.equal(new Set(sample.values).size, 1000);
  const mean = sample.values.reduce((sum, value) => sum + value, 0) / 1000;
  // The deviation of such a mean is 913.
  assert.ok(Math.abs(mean - 50_000) < 4000, `mean ${mean}`);
  assert.ok(sample.values.filter((value) => value >= 90_000).length > 50);
});
