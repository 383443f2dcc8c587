import { type Logger, toGuildhallError } from '@guildhall/common';
import type { Sequence } from '../sequence.ts';
import type { PrefixMatch } from './kv-manager.ts';
import type { Restorer } from './restorer.ts';
import type { SequenceRecord } from './sequence-record.ts';
import type { Swapper } from './swapper.ts';

export interface SequenceCopiesOptions {
  /** Null without lower tiers. */
  restorer: Pick<Restorer, 'restore' | 'shallower'> | null;
  /** Null where preempted sequences are computed again. */
  swapper: Pick<Swapper, 'isWorthwhile' | 'swapOut' | 'swapIn'> | null;
  logger: Logger;
}

/** Copies sequences into the pool and out of it. What breaks costs computing, and never a sequence. */
export class SequenceCopies {
  readonly #o: SequenceCopiesOptions;

  constructor(options: SequenceCopiesOptions) {
    this.#o = options;
  }

  /** Fills what an admitted sequence was when it was preempted. False when that is not to be had. */
  async swapIn(seq: Sequence, record: SequenceRecord, match: PrefixMatch): Promise<boolean> {
    const { swapper, logger } = this.#o;
    const trace = seq.trace?.transfer('restore', { 'guildhall.from': 'swap', 'guildhall.tokens': record.numComputed });
    try {
      return (await swapper?.swapIn(seq, record, match)) ?? false;
    } catch (err) {
      trace?.fail(toGuildhallError(err).code);
      logger.error({ err, ...seq.logFields }, 'a sequence could not be copied back');
      return false;
    } finally {
      trace?.end();
    }
  }

  /** Imports what lower tiers have of a prefix; returns the named pages from which the sequence can go on. */
  async restorePrefix(seq: Sequence, match: PrefixMatch): Promise<number> {
    const { restorer, logger } = this.#o;
    if (restorer === null) return 0;
    // A record that failed leaves what is in the pool.
    if (seq.record !== null) return restorer.shallower(seq);
    const trace = seq.trace?.transfer('restore', {
      'guildhall.from': 'tiers',
      'guildhall.blobs': match.imports.length,
    });
    try {
      return await restorer.restore(seq, match);
    } catch (err) {
      trace?.fail(toGuildhallError(err).code);
      logger.error({ err, ...seq.logFields }, 'an import broke off');
      return 0;
    } finally {
      trace?.end();
    }
  }

  /**
   * Begins to copy a sequence out that is to give its pages up; null if computing it again is cheaper. One that is moved
   * away is copied wherever it has something of its own. Resolves with null when the copy failed.
   */
  swapOut(seq: Sequence, movesAway: boolean): Promise<SequenceRecord | null> | null {
    const { swapper, logger } = this.#o;
    if (swapper === null || !(movesAway ? hasOwn(seq) : swapper.isWorthwhile(seq))) return null;
    return swapper.swapOut(seq).catch((err: unknown) => {
      logger.error({ err, ...seq.logFields }, 'a sequence could not be copied out');
      return null;
    });
  }
}

/** Until its first step a sequence has nothing of its own; log-probabilities of a prompt come from computing it. */
function hasOwn(seq: Sequence): boolean {
  return seq.stateSource === 'own' && seq.numComputed > 0 && (!seq.spec.promptLogprobs || seq.promptSent);
}
