import type { Lane } from '@guildhall/native';
import type { SimThread } from '../kernel/host.ts';
import type { Random } from '../kernel/random.ts';
import type { SyntheticGate } from '../model/gate.ts';
import type { DenseTimes, DenseWork } from '../model/machines.ts';
import type { ModelShape } from '../model/shape.ts';
import type { Dispatcher } from './dispatcher.ts';

export interface PassParts {
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
  /** Rows whose logits are sampled. */
  logits: number;
  /** Topic of each row. */
  topics: Int32Array;
  /** Asked before each layer: null to go on, or when to. */
  checkpoint: (() => Promise<void> | null) | null;
}

/** One micro-batch on its way through all layers. Layer by layer: mixer and gate, then rows away beside the shared expert. */
export class Pass {
  readonly #parts: PassParts;
  readonly #work: PassWork;
  readonly #topkIds: Int32Array;
  readonly #done: (ok: boolean) => void;
  #layer = 0;
  /** What the layer still waits for: the rows, and the shared expert. */
  #open = 0;
  #failed = false;

  constructor(parts: PassParts, work: PassWork, done: (ok: boolean) => void) {
    this.#parts = parts;
    this.#work = work;
    this.#done = done;
    this.#topkIds = new Int32Array(work.rows * parts.shape.topK);
  }

  start(): void {
    const pause = this.#work.checkpoint?.() ?? null;
    if (pause === null) this.#mix();
    else void pause.then(() => this.#mix());
  }

  #mix(): void {
    const { compute, times } = this.#parts;
    compute.submit(this.#work.lane, times.mixerMs(this.#layer, this.#work), () => this.#dispatch());
  }

  #dispatch(): void {
    const { compute, times, gate, random, dispatcher, shape } = this.#parts;
    const { lane, rows, topics } = this.#work;
    for (let row = 0; row < rows; row++) {
      gate.draw(random, this.#layer, topics[row] as number, this.#topkIds, row * shape.topK);
    }
    this.#open = 2;
    dispatcher.run(lane, this.#layer, this.#topkIds, rows, (result) => {
      this.#failed ||= result !== 'ok';
      this.#part();
    });
    compute.submit(lane, times.sharedMs(this.#layer, this.#work), () => this.#part());
  }

  #part(): void {
    this.#open -= 1;
    if (this.#open > 0) return;
    if (this.#failed) return this.#done(false);
    this.#layer += 1;
    if (this.#layer < this.#parts.shape.numLayers) return this.start();
    const { compute, times } = this.#parts;
    compute.submit(this.#work.lane, times.headMs(this.#work.logits), () => this.#done(true));
  }
}
