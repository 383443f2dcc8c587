import type { Lane } from '@guildhall/native';
import type { StepDispatch } from '@guildhall/router/scheduling';
import type { SimThread } from '../kernel/host.ts';
import type { Random } from '../kernel/random.ts';
import type { SimClock } from '../kernel/sim-clock.ts';
import type { SyntheticGate } from '../model/gate.ts';
import type { DenseTimes, DenseWork } from '../model/machines.ts';
import type { ModelShape } from '../model/shape.ts';
import type { Dispatcher } from './dispatcher.ts';
import { SimStep } from './step-buffers.ts';

export interface PassParts {
  clock: SimClock;
  shape: ModelShape;
  gate: SyntheticGate;
  random: Random;
  times: DenseTimes;
  /** Where the router computes. */
  compute: SimThread;
  dispatcher: Dispatcher;
}

export interface PassWork extends DenseWork {
  lane: Lane;
  step: number;
  microBatch: number;
  /** Rows whose logits are sampled. */
  logits: number;
  /** Sequence of each row, by its index, and what each sequence is about. */
  owner: Int32Array;
  topics: Int32Array;
  /** Asked before each layer: null to go on, or when to. */
  checkpoint: (() => Promise<void> | null) | null;
}

/** Runs one micro-batch through all layers: mixer and gate, then the rows are away while the shared expert computes. */
export async function runPass(parts: PassParts, work: PassWork): Promise<void> {
  const { shape, times, dispatcher, clock } = parts;
  const { rows, lane, owner, topics } = work;
  const step = new SimStep(clock, rows, shape.topK, shape.numExperts, dispatcher.counts);
  const pin = dispatcher.views.pin();
  const dispatch = dispatcher.experts.begin(pin.view, lane, { owner, numSequences: topics.length });
  try {
    for (let layer = 0; layer < shape.numLayers; layer++) {
      const pause = work.checkpoint?.() ?? null;
      if (pause !== null) await pause;
      await compute(parts, lane, times.mixerMs(layer, work));
      drawExperts(parts, work, layer, step);
      await Promise.all([send(dispatch, step, work, layer), compute(parts, lane, times.sharedMs(layer, work))]);
    }
    await compute(parts, lane, times.headMs(work.logits));
  } finally {
    dispatch.close();
    pin.release();
  }
}

function send(dispatch: StepDispatch, buffers: SimStep, work: PassWork, layer: number): Promise<void> {
  const { step, microBatch, lane, rows } = work;
  const ctx = { step, microBatch, lane, signal: null, deadlineMs: null, traceparent: null };
  return dispatch.dispatch(layer, buffers, rows, ctx).done;
}

function compute({ compute: thread, clock }: PassParts, lane: Lane, ms: number): Promise<void> {
  return new Promise((resolve) =>
    thread.submit(lane, ms, () => {
      clock.settle();
      resolve();
    }),
  );
}

function drawExperts(
  { gate, random, shape }: PassParts,
  { rows, owner, topics }: PassWork,
  layer: number,
  step: SimStep,
) {
  for (let row = 0; row < rows; row++) {
    gate.draw(random, layer, topics[owner[row] as number] as number, step.topkIds, row * shape.topK);
  }
}
