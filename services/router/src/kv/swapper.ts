import type { Clock } from '@guildhall/common';
import type { Sequence } from '../sequence.ts';
import type { KvManager, PrefixMatch } from './kv-manager.ts';
import { PAGE_TOKENS, pagesFor } from './page-pool.ts';
import type { Restorer } from './restorer.ts';
import { releaseRecord, type SequenceRecord, type SwapDeps, swapIn, swapOut } from './sequence-record.ts';
import { type SwapDirection, SwapRates } from './swap-rates.ts';

export interface SwapperOptions extends SwapDeps {
  /** Off: preempted sequences are computed again, and only those copied that are moved to another router. */
  mode: 'auto' | 'off';
  clock: Clock;
  kv: KvManager;
  /** For the shared pages; null with the prefix cache off. */
  restorer: Pick<Restorer, 'restorePages'> | null;
  /** Bytes of 64 tokens. */
  pageBytes: number;
  /** 0 for models without recurrent state. */
  stateBytes: number;
  /** Predicted milliseconds of computing tokens [from, to) again. */
  recomputeMs: (from: number, to: number) => number;
  /** Bytes were moved. */
  moved: (direction: SwapDirection, bytes: number) => void;
  /** A sequence that was copied out has to be computed again nevertheless. */
  lost: () => void;
}

/**
 * Copies preempted sequences to the lower tiers and back where the measured rates say that this costs less than
 * computing them again.
 */
export class Swapper {
  readonly rates = new SwapRates();
  readonly #o: SwapperOptions;
  #serial = 0;

  constructor(options: SwapperOptions) {
    this.#o = options;
  }

  /** True if copying it out and back costs less than computing it again. */
  isWorthwhile(seq: Sequence): boolean {
    // Until its first step a sequence has nothing of its own.
    if (this.#o.mode === 'off' || seq.stateSource !== 'own' || seq.numComputed === 0) return false;
    const { kv, recomputeMs } = this.#o;
    const bytes = this.#bytesOf(seq);
    const swapMs = this.rates.predict('out', bytes) + this.rates.predict('in', bytes);
    return swapMs < recomputeMs(kv.resumePoint(seq), seq.numComputed);
  }

  /** Copies a sequence out that no step uses until this resolves; null when there is no room, or it has ended. */
  async swapOut(seq: Sequence): Promise<SequenceRecord | null> {
    const { clock, moved } = this.#o;
    this.#serial += 1;
    const begun = clock.monotonicMs();
    const record = await swapOut(this.#source(seq), `swap/${seq.key}/${this.#serial}`, this.#o, () => !seq.ended);
    if (record === null) return null;
    this.rates.observe('out', record.bytes, clock.monotonicMs() - begun);
    moved('out', record.bytes);
    return record;
  }

  /**
   * Fills the pages and the slot of an admitted sequence with what its record says; `match` has its shared pages. False
   * when something is missing, and the sequence has to be computed from what is in the pool.
   */
  async swapIn(seq: Sequence, record: SequenceRecord, match: PrefixMatch): Promise<boolean> {
    const { clock, restorer, moved } = this.#o;
    const begun = clock.monotonicMs();
    const shared = match.imports.length === 0 || (await restorer?.restorePages(seq, match)) === true;
    const { numTokens, slot } = seq;
    const target = { numTokens, pages: seq.table.pages, slot, copyTokens: seq.copyTokens.bind(seq) };
    if (!shared || seq.ended || !(await swapIn(target, record, this.#o))) return false;
    this.rates.observe('in', record.bytes, clock.monotonicMs() - begun);
    moved('in', record.bytes);
    return true;
  }

  /** Lets go of what a record holds, which was used, is no longer wanted, or could not be used. */
  discard(record: SequenceRecord, lost: boolean): void {
    if (lost) this.#o.lost();
    releaseRecord(record, this.#o.store);
  }

  #firstOwnPage(seq: Sequence): number {
    const { kv } = this.#o;
    return (kv.numKept(seq) * kv.pageTokens) / PAGE_TOKENS;
  }

  #bytesOf(seq: Sequence): number {
    return (pagesFor(seq.numComputed) - this.#firstOwnPage(seq)) * this.#o.pageBytes + this.#o.stateBytes;
  }

  #source(seq: Sequence): Parameters<typeof swapOut>[0] {
    const nodes = seq.prefix?.nodes ?? [];
    const { kv } = this.#o;
    return {
      numComputed: seq.numComputed,
      pages: [...seq.table.pages],
      slot: this.#o.stateBytes === 0 ? null : seq.slot,
      shared: nodes.slice(0, kv.numKept(seq)).map(({ name }) => name),
      firstOwnPage: this.#firstOwnPage(seq),
      publishes: seq.prefix?.publishes === true && nodes.length === kv.numPlain(seq),
      copyTokens: seq.copyTokens.bind(seq),
    };
  }
}
