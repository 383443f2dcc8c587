import { type Clock, isGuildhallError, type Logger, type Metrics, pacedReplies } from '@guildhall/common';
import type { pages } from '@guildhall/proto';
import type { Sequence } from '../../sequence.ts';
import { PAGE_TOKENS } from '../page-pool.ts';
import type { PrefixCache } from '../prefix-cache.ts';
import { heldKey, releaseRecord, type SequenceRecord, tokenDigest } from '../sequence-record.ts';
import type { BlobStore } from '../tiers/blob-store.ts';
import type { Checksum } from './blob-assembly.ts';
import type { PeerChannels } from './channels.ts';
import type { PeerHolder, PeerPuller } from './puller.ts';
import { type SequencePiece, SequenceReader } from './sequence-reader.ts';
import { Turns } from './turns.ts';
import { faultOf, isCacheFault, pullFault, type PullFault, stalled } from './wire.ts';

/** Where a router has parked a sequence. */
export interface MovedFrom extends PeerHolder {
  handle: string;
  /** Tokens whose pages and state are there; 0 for none. */
  numComputed: number;
}

/** How it ended: `lost_pages` when shared pages could be had nowhere, `no_room` when they did not fit here. */
export type TakeOverOutcome = 'taken' | 'lost_pages' | 'no_room' | 'cancelled' | PullFault;

/** Time between two tries at a router that is busy. */
const BUSY_MS = 100;

export interface TakeOverOptions {
  channels: PeerChannels;
  puller: PeerPuller;
  /** Null with the prefix cache off. */
  cache: Pick<PrefixCache, 'find'> | null;
  store: Pick<BlobStore, 'hold' | 'held' | 'release' | 'where'>;
  checksum: Checksum;
  clock: Clock;
  metrics: Metrics;
  logger: Logger;
  identity: { fingerprint: string; numericsId: string };
  /** Bytes of 64 tokens. */
  pageBytes: number;
  /** 0 for models without recurrent state. */
  stateBytes: number;
  /** Takeovers at a time; more wait. */
  maxPulls: number;
  stallMs: number;
  limitMs: number;
}

/**
 * Brings what another router has parked of a sequence into the store, as a record from which it is restored like one that
 * was swapped out here. Without it the sequence is computed again, with the same bits.
 */
export class TakeOver {
  readonly #o: TakeOverOptions;
  readonly #turns: Turns;
  #serial = 0;

  constructor(options: TakeOverOptions) {
    this.#o = options;
    this.#turns = new Turns(options.maxPulls);
  }

