import type { PageName } from '@guildhall/common';
import type { Sequence } from '../../sequence.ts';
import type { KvManager } from '../kv-manager.ts';
import type { PrefixCache } from '../prefix-cache.ts';
import type { BlobStore } from '../tiers/blob-store.ts';
import type { PeerHolder, PeerPuller, PullRequest } from './puller.ts';

/** A router that has more of a prompt than the one that serves it. */
export interface PrefixHolder extends PeerHolder {
  /** Tokens of the prompt whose pages it has, with a state at their end. */
  tokens: number;
}

export interface PrefixPullOptions {
  manager: Pick<KvManager, 'match'>;
  cache: Pick<PrefixCache, 'find'>;
  store: Pick<BlobStore, 'where'>;
  puller: PeerPuller;
  /** Bytes of a named page. */
  pageBytes: number;
  /** 0 for models without recurrent state. */
  stateBytes: number;
  /** Predicted milliseconds of computing prompt tokens [from, to). */
  prefillMs: (from: number, to: number) => number;
  /** Time in which a stall is noticed: as long as that a pull may always take, milliseconds. */
  stallMs: number;
}

/** A pull that turns out slower than expected is given up after this many times the prefill that it saves. */
const PATIENCE = 2;

/** Decides what of a waiting sequence's prompt to pull from another router, and pulls it. */
export class PrefixPull {
  readonly #o: PrefixPullOptions;

  constructor(options: PrefixPullOptions) {
    this.#o = options;
  }

  /** The pull that is worthwhile for a sequence now, or null. */
  plan(seq: Sequence, holder: PrefixHolder): Omit<PullRequest, 'signal'> | null {
    const { prefix } = seq;
    if (prefix === null) return null;
    const { pageTokens } = prefix.names;
    const end = Math.min(Math.floor(holder.tokens / pageTokens), prefix.readable);
    const own = this.#o.manager.match(seq).resume;
    if (end <= own) return null;
    const pages = Array.from({ length: end }, (_, i) => ({ name: prefix.names.at(i), tokens: prefix.names.tokens(i) }));
    const missing = pages.filter(({ name, tokens }) => !this.#hasPage(name, tokens));
    const last = pages.at(-1);
    const stateName = last === undefined || this.#hasState(last.name, last.tokens) ? null : last.name;
    const bytes = missing.length * this.#o.pageBytes + (stateName === null ? 0 : this.#o.stateBytes);
    if (bytes === 0) return null;
    const saved = this.#o.prefillMs(own * pageTokens, end * pageTokens);
    if (!this.#o.puller.worthwhile(holder.routerId, bytes, saved)) return null;
    return { holder, pages: missing, stateName, limitMs: Math.max(this.#o.stallMs, PATIENCE * saved) };
  }

  #hasPage(name: PageName, tokens: Int32Array): boolean {
    return this.#o.cache.find(name, tokens) !== null || this.#o.store.where('page', name) !== null;
  }

  #hasState(name: PageName, tokens: Int32Array): boolean {
    if (this.#o.stateBytes === 0) return true;
    const node = this.#o.cache.find(name, tokens);
    return (node !== null && node.state !== null) || this.#o.store.where('state', name) !== null;
  }
}
