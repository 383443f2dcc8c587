import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMetrics, systemClock } from '@guildhall/common';
import { Batcher, LoadPace } from '@guildhall/expert/rpc';
import { type ExpertShard, loadNative, type Runtime, type TensorSource } from '@guildhall/native';
import { experts } from '@guildhall/proto';

/** Experts of a 30B model with 3B active, four layers of them to serve and one to load into. */
const SHAPE = { hidden: 2048, intermediate: 768, layers: 4, experts: 16, topK: 8 };
const EXPERT_BYTES = 3 * SHAPE.hidden * SHAPE.intermediate * 2;
/** Between the reply to a layer and the next one, milliseconds: what a router does. */
const PAUSE_MS = 1;
const RATE_BYTES = 256 << 20;

/** How a worker loads while it serves. */
export type LoadMode = 'none' | 'full speed' | 'paced';

export interface Measured {
  /** Milliseconds of each forward, queueing included, ascending. */
  forwardMs: number[];
  /** Bytes of weights loaded a second. */
  bytesPerSecond: number;
}

/** A worker's batcher and experts in this process, which decodes for one router and loads experts from a file. */
export class LoadingRig {
  readonly #dir = mkdtempSync(join(tmpdir(), 'guildhall-bench-'));
  readonly #file = join(this.#dir, 'expert');
  readonly #shard: ExpertShard;
  readonly #batcher: Batcher;
  #step = 0;

  private constructor(runtime: Runtime) {
    const { hidden, intermediate, layers, experts: numExperts } = SHAPE;
    const options = { numLayers: layers + 1, numExperts, hidden, intermediate } as const;
    this.#shard = new (loadNative().ExpertShard)(runtime, { ...options, format: 'bf16', rowFormat: 'bf16' });
    const metrics = createMetrics('expert');
    this.#batcher = new Batcher({ target: this.#shard, clock: systemClock, metrics, maxQueued: 4 });
  }

  static async start(threads: number): Promise<LoadingRig> {
    const runtime = new (loadNative().Runtime)({ threads, isa: 'auto', bf16Kernels: 'auto' });
    const rig = new LoadingRig(runtime);
    const weights = new Uint16Array(EXPERT_BYTES / 2).map((_, i) => 0x3c00 + (i % 97));
    writeFileSync(rig.#file, weights);
    for (let layer = 0; layer < SHAPE.layers; layer++) {
      for (let expert = 0; expert < SHAPE.experts; expert++) await rig.#load(layer, expert);
    }
    return rig;
  }

  stop(): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Decodes one row after the other for `ms` milliseconds while experts are loaded in a mode. */
  async measure(ms: number, mode: LoadMode): Promise<Measured> {
    const endMs = performance.now() + ms;
    const loading = mode === 'none' ? Promise.resolve(0) : this.#loadUntil(endMs, mode);
    const forwardMs: number[] = [];
    while (performance.now() < endMs) {
      forwardMs.push(await this.#forward());
      await systemClock.sleep(PAUSE_MS);
    }
    const loaded = await loading;
    return { forwardMs: forwardMs.sort((a, b) => a - b), bytesPerSecond: (loaded * EXPERT_BYTES * 1000) / ms };
  }

  async #loadUntil(endMs: number, mode: LoadMode): Promise<number> {
    const { signal } = new AbortController();
    const quietMs = (): number => this.#batcher.quietMs();
    const pace = new LoadPace({ clock: systemClock, quietMs, bytesPerSecond: RATE_BYTES });
    let loaded = 0;
    for (; performance.now() < endMs; loaded++) {
      await pace.begin(mode === 'full speed', signal);
      await this.#load(SHAPE.layers, loaded % SHAPE.experts);
      pace.done(EXPERT_BYTES);
    }
    return loaded;
  }

  async #load(layer: number, expert: number): Promise<void> {
    const { hidden, intermediate } = SHAPE;
    const bytes = await readFile(this.#file);
    const third = EXPERT_BYTES / 3;
    const matrix = (at: number, shape: [number, number]): TensorSource => {
      return { dtype: 'BF16', shape, data: bytes.subarray(at * third, (at + 1) * third), scale: null, rows: null };
    };
    const [gate, up] = [0, 1].map((at) => matrix(at, [intermediate, hidden])) as [TensorSource, TensorSource];
    await this.#shard.load(layer, expert, gate, up, matrix(2, [hidden, intermediate]));
  }

  #forward(): Promise<number> {
    const frame = this.#frame();
    const beganMs = performance.now();
    return new Promise((resolve, reject) => {
      const done = (_reply: Buffer | null, error: unknown): void => {
        if (error === null) resolve(performance.now() - beganMs);
        else reject(error instanceof Error ? error : new Error('the forward failed', { cause: error }));
      };
      this.#batcher.submit({ frame, lane: 'decode', owner: this, done });
    });
  }

  #frame(): Buffer {
    const step = this.#step++;
    const chosen = Uint16Array.from({ length: SHAPE.topK }, (_, k) => (step + 2 * k) % SHAPE.experts).sort();
    const value = experts.Forward.fromPartial({
      step,
      layer: step % SHAPE.layers,
      epoch: 1,
      numRows: 1,
      combineMode: experts.CombineMode.COMBINE_MODE_EXACT,
      rowEntries: Buffer.from(Uint16Array.of(SHAPE.topK).buffer),
      experts: Buffer.from(chosen.buffer),
      weights: Buffer.from(new Float32Array(SHAPE.topK).fill(1 / SHAPE.topK).buffer),
      rows: Buffer.alloc(2 * SHAPE.hidden),
    });
    return Buffer.from(experts.ClientFrame.encode({ frame: { $case: 'forward', value } }).finish());
  }
}
