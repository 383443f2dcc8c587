import type { Clock, Logger } from '@guildhall/common';
import type { ExpertObserver, Note } from './observer.ts';
import type { ExpertViews } from './placement-view.ts';
import type { WorkerLink } from './worker-link.ts';

export interface CoverageWatchOptions {
  views: ExpertViews<WorkerLink>;
  /** Why not every expert can be computed, or null. */
  notCovered: () => string | null;
  observer: Pick<ExpertObserver, 'experts'>;
  note: Note;
  clock: Clock;
  logger: Logger;
}

/** Tells when experts lose their last live worker, and when all have one again. */
export class CoverageWatch {
  readonly #o: CoverageWatchOptions;
  #missing = 0;
  /** Before every expert has been there once, nothing was lost. */
  #wasCovered = false;
  #lostAtMs: number | null = null;

  constructor(options: CoverageWatchOptions) {
    this.#o = options;
    options.views.onChange(() => this.#onChange());
  }

  #onChange(): void {
    const { views, observer, clock } = this.#o;
    const { missing } = views.latest;
    if (missing === 0 && !this.#wasCovered) this.#wasCovered = true;
    if (!this.#wasCovered || missing === this.#missing) return;
    const before = this.#missing;
    this.#missing = missing;
    if (missing > before) observer.experts('lost', missing - before);
    else observer.experts('recovered', before - missing);
    if (before === 0) {
      this.#lostAtMs = clock.monotonicMs();
      this.#tellLost(missing);
    } else if (missing === 0) {
      this.#tellRecovered();
    }
  }

  #tellLost(missing: number): void {
    const { views, notCovered, note, logger } = this.#o;
    const message = notCovered() ?? 'experts have no live worker';
    const details = { missing, total: views.latest.total, first: views.latest.firstMissing };
    logger.warn(details, message);
    note('experts_lost', message, details);
  }

  #tellRecovered(): void {
    const { note, logger, clock } = this.#o;
    const ms = Math.round(clock.monotonicMs() - (this.#lostAtMs ?? clock.monotonicMs()));
    logger.info({ ms }, 'every expert has a live worker again');
    note('experts_recovered', `every expert has a live worker again, after ${ms} ms`, { ms });
  }
}
