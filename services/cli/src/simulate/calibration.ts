import type { Measurement } from '@guildhall/bench/calibrate';
import { fail } from '@guildhall/common';
import { ROUTER_DEFAULTS } from './cluster/router.ts';
import type { WorkerKind } from './model/machines.ts';
import { shapeNamed } from './model/shape.ts';
import { Simulation, type SimulationOptions } from './simulation.ts';

/** Times of a machine's processes, microseconds of one core, fitted to a cluster that was measured. */
export interface Calibration {
  /** Of a worker for a message and for an expert row. */
  usPerMessage: number;
  usPerRow: number;
  /** Of the router's event loop for a call. */
  usPerCall: number;
  /** Of the router for one layer of a micro-batch, and for each of its rows. */
  usPerLayer: number;
  usPerDenseRow: number;
  /** Of the client for a token. */
  usPerToken: number;
  /** One way, besides what the processes compute. */
  latencyUs: number;
}

/** A measurement beside what the simulator says of it. */
export interface Comparison {
  measured: Measurement;
  predicted: { tokensPerSecond: number; interTokenMs: { p50: number; p99: number } };
  /** Relative error of the predicted rate. */
  error: number;
  /** The parameters were fitted to it. */
  fitted: boolean;
}

/**
 * Fits the parameters to measurements of one cluster with different numbers of streams. With one stream at a time nothing
 * waits for anything else, so that its wall times tell the parts of a step apart; CPU times tell the rest.
 * Errors: `config_invalid` without a measurement of one stream and another of more.
 */
export function calibrate(measurements: readonly Measurement[]): Calibration {
  const one = measurements.find(({ streams }) => streams === 1);
  const most = measurements.reduce<Measurement | null>((a, b) => (a === null || b.streams > a.streams ? b : a), null);
  if (one === undefined || most === null || most.streams === 1) {
    throw fail('config_invalid', 'calibration needs a measurement of one stream and one of several');
  }
  const { numLayers, topK } = shapeNamed('tiny');
  const worker = plane(measurements.map((m) => [m.messages, m.rows, 1000 * m.workerCpuMs]));
  const layers = one.steps * numLayers;
  const usPerLayer = Math.max(1, (1000 * (one.stepMs - numLayers * one.layerMs)) / numLayers);
  const usPerCall = Math.max(1, (1000 * one.routerCpuMs - layers * usPerLayer) / one.messages);
  const passes = most.steps * microBatchesOf(most.streams) * numLayers;
  const restUs = 1000 * most.routerCpuMs - passes * usPerLayer - most.messages * usPerCall;
  const perLayer = one.messages / layers;
  const busyUs = usPerCall * (perLayer + 1) * 0.5 + worker.first + (worker.second * topK) / perLayer;
  return {
    usPerMessage: worker.first,
    usPerRow: worker.second,
    usPerCall,
    usPerLayer,
    usPerDenseRow: Math.max(0, restUs / (most.tokens * numLayers)),
    usPerToken: (1000 * most.clientCpuMs) / most.tokens,
    latencyUs: Math.max(0, (1000 * one.layerMs - busyUs) / 2),
  };
}

function microBatchesOf(streams: number): number {
  const { microBatches, microBatchMin } = ROUTER_DEFAULTS;
  return Math.max(1, Math.min(microBatches, Math.floor(streams / microBatchMin)));
}

/** Least squares for z = first x + second y, neither below zero; all points count alike, whatever their size. */
function plane(points: readonly (readonly [number, number, number])[]): { first: number; second: number } {
  let [xx, xy, yy, x, y] = [0, 0, 0, 0, 0];
  for (const [a, b, c] of points) {
    const [u, v] = [a / c, b / c];
    [xx, xy, yy, x, y] = [xx + u * u, xy + u * v, yy + v * v, x + u, y + v];
  }
  const determinant = xx * yy - xy * xy;
  const first = (x * yy - y * xy) / determinant;
  const second = (y * xx - x * xy) / determinant;
  if (first >= 0 && second >= 0) return { first, second };
  return first < 0 ? { first: 0, second: y / yy } : { first: x / xx, second: 0 };
}

/** The simulation of a measured cluster: all of its processes, and the client, on one machine with `cores` cores. */
export function calibratedOptions(
  { usPerMessage, usPerRow, usPerCall, usPerLayer, usPerDenseRow, usPerToken, latencyUs }: Calibration,
  { workers, streams, stepMs }: Measurement,
  cores: number,
): SimulationOptions {
  const kind: WorkerKind = {
    name: 'measured',
    bytesPerSecond: Infinity,
    flopsPerSecond: Infinity,
    memoryBytes: 1e9,
    usPerMessage,
    usPerRow,
    jitter: 0.2,
    stragglers: 0,
    stragglerFactor: 1,
    loadBytesPerSecond: 1e9,
    numericsId: 'measured',
  };
  return {
    shape: shapeNamed('tiny'),
    workers: Array.from({ length: workers }, () => kind),
    routers: 1,
    times: {
      mixerMs: (_layer, { rows }) => (usPerLayer + rows * usPerDenseRow) / 1000,
      sharedMs: () => 0,
      headMs: () => 0,
    },
    routerCores: cores,
    routerLink: Infinity,
    workerLink: Infinity,
    transport: { name: 'measured', usPerCall, usPerKib: 0, latencyUs },
    settings: ROUTER_DEFAULTS,
    workload: { streams, ratePerSecond: null, promptTokens: 16, answerTokens: 100_000, spread: 0, cachedContext: 0 },
    gate: { skew: 0.5, affinity: 0, topics: 1, topicExperts: 4 },
    copies: 1,
    mostCopies: 1,
    leaseMs: 6000,
    faults: [],
    sharedCores: cores,
    clientMsPerToken: usPerToken / 1000,
    warmupMs: 200,
    durationMs: Math.max(500, 100 * stepMs),
    binMs: 250,
    seed: 1,
  };
}

/** Measurements beside predictions by parameters that are fitted to the ones with `fitWorkers` workers. */
export async function compare(
  measurements: readonly Measurement[],
  fitWorkers: number,
  cores: number,
): Promise<{ calibration: Calibration; comparisons: Comparison[] }> {
  const calibration = calibrate(measurements.filter(({ workers }) => workers === fitWorkers));
  const comparisons: Comparison[] = [];
  for (const measured of measurements) {
    const { tokensPerSecond, interTokenMs } = await new Simulation(
      calibratedOptions(calibration, measured, cores),
    ).run();
    const error = tokensPerSecond / measured.tokensPerSecond - 1;
    comparisons.push({
      measured,
      predicted: { tokensPerSecond, interTokenMs },
      error,
      fitted: measured.workers === fitWorkers,
    });
  }
  return { calibration, comparisons };
}
