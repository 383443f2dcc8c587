import { type Clock, errorMessage, type Logger, type LoadStore, type Timer } from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { ExpertShape } from './holdings.ts';
import { SetSamples } from './set-samples.ts';

/** What was counted until one moment. */
export interface LoadSnapshot {
  /** Tokens of each expert, [layer][expert]. */
  counts: Float64Array;
  /** Of each layer, the sets that some tokens chose: u16[n][topK]. */
  sets: Uint16Array[];
  /** Forward passes. */
  steps: number;
}

/** Who reports, and under which circumstances. */
export interface ReportHead {
  reporter: string;
  epoch: number;
  intervalMs: number;
  sequence: number;
}

/** Tokens routed to each expert since the last report, and a sample of which experts were chosen together. */
export class ExpertLoads {
  readonly #shape: ExpertShape & { topK: number };
  readonly #counts: Float64Array;
  readonly #samples: SetSamples;
  #steps = 0;

  /** `seed` decides which tokens are sampled. */
  constructor(shape: ExpertShape & { topK: number }, seed = 1) {
    this.#shape = shape;
    this.#counts = new Float64Array(shape.numLayers * shape.numExperts);
    this.#samples = new SetSamples(shape, seed);
  }

  /** Counts the first `count` expert numbers for a layer: those of count/topK tokens. */
  add(layer: number, topkIds: Int32Array, count: number): void {
    const base = layer * this.#shape.numExperts;
    for (let i = 0; i < count; i++) {
      const key = base + (topkIds[i] as number);
      this.#counts[key] = (this.#counts[key] as number) + 1;
    }
    if (layer === 0) this.#steps += 1;
    this.#samples.add(layer, topkIds, count / this.#shape.topK);
  }

  /** A copy of what was counted; null when there is nothing. */
  snapshot(): LoadSnapshot | null {
    if (!this.#counts.some((count) => count > 0)) return null;
    const sets = Array.from({ length: this.#shape.numLayers }, (_, layer) => this.#samples.sets(layer));
    return { counts: this.#counts.slice(), sets, steps: this.#steps };
  }

  /** Takes reported counts off; the sample begins anew. */
  settle(reported: LoadSnapshot): void {
    for (const [key, count] of reported.counts.entries()) this.#counts[key] = (this.#counts[key] as number) - count;
    this.#steps -= reported.steps;
    this.#samples.reset();
  }

  /** The report about a snapshot. */
  report({ counts, sets, steps }: LoadSnapshot, head: ReportHead): control.LoadReport {
    const { numLayers, numExperts, topK } = this.#shape;
    const layers: control.LayerLoad[] = [];
    for (let layer = 0; layer < numLayers; layer++) {
      const tokens = counts.subarray(layer * numExperts, (layer + 1) * numExperts);
      if (!tokens.some((count) => count > 0)) continue;
      layers.push({ layer, tokens: Array.from(tokens, (count) => BigInt(count)), samples: packed(sets[layer]) });
    }
    return {
      reporter: head.reporter,
      epoch: BigInt(head.epoch),
      layers,
      intervalMs: BigInt(Math.round(head.intervalMs)),
      topK,
      steps: BigInt(steps),
      sequence: BigInt(head.sequence),
    };
  }
}

/** Little-endian bytes. */
function packed(sets: Uint16Array = new Uint16Array(0)): Buffer {
  const bytes = Buffer.alloc(sets.length * 2);
  for (const [at, expert] of sets.entries()) bytes.writeUInt16LE(expert, at * 2);
  return bytes;
}

export interface LoadReporterOptions {
  loads: ExpertLoads;
  store: Pick<LoadStore, 'report'>;
  reporter: string;
  epoch: () => number;
  everyMs: number;
  clock: Clock;
  logger: Logger;
}

/** Sends the loads to Redis now and then; what Redis did not take is kept for the next time. */
export class LoadReporter {
  readonly #o: LoadReporterOptions;
  #timer: Timer | null = null;
  #sinceMs: number;
  #sequence = 0;
  #sending = false;

  constructor(options: LoadReporterOptions) {
    this.#o = options;
    this.#sinceMs = options.clock.monotonicMs();
  }

  start(): void {
    this.#timer = this.#o.clock.setInterval(this.#o.everyMs, () => void this.send());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Never throws: reports are about the past, and the next one makes up for a lost one. */
  async send(): Promise<void> {
    const { loads, store, reporter, epoch, clock, logger } = this.#o;
    const snapshot = this.#sending ? null : loads.snapshot();
    if (snapshot === null) return;
    this.#sending = true;
    const now = clock.monotonicMs();
    const head = { reporter, epoch: epoch(), intervalMs: now - this.#sinceMs, sequence: this.#sequence + 1 };
    try {
      await store.report(reporter, control.LoadReport.encode(loads.report(snapshot, head)).finish());
      loads.settle(snapshot);
      this.#sequence += 1;
      this.#sinceMs = now;
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'load report not taken');
    } finally {
      this.#sending = false;
    }
  }
}
