import { type Clock, errorMessage, type Logger, type LoadStore, type Timer } from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { ExpertShape } from './holdings.ts';

/** Tokens routed to each expert since the last report. */
export class ExpertLoads {
  readonly #shape: ExpertShape;
  readonly #counts: Float64Array;

  constructor(shape: ExpertShape) {
    this.#shape = shape;
    this.#counts = new Float64Array(shape.numLayers * shape.numExperts);
  }

  /** Counts the first `count` expert numbers for a layer. */
  add(layer: number, topkIds: Int32Array, count: number): void {
    const base = layer * this.#shape.numExperts;
    for (let i = 0; i < count; i++) {
      const key = base + (topkIds[i] as number);
      this.#counts[key] = (this.#counts[key] as number) + 1;
    }
  }

  /** A copy of the counts, [layer][expert]; null when there are none. */
  counts(): Float64Array | null {
    return this.#counts.some((count) => count > 0) ? this.#counts.slice() : null;
  }

  /** Takes reported counts off. */
  settle(reported: Float64Array): void {
    for (const [key, count] of reported.entries()) this.#counts[key] = (this.#counts[key] as number) - count;
  }

  /** Counts as the report about them. */
  report(counts: Float64Array, reporter: string, epoch: number, intervalMs: number): control.LoadReport {
    const { numLayers, numExperts } = this.#shape;
    const layers: control.LayerLoad[] = [];
    for (let layer = 0; layer < numLayers; layer++) {
      const tokens = counts.subarray(layer * numExperts, (layer + 1) * numExperts);
      if (tokens.some((count) => count > 0))
        layers.push({ layer, tokens: Array.from(tokens, (count) => BigInt(count)), samples: Buffer.alloc(0) });
    }
    return { reporter, epoch: BigInt(epoch), layers, intervalMs: BigInt(Math.round(intervalMs)) };
  }
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
    const counts = loads.counts();
    if (counts === null || this.#sending) return;
    this.#sending = true;
    const now = clock.monotonicMs();
    const report = loads.report(counts, reporter, epoch(), now - this.#sinceMs);
    try {
      await store.report(reporter, control.LoadReport.encode(report).finish());
      loads.settle(counts);
      this.#sinceMs = now;
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'load report not taken');
    } finally {
      this.#sending = false;
    }
  }
}
