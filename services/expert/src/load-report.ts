import { type Clock, errorMessage, type LoadStore, type Logger, type Timer } from '@guildhall/common';
import { control } from '@guildhall/proto';

export interface LoadReportOptions {
  reporter: string;
  numLayers: number;
  numExperts: number;
  loads: Pick<LoadStore, 'report'>;
  epoch: () => number;
  clock: Clock;
  logger: Logger;
  everyMs?: number;
}

const EVERY_MS = 5000;

/** Counts the rows of each expert and reports them to Redis, off the path of any token. */
export class LoadReport {
  readonly #options: LoadReportOptions;
  readonly #tokens: Float64Array;
  #sinceMs: number;
  #total = 0;
  #timer: Timer | null = null;
  #sending = false;

  constructor(options: LoadReportOptions) {
    this.#options = options;
    this.#tokens = new Float64Array(options.numLayers * options.numExperts);
    this.#sinceMs = options.clock.monotonicMs();
  }

  /** Counts one row; numbers outside the model are passed over. */
  count(layer: number, expert: number): void {
    const { numLayers, numExperts } = this.#options;
    if (layer >= numLayers || expert >= numExperts) return;
    const at = layer * numExperts + expert;
    this.#tokens[at] = (this.#tokens[at] ?? 0) + 1;
    this.#total += 1;
  }

  start(): void {
    const { clock, everyMs } = this.#options;
    this.#timer = clock.setInterval(everyMs ?? EVERY_MS, () => void this.send());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Sends the counts if there are any; what Redis did not take is kept for the next time. */
  async send(): Promise<void> {
    const { loads, reporter, logger } = this.#options;
    if (this.#total === 0 || this.#sending) return;
    this.#sending = true;
    const sent = this.#tokens.slice();
    try {
      await loads.report(reporter, this.#encode(sent));
      for (const [at, count] of sent.entries()) this.#tokens[at] = (this.#tokens[at] ?? 0) - count;
      this.#total -= sent.reduce((sum, count) => sum + count, 0);
      this.#sinceMs = this.#options.clock.monotonicMs();
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'load report not stored');
    } finally {
      this.#sending = false;
    }
  }

  #encode(tokens: Float64Array): Uint8Array {
    const { reporter, numLayers, numExperts, epoch, clock } = this.#options;
    const layers: control.LayerLoad[] = [];
    for (let layer = 0; layer < numLayers; layer++) {
      const counts = tokens.subarray(layer * numExperts, (layer + 1) * numExperts);
      if (counts.some((count) => count > 0))
        layers.push({ layer, tokens: Array.from(counts, BigInt), samples: Buffer.alloc(0) });
    }
    const intervalMs = BigInt(Math.round(clock.monotonicMs() - this.#sinceMs));
    const report = { reporter, epoch: BigInt(epoch()), layers, intervalMs };
    return control.LoadReport.encode(control.LoadReport.fromPartial(report)).finish();
  }
}
