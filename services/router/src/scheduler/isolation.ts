import type { Lane } from '@guildhall/native';
import type { Sequence } from '../sequence.ts';

/**
 * Keeps sequences apart that were in a step which broke off: each runs in steps of its own until it is past the point
 * where that step broke, so that the next one to break shows whose fault it is. Others go in turns with them.
 */
export class Isolation {
  readonly #lastAlone: Record<Lane, boolean> = { decode: false, prefill: false };

  /** Those of `ready`, which are in order of urgency, that may be in the next step of a lane. */
  company(lane: Lane, ready: readonly Sequence[]): readonly Sequence[] {
    const alone = ready.find((seq) => seq.isolated);
    if (alone === undefined) return ready;
    const others = ready.filter((seq) => !seq.isolated);
    this.#lastAlone[lane] = others.length === 0 || !this.#lastAlone[lane];
    return this.#lastAlone[lane] ? [alone] : others;
  }
}
