import { ROUTER_DEFAULTS } from '../cluster/router.ts';
import { ROUTER_KINDS, rooflineTimes, type WorkerKind } from '../model/machines.ts';
import { shapeNamed } from '../model/shape.ts';
import type { SimulationOptions } from '../simulation.ts';

/** A worker whose times follow from its figures exactly. */
export const EXACT_WORKER: WorkerKind = {
  name: 'exact',
  bytesPerSecond: 1e10,
  flopsPerSecond: 1e11,
  memoryBytes: 1e9,
  usPerMessage: 50,
  usPerRow: 3,
  jitter: 0,
  stragglers: 0,
  stragglerFactor: 1,
  loadBytesPerSecond: 1e9,
  numericsId: 'exact',
};

/** A small cluster of `workers` alike, with whatever a test wants otherwise. */
export function smallCluster(workers: number, given: Partial<SimulationOptions> = {}): SimulationOptions {
  const shape = shapeNamed('tiny');
  return {
    shape,
    workers: Array.from({ length: workers }, () => EXACT_WORKER),
    routers: 1,
    times: rooflineTimes(shape, ROUTER_KINDS['cpu'] as (typeof ROUTER_KINDS)[string]),
    routerCores: 2,
    routerLink: 1e9,
    workerLink: 1e9,
    transport: { name: 'test', usPerCall: 20, usPerKib: 0.2, latencyUs: 50 },
    settings: { ...ROUTER_DEFAULTS, maxRunning: 16 },
    workload: {
      streams: 8,
      ratePerSecond: null,
      promptTokens: 16,
      answerTokens: 60,
      spread: 0.5,
      cachedContext: 0,
    },
    gate: { skew: 0.7, affinity: 0.3, topics: 4, topicExperts: 6 },
    copies: 2,
    mostCopies: 2,
    leaseMs: 500,
    faults: [],
    sharedCores: null,
    clientMsPerToken: 0,
    warmupMs: 50,
    durationMs: 1500,
    binMs: 50,
    seed: 7,
    ...given,
  };
}
