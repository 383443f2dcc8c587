import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Measurement } from '@guildhall/bench/calibrate';
import { calibrate, type Calibration, calibratedOptions, compare } from './calibration.ts';

const LAYERS = 8;
const TOP_K = 2;

const TRUE: Calibration = {
  usPerMessage: 90,
  usPerRow: 8,
  usPerCall: 60,
  usPerLayer: 120,
  usPerDenseRow: 15,
  usPerToken: 50,
  latencyUs: 40,
};

/** What a cluster of 2 workers with these times would be measured as, by arithmetic. */
function measured(streams: number, microBatches: number, perLayer: number): Measurement {
  const steps = 1000;
  const passes = steps * microBatches * LAYERS;
  const messages = passes * perLayer;
  const tokens = steps * streams;
  const rows = tokens * LAYERS * TOP_K;
  const workerUs = TRUE.usPerMessage + (TRUE.usPerRow * TOP_K) / perLayer;
  const layerUs = TRUE.usPerCall * (perLayer + 1) * 0.5 + workerUs + 2 * TRUE.latencyUs;
  const routerUs =
    passes * TRUE.usPerLayer + messages * TRUE.usPerCall + (streams > 1 ? tokens * LAYERS * TRUE.usPerDenseRow : 0);
  return {
    workers: 2,
    streams,
    seconds: 1,
    tokens,
    tokensPerSecond: tokens,
    interTokenMs: { p50: 1, p99: 1 },
    steps,
    stepMs: (LAYERS * (layerUs + TRUE.usPerLayer)) / 1000,
    layerMs: layerUs / 1000,
    messages,
    rows,
    routerCpuMs: routerUs / 1000,
    workerCpuMs: (messages * TRUE.usPerMessage + rows * TRUE.usPerRow) / 1000,
    workerComputeMs: 0,
    clientCpuMs: (tokens * TRUE.usPerToken) / 1000,
    otherCores: 0,
  };
}

describe('calibration', () => {
  const measurements = [measured(1, 1, 1.5), measured(4, 1, 1.9), measured(16, 2, 2)];

  it('finds the times that measurements were made from', () => {
    const found = calibrate(measurements);
    for (const [name, value] of Object.entries(TRUE)) {
      const got = found[name as keyof Calibration];
      assert.ok(Math.abs(got / value - 1) < 1e-6, `${name}: ${got} instead of ${value}`);
    }
  });

  it('needs one stream, and several', () => {
    assert.throws(() => calibrate(measurements.slice(0, 1)), /one stream and one of several/);
    assert.throws(() => calibrate(measurements.slice(1)), /one stream and one of several/);
  });

  it('gives predictions for other clusters, and their errors', async () => {
    const one = measured(1, 1, 1.5);
    const { comparisons } = await compare([...measurements, { ...one, workers: 4 }], 2, 2);
    assert.deepEqual(
      comparisons.map(({ fitted }) => fitted),
      [true, true, true, false],
    );
    for (const { measured: real, predicted, error } of comparisons) {
      assert.ok(predicted.tokensPerSecond > 0);
      assert.equal(error, predicted.tokensPerSecond / real.tokensPerSecond - 1);
    }
    // A single stream on idle cores takes the time that its parts do.
    const stepMs = comparisons[0]?.predicted.interTokenMs.p50 ?? 0;
    assert.ok(Math.abs(stepMs / one.stepMs - 1) < 0.1, `${stepMs} ms instead of ${one.stepMs}`);
  });

  it('puts every process on one machine', () => {
    const options = calibratedOptions(TRUE, measured(16, 2, 2), 2);
    assert.equal(options.sharedCores, 2);
    assert.equal(options.workers.length, 2);
    assert.equal(options.clientMsPerToken, 0.05);
  });
});
