import fc from 'fast-check';
import type { Assignment, PlanInput, PlanWorker } from '../types.ts';

/** Weights under which small tests see moves. */
export const WEIGHTS = { threshold: 0.1, usPerExtraWorker: 5, usPerMovedMib: 0.01 };

const MIB = 1024 * 1024;

/** A worker with room for so many experts. */
export function worker(id: string, slots: number, more: Partial<PlanWorker> = {}): PlanWorker {
  return {
    id,
    memoryBytes: slots * MIB,
    usPerRow: 2,
    usPerMessage: 20,
    numericsId: 'n',
    failureDomain: '',
    draining: false,
    can: null,
    ...more,
  };
}

/** An input with an even load unless `more` says otherwise; experts are 1 MiB. */
export function inputOf(workers: PlanWorker[], more: Partial<PlanInput> = {}): PlanInput {
  const { numLayers = 4, numExperts = 16 } = more;
  return {
    numLayers,
    numExperts,
    topK: 2,
    expertBytes: MIB,
    workers,
    loads: new Float64Array(numLayers * numExperts),
    samples: null,
    batchTokens: 32,
    current: null,
    held: () => false,
    minReplicas: 1,
    maxReplicas: 4,
    allowMixedNumerics: false,
    weights: WEIGHTS,
    ...more,
  };
}

const shape = fc.record({
  numLayers: fc.integer({ min: 1, max: 4 }),
  numExperts: fc.integer({ min: 1, max: 20 }),
  minReplicas: fc.integer({ min: 1, max: 3 }),
  maxReplicas: fc.integer({ min: 3, max: 5 }),
  allowMixedNumerics: fc.boolean(),
});

const names = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,3}$/), { minLength: 1, maxLength: 7 });

const cluster = names.chain((ids) =>
  fc.tuple(
    ...ids.map((id) =>
      fc
        .record({
          slots: fc.integer({ min: 0, max: 80 }),
          usPerRow: fc.constantFrom(1, 1, 1, 2, 7),
          usPerMessage: fc.constantFrom(1, 10, 40),
          numericsId: fc.constantFrom('n', 'n', 'n', 'm'),
          failureDomain: fc.constantFrom('', '', 'x', 'y'),
          draining: fc.constantFrom(false, false, false, true),
          layers: fc.constantFrom(9, 9, 9, 2),
        })
        .map(({ slots, layers, ...more }) =>
          worker(id, slots, { ...more, can: layers === 9 ? null : (layer) => layer < layers }),
        ),
    ),
  ),
);

/** Clusters of any kind with any load, and a source of further numbers. */
export const anyInput = fc
  .tuple(shape, cluster, fc.infiniteStream(fc.nat(400)), fc.boolean())
  .map(([size, workers, numbers, even]) => {
    const draw = (): number => numbers.next().value ?? 0;
    const loads = Float64Array.from({ length: size.numLayers * size.numExperts }, () => (even ? 0 : draw() ** 2));
    return { input: inputOf(workers, { ...size, loads }), draw };
  });

/** A placement that may be anything: of workers that are there and of one that is gone. */
export function lottery(input: PlanInput, draw: () => number): Assignment {
  const workers = [...input.workers.map(({ id }) => id), 'gone'];
  return {
    workers,
    holders: Array.from({ length: input.numLayers }, () =>
      Array.from({ length: input.numExperts }, () =>
        [...new Set([draw() % workers.length, draw() % workers.length])].sort((a, b) => a - b),
      ),
    ),
  };
}