  /** The record of a moved sequence, or null. Never throws. What is parked is released in any case. */
  async take(
    seq: Sequence,
    from: MovedFrom,
    signal: AbortSignal,
    traceparent?: string,
  ): Promise<SequenceRecord | null> {
    this.#serial += 1;
    const key = `moved/${seq.key}/${this.#serial}`;
    const held: (number | 'state')[] = [];
    let outcome: TakeOverOutcome = 'taken';
    let record: SequenceRecord | null = null;
    const keep = async ({ what, data, checksum }: SequencePiece): Promise<boolean> => {
      if (!(await this.#o.store.hold(heldKey({ key }, what), data, checksum))) return false;
      held.push(what);
      return true;
    };
    try {
      await this.#turns.run(signal, async () => {
        const head = await this.#unlessBusy(signal, () => this.#fetch(seq, { ...from, traceparent }, signal, keep));
        if (head === null) outcome = 'no_room';
        else if (!(await this.#shared(seq, head, from, signal))) outcome = 'lost_pages';
        else record = this.#recordOf(seq, key, head);
      });
    } catch (err) {
      outcome = this.#onFault(from, err, signal);
    }
    if (outcome === 'taken' && (seq.ended || signal.aborted)) outcome = 'cancelled';
    this.#o.metrics.count('guildhall_sequence_takeovers_total', { outcome });
    this.#release(from);
    if (outcome === 'taken') return record;
    for (const what of held) this.#o.store.release(heldKey({ key }, what));
    return null;
  }

  /** Lets go of a record that is not wanted after all. */
  discard(record: SequenceRecord): void {
    releaseRecord(record, this.#o.store);
  }

  /** Fetches own pages and state; null when `keep` has no room. Errors: faults of wire.ts. */
  async #fetch(
    seq: Sequence,
    from: MovedFrom & { traceparent: string | undefined },
    signal: AbortSignal,
    keep: (piece: SequencePiece) => Promise<boolean>,
  ): Promise<pages.SequenceHead | null> {
    const { channels, clock, stallMs, limitMs, identity, checksum } = this.#o;
    const reader = new SequenceReader(this.#expected(seq), checksum);
    const request: pages.FetchRequest = {
      modelFingerprint: identity.fingerprint,
      numericsId: identity.numericsId,
      what: { $case: 'sequence', value: { handle: from.handle, firstPage: 0 } },
    };
    return await channels.use(from.address, async (client) => {
      const call = client.fetch(request, channels.metadataFor(from.traceparent));
      for await (const reply of pacedReplies(call, { clock, stallMs, limitMs, signal, stalled })) {
        const piece = await reader.take(reply);
        if (piece !== null && !(await keep(piece))) return null;
      }
      return reader.end();
    });
  }

  /** A router that drains is asked by many at a time, and what it has parked is waited for. Errors: those of `body`. */
  async #unlessBusy<T>(signal: AbortSignal, body: () => Promise<T>): Promise<T> {
    const { clock, limitMs } = this.#o;
    const until = clock.monotonicMs() + limitMs;
    for (;;) {
      try {
        return await body();
      } catch (err) {
        if (faultOf(err).fault !== 'busy' || clock.monotonicMs() >= until) throw err;
      }
      await clock.sleep(BUSY_MS, signal);
    }
  }

  #expected(seq: Sequence): ConstructorParameters<typeof SequenceReader>[0] {
    const { pageBytes, stateBytes } = this.#o;
    const group = (seq.prefix?.names.pageTokens ?? PAGE_TOKENS) / PAGE_TOKENS;
    return {
      numTokens: seq.numTokens,
      digest: (count) => tokenDigest({ copyTokens: seq.copyTokens.bind(seq) }, count),
      maxSharedPages: (seq.prefix?.names.length ?? 0) * group,
      group,
      pageBytes,
      stateBytes,
    };
  }

  /** Pulls the shared pages that are not here; false when some cannot be had. */
  async #shared(seq: Sequence, head: pages.SequenceHead, from: MovedFrom, signal: AbortSignal): Promise<boolean> {
    const { prefix } = seq;
    const { cache, store, puller } = this.#o;
    if (head.firstOwnPage === 0) return true;
    if (prefix === null || cache === null) return false;
    const { names } = prefix;
    const count = (head.firstOwnPage * PAGE_TOKENS) / names.pageTokens;
    const all = names.first(count).map((name, i) => ({ name, tokens: names.tokens(i) }));
    const isHere = ({ name, tokens }: (typeof all)[number]): boolean =>
      cache.find(name, tokens) !== null || store.where('page', name) !== null;
    const missing = all.filter((page) => !isHere(page));
    if (missing.length === 0) return true;
    await this.#unlessBusy(signal, async () => {
      const { outcome } = await puller.pull({ holder: from, pages: missing, stateName: null, signal });
      if (outcome === 'busy') throw pullFault('busy', 'the holder serves as many others as it may');
    });
    return all.every(isHere);
  }

  #recordOf(seq: Sequence, key: string, head: pages.SequenceHead): SequenceRecord {
    const { numComputed, numPages, firstOwnPage, tokenDigest: digest } = head;
    const { pageBytes, stateBytes } = this.#o;
    const { prefix } = seq;
    const pageTokens = prefix?.names.pageTokens ?? PAGE_TOKENS;
    const shared = prefix?.names.first((firstOwnPage * PAGE_TOKENS) / pageTokens) ?? [];
    // Else some page of the prompt has another name, or none, and what follows from it too.
    const publishes = shared.length === Math.floor(Math.min(numComputed, seq.numPrompt) / pageTokens);
    return {
      key,
      numComputed,
      tokenDigest: digest,
      shared: [...shared],
      firstOwnPage,
      numPages,
      hasState: stateBytes > 0,
      publishes,
      bytes: (numPages - firstOwnPage) * pageBytes + stateBytes,
    };
  }

  #onFault(from: MovedFrom, err: unknown, signal: AbortSignal): TakeOverOutcome {
    if (signal.aborted) return 'cancelled';
    const { fault, detail } = faultOf(err);
    if (isCacheFault(fault)) this.#o.metrics.count('guildhall_kv_faults_total', { kind: fault });
    const facts = { router: from.routerId, address: from.address, fault, detail };
    this.#o.logger.warn(facts, 'a moved sequence could not be taken over: it is computed again');
    if (isGuildhallError(err) && err.code === 'internal') this.#o.logger.error({ err }, 'a takeover broke');
    return fault;
  }

  /** Nobody else will fetch it. That its router hears of it is not waited for; it would give it up by itself. */
  #release({ address, handle }: MovedFrom): void {
    const { channels, clock, stallMs } = this.#o;
    const done = channels.use(address, async (client) => {
      await new Promise<void>((resolve, reject) => {
        const call = client.release({ handle }, channels.metadata, (err) => {
          limit.cancel();
          if (err === null) resolve();
          else reject(err);
        });
        const limit = clock.setTimer(stallMs, () => call.cancel());
      });
    });
    done.catch((err: unknown) => {
      const { fault, detail } = faultOf(err);
      this.#o.logger.debug({ address, fault, detail }, 'a parked sequence could not be released');
    });
  }
}

/** False where nothing but the request is to be taken over. */
export function isTakeable(from: MovedFrom): boolean {
  return from.handle !== '' && from.numComputed > 0;
}
