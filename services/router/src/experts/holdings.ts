import { fail } from '@guildhall/common';
import type { control } from '@guildhall/proto';

/** Shape of the experts of a model. */
export interface ExpertShape {
  numLayers: number;
  numExperts: number;
}

/** Experts that one worker holds: byte layer*numExperts+expert is 1 if it does. */
export type Holdings = Uint8Array;

/** Holdings from what a worker says; numbers outside of the model are passed over. */
export function holdingsOf(
  layers: readonly { layer: number; experts: readonly number[] }[],
  shape: ExpertShape,
): Holdings {
  const held = new Uint8Array(shape.numLayers * shape.numExperts);
  for (const { layer, experts } of layers) {
    if (layer >= shape.numLayers) continue;
    for (const expert of experts) {
      if (expert < shape.numExperts) held[layer * shape.numExperts + expert] = 1;
    }
  }
  return held;
}

/** A placement, read: workers of (layer, expert) are ids[list[start[i]]] up to the next start, i = layer*E+expert. */
export interface Assignment {
  epoch: number;
  ids: readonly string[];
  start: Int32Array;
  list: Int32Array;
}

/** Errors: `invalid_value` when its tables do not fit together or not the model. */
export function assignmentOf(placement: control.Placement, shape: ExpertShape): Assignment {
  const { numLayers, numExperts } = shape;
  const layers = [...placement.layers].sort((a, b) => a.layer - b.layer);
  if (layers.length !== numLayers || layers.some((entry, layer) => entry.layer !== layer)) {
    throw fail('invalid_value', `the placement has ${layers.length} layers, the model ${numLayers}`, {
      field: 'layers',
    });
  }
  const start = new Int32Array(numLayers * numExperts + 1);
  const list: number[] = [];
  for (const { layer, counts, workers } of layers) {
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (counts.length !== numExperts || total !== workers.length) {
      const message = `layer ${layer} has ${counts.length} experts with ${total} workers, expected ${numExperts} with ${workers.length}`;
      throw fail('invalid_value', message, { field: 'counts' });
    }
    if (workers.some((worker) => worker >= placement.workers.length)) {
      throw fail('invalid_value', `layer ${layer} names a worker that is not in the placement`, { field: 'workers' });
    }
    const base = list.length;
    let sum = 0;
    for (const [expert, count] of counts.entries()) {
      sum += count;
      start[layer * numExperts + expert + 1] = base + sum;
    }
    for (const worker of workers) list.push(worker);
  }
  return { epoch: Number(placement.epoch), ids: placement.workers, start, list: Int32Array.from(list) };
}
