import { type Clock, fail, type Logger, type Metrics } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { Engine } from './engine.ts';
import type { ParkedSequences } from './kv/parked.ts';
import type { SequenceRecord } from './kv/sequence-record.ts';

export interface DrainOptions {
  engine: Pick<Engine, 'moveAll' | 'scheduler'>;
  parked: Pick<ParkedSequences, 'size' | 'drop'>;
  /** Keeps a record for another router; null when it cannot be kept. */
  park: (record: SequenceRecord) => string | null;
  /** The router takes nothing new from now on. */
  onBegin: () => void;
  clock: Clock;
  metrics: Metrics;
  logger: Logger;
}

const CHECK_MS = 20;

/**
 * Moves what runs here to other routers: each call ends with Moved, and what was computed of its sequence is parked until
 * another router has taken it over.
 */
export class Drain {
  readonly #o: DrainOptions;
  #begun = false;
  #moved = 0;

  constructor(options: DrainOptions) {
    this.#o = options;
  }

  get begun(): boolean {
    return this.#begun;
  }

  /** Begins to drain; a second time does nothing. After `limitMs`, if not 0, what is still parked is given up. */
  begin(limitMs: number): void {
    if (this.#begun) return;
    this.#begun = true;
    const { engine, park, clock, metrics, logger, onBegin } = this.#o;
    logger.info({ ...this.progress() }, 'draining');
    onBegin();
    engine.moveAll({
      park,
      moved: (seq, parked) => {
        seq.trace?.moved(parked);
        this.#moved += 1;
        metrics.count('guildhall_sequences_moved_total', { how: parked ? 'parked' : 'request' });
      },
    });
    if (limitMs > 0) clock.setTimer(limitMs, () => this.#o.parked.drop());
  }

  /** How far it is. */
  progress(): router.DrainProgress {
    const { numActive, numWaiting } = this.#o.engine.scheduler;
    return { running: numActive, waiting: numWaiting, parked: this.#o.parked.size, moved: this.#moved };
  }

  /** True when nothing is left here that is wanted elsewhere. */
  done(): boolean {
    const { running, waiting, parked } = this.progress();
    return this.#begun && running + waiting + parked === 0;
  }

  /** Resolves when done. Errors: `deadline_exceeded` after `limitMs`. */
  async finished(limitMs: number): Promise<void> {
    const { clock } = this.#o;
    const until = clock.monotonicMs() + limitMs;
    while (!this.done()) {
      if (clock.monotonicMs() >= until) throw fail('deadline_exceeded', `not drained after ${limitMs} ms`);
      await clock.sleep(CHECK_MS);
    }
  }
}
