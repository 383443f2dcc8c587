import { fail, type NameSpace, type PageName, PageNames, type Producer } from '@guildhall/common';
import type { Chunk, Sequence } from '../sequence.ts';
import type { BlobKind, Tier } from './blob.ts';
import { PAGE_TOKENS, type PagePool, pagesFor } from './page-pool.ts';
import type { CachedState, CacheNode, PrefixCache } from './prefix-cache.ts';
import { type PlannedSnapshot, SequencePrefix } from './sequence-prefix.ts';
import type { SequenceRecord } from './sequence-record.ts';
import type { SlotId, StateSlots } from './state-slots.ts';
import type { BlobStore } from './tiers/blob-store.ts';

/** A page or state that lies in a lower tier and goes into the pool on admission. */
export interface Import {
  kind: BlobKind;
  name: PageName;
  index: number;
  tier: Tier;
}

interface Found {
  name: PageName;
  node: CacheNode | null;
  tier: Tier;
}

/** What a waiting sequence could begin with. */
export interface PrefixMatch {
  /** Device pages up to the resume point. */
  shared: CacheNode[];
  /** Pages after them up to the resume point, then its state, if that is not on the device. */
  imports: Import[];
  /** Pages before the resume point. */
  resume: number;
  /** The state on the device, if it is there. */
  state: CachedState | null;
  /** Known pages in a row, also beyond the resume point. */
  known: number;
}

export interface KvManagerOptions {
  pool: PagePool;
  slots: StateSlots;
  /** Null with the prefix cache off. */
  cache: PrefixCache | null;
  /** Lower tiers; null without any. */
  store: BlobStore | null;
  /** Names without a salt. */
  space: Omit<NameSpace, 'salt' | 'adapter'>;
  /** Tokens between snapshots on the grid. */
  snapshotGrid: number;
  /** The model has no recurrent state: every page's end can be resumed at. */
  stateless: boolean;
  /**
   * What becomes of pages that decode fills: `none` keeps them to their sequence; `decode` names them as decode's, whose
   * bits differ from prefill's; `prefill` names them like prefill's, where a model computes both with the same bits.
   */
  decodePages: 'none' | Producer;
  /** A page has been published. */
  onPublished?: (node: CacheNode) => void;
}

/**
 * Who holds pages and states: sequences, and the cache of named prefixes. It decides what an admitted sequence begins
 * with, publishes what prefill has made and plans snapshots.
 */
export class KvManager {
  readonly pool: PagePool;
  readonly slots: StateSlots;
  readonly cache: PrefixCache | null;
  readonly #o: KvManagerOptions;
  /** Who is computing a page that nobody has yet. */
  readonly #computing = new Map<PageName, Sequence>();
  /** Slots of snapshots that running steps take. */
  readonly #taking = new Set<SlotId>();

  constructor(options: KvManagerOptions) {
    this.#o = options;
    this.pool = options.pool;
    this.slots = options.slots;
    this.cache = options.cache;
  }

  /** Tokens of a named page. */
  get pageTokens(): number {
    return this.#o.space.pageTokens;
  }

  /** Physical pages of a named page. */
  get #group(): number {
    return this.#o.space.pageTokens / PAGE_TOKENS;
  }

  /** A sequence has arrived: its pages get names. */
  open(seq: Sequence): void {
    if (this.cache === null) return;
    const { spec } = seq;
    const names = new PageNames({ ...this.#o.space, salt: spec.cacheSalt, adapter: '' }, spec.promptIds);
    // Log-probabilities of prompt tokens come from computing them.
    seq.prefix = new SequencePrefix(names, seq.numPrompt, this.#o.snapshotGrid, !spec.promptLogprobs);
  }

  /** What the sequence could begin with now. */
  match(seq: Sequence): PrefixMatch {
    const shared: CacheNode[] = [];
    const lower: Import[] = [];
    const match: PrefixMatch = { shared: [], imports: [], resume: 0, state: null, known: 0 };
    const { prefix } = seq;
    if (prefix === null || this.cache === null) return match;
    prefix.unbranch(0);
    let stateTier: Tier | null = null;
    for (let index = 0; index < prefix.readable; index++) {
      const found = this.#find(prefix, index, lower.length === 0) ?? this.#branch(prefix, index, lower.length === 0);
      if (found === null) break;
      const { name, node, tier } = found;
      if (node !== null) shared.push(node);
      else lower.push({ kind: 'page', name, index, tier });
      match.known = index + 1;
      const at = this.#stateAt(name, node);
      if (at === null) continue;
      match.resume = index + 1;
      match.state = node?.state ?? null;
      stateTier = at;
    }
    match.shared = shared.slice(0, match.resume);
    match.imports = lower.slice(0, match.resume - match.shared.length);
    if (match.resume > 0 && !this.#o.stateless && match.state === null && stateTier !== null) {
      const index = match.resume - 1;
      match.imports.push({ kind: 'state', name: prefix.nameOf(index), index, tier: stateTier });
    }
    return match;
  }

  /** The pages that a record shares, without a state; null when one of them is nowhere. */
  matchShared(seq: Sequence, count: number): PrefixMatch | null {
    const match: PrefixMatch = { shared: [], imports: [], resume: count, state: null, known: count };
    const { prefix } = seq;
    prefix?.unbranch(0);
    for (let index = 0; index < count; index++) {
      const found = prefix === null ? null : this.#find(prefix, index, match.imports.length === 0);
      if (found === null) return null;
      const { name, node, tier } = found;
      if (node !== null) match.shared.push(node);
      else match.imports.push({ kind: 'page', name, index, tier });
    }
    return match;
  }

  /** Leading pages of an active sequence that have the names which prefill gives. */
  numPlain(seq: Sequence): number {
    const { prefix } = seq;
    if (prefix === null) return 0;
    const other = prefix.nodes.findIndex(({ name }, i) => i >= prefix.names.length || name !== prefix.names.at(i));
    return other < 0 ? prefix.nodes.length : other;
  }

  /** Of those: the leading ones that will be there when it comes back, because lower tiers or other sequences have them. */
  numKept(seq: Sequence): number {
    const nodes = (seq.prefix?.nodes ?? []).slice(0, this.numPlain(seq));
    const gone = nodes.findIndex(({ name, pages }) => {
      const elsewhere = this.#o.store !== null && this.#o.store.where('page', name) !== null;
      // One reference is its own, one the cache's.
      return !elsewhere && pages.some((page) => this.pool.references(page) <= 2);
    });
    return gone < 0 ? nodes.length : gone;
  }

  /** Tokens of an active sequence that need not be computed if it gives everything up and comes back soon. */
  resumePoint(seq: Sequence): number {
    const nodes = seq.prefix?.nodes ?? [];
    const pages = this.#o.stateless ? nodes.length : nodes.findLastIndex(({ state }) => state !== null) + 1;
    return Math.min(pages, seq.prefix?.readable ?? 0) * this.pageTokens;
  }

  /** Page `index` of the prompt. Below the device's pages there are none of the device. */
  #find(prefix: SequencePrefix, index: number, device: boolean): Found | null {
    const name = prefix.nameOf(index);
    const node = device ? (this.cache?.find(name, prefix.names.tokens(index)) ?? null) : null;
    const tier = node !== null ? 'device' : (this.#o.store?.where('page', name) ?? null);
    return tier === null ? null : { name, node, tier };
  }

  /** The same where decode made the page; the prompt goes on along that branch. */
  #branch(prefix: SequencePrefix, index: number, device: boolean): Found | null {
    if (this.#o.decodePages !== 'decode') return null;
    const before = prefix.nameBefore(index);
    prefix.branch(index, prefix.names.childOf(before, prefix.names.tokens(index), 'decode'));
    const found = this.#find(prefix, index, device);
    if (found === null) prefix.unbranch(index);
    return found;
  }

  #stateAt(name: PageName, node: CacheNode | null): Tier | null {
    if (this.#o.stateless || (node?.state ?? null) !== null) return 'device';
    return this.#o.store?.where('state', name) ?? null;
  }

  /**
   * True while another sequence computes pages that this one needs next: waiting for them costs less than computing
   * them twice. Has the other one leave a state where the two go apart.
   */
  awaits(seq: Sequence, match: PrefixMatch): boolean {
    const { prefix } = seq;
    if (prefix === null || match.known >= prefix.readable) return false;
    const other = this.#computing.get(prefix.nameOf(match.known));
    if (other === undefined || other === seq || other.ended || other.urgency < seq.urgency) return false;
    let end = match.known + 1;
    while (end < prefix.readable && this.#computing.get(prefix.nameOf(end)) === other) end += 1;
    other.prefix?.addFork(end * this.#o.space.pageTokens);
    return true;
  }

  /** True if the sequence can be admitted with this match, `reserve` pages staying available. */
  fits(seq: Sequence, match: PrefixMatch, reserve: number): boolean {
    const shared = match.shared.length * this.#group;
    let idle = 0;
    for (const node of match.shared) for (const id of node.pages) idle += this.pool.isIdle(id) ? 1 : 0;
    return this.slots.can() && this.pool.can(pagesFor(seq.numTokens) - shared + idle + reserve);
  }

  /** Gives the sequence its pages and slot. With imports left to do its state is not there yet. */
  admit(seq: Sequence, match: PrefixMatch): void {
    for (const node of match.shared) seq.table.shareLast(this.pool, node.pages);
    seq.prefix?.borrow(match.state);
    seq.table.grow(this.pool, seq.numTokens);
    seq.slot = this.slots.allocate(seq.key);
    seq.stateSource = match.state?.slot ?? 'zeros';
    seq.numComputed = 0;
    const { prefix } = seq;
    if (prefix === null) return;
    prefix.nodes.push(...match.shared);
    this.cache?.touch(match.shared, match.state);
    if (match.known > match.resume) prefix.addFork(match.known * this.#o.space.pageTokens);
    this.#announce(seq, match.known);
    if (match.imports.length === 0 && seq.record === null) this.#begin(seq, match, match.resume);
  }

  /** Pages [0, resume) are in place and the state behind them is where `stateSource` says. */
  #begin(seq: Sequence, match: PrefixMatch, resume: number): void {
    const { pageTokens } = this.#o.space;
    seq.numComputed = resume * pageTokens;
    if (seq.prefix === null || seq.prefix.cached !== null) return;
    const tiers = new Map<Tier, number>();
    for (let index = 0; index < resume; index++) {
      const tier = match.imports[index - match.shared.length]?.tier ?? 'device';
      tiers.set(tier, (tiers.get(tier) ?? 0) + pageTokens);
    }
    const pulled = Math.min(tiers.get('host') ?? 0, seq.prefix.pulledPages * pageTokens);
    if (pulled > 0) tiers.set('host', (tiers.get('host') ?? 0) - pulled).set('peer', pulled);
    seq.prefix.cached = tiers;
    seq.prefix.decodeCachedTokens = seq.prefix.decodeTokens(resume);
  }

  /**
   * The imports of `match` have ended with `resume` named pages in place and the state at their end borrowed, or in the
   * sequence's own slot. Less than what was hoped for costs computing.
   */
  restored(seq: Sequence, match: PrefixMatch, resume: number): void {
    const own = resume === 0 || this.#o.stateless ? 'zeros' : 'own';
    seq.stateSource = seq.prefix?.borrowed?.slot ?? own;
    this.#begin(seq, match, resume);
  }

  /** What its record says is in place in its pages and its own slot. */
  resumed(seq: Sequence, record: SequenceRecord): void {
    seq.stateSource = 'own';
    seq.numComputed = record.numComputed;
    // Behind a page of decode everything has other names, which nobody knows any more.
    if (seq.prefix !== null && !record.publishes) seq.prefix.publishes = false;
  }

  #announce(seq: Sequence, from: number): void {
    const { prefix } = seq;
    if (prefix === null) return;
    for (let index = from; index < prefix.usable; index++) {
      const name = prefix.nameOf(index);
      if (this.#computing.has(name)) continue;
      this.#computing.set(name, seq);
      prefix.announced.push(name);
    }
  }

  /** Nobody waits for pages of this sequence any more. */
  #retract(seq: Sequence): void {
    const announced = seq.prefix?.announced.splice(0) ?? [];
    for (const name of announced) if (this.#computing.get(name) === seq) this.#computing.delete(name);
  }

  /** The longest cut of a prefill chunk that has one snapshot at most. */
  cut(seq: Sequence, chunk: Chunk): Chunk {
    const { prefix } = seq;
    if (prefix === null || chunk.mode !== 0) return chunk;
    const first = prefix.nextSnapshot(chunk.start);
    const second = first === null ? null : prefix.nextSnapshot(first);
    if (first === null || second === null || second > chunk.start + chunk.count) return chunk;
    return { ...chunk, count: first - chunk.start };
  }

  /** The snapshot that a step over `chunk` should take, with a slot for it; null for none. */
  planSnapshot(seq: Sequence, chunk: Chunk): PlannedSnapshot | null {
    const { prefix } = seq;
    if (prefix === null || this.cache === null || chunk.mode !== 0 || this.#o.stateless || !prefix.publishes)
      return null;
    const position = prefix.nextSnapshot(chunk.start);
    if (position === null || position > chunk.start + chunk.count) return null;
    const index = position / this.#o.space.pageTokens - 1;
    const known = this.cache.find(prefix.nameOf(index), prefix.names.tokens(index));
    if (known !== null && known.state !== null) return null;
    const slot = this.cache.takeSlot();
    if (slot === null) return null;
    this.#taking.add(slot);
    return { position, slot };
  }

  /** The snapshot that a decode step of the sequence should take, in the mode that reuses decode's states. */
  planDecodeSnapshot(seq: Sequence): PlannedSnapshot | null {
    const { prefix } = seq;
    if (this.#o.decodePages !== 'decode' || this.#o.stateless || this.cache === null) return null;
    const position = seq.numComputed + 1;
    if (prefix === null || !prefix.publishes || position % this.#o.space.pageTokens !== 0) return null;
    const slot = this.cache.takeSlot();
    if (slot === null) return null;
    this.#taking.add(slot);
    return { position, slot };
  }

  /** A step of the sequence is over; `done` says whether its tokens are in place and counted. */
  stepDone(seq: Sequence, done: boolean, snapshot: PlannedSnapshot | null): void {
    if (done) {
      seq.stateSource = 'own';
      seq.prefix?.borrow(null);
      this.#publish(seq);
    }
    if (snapshot === null) return;
    this.#taking.delete(snapshot.slot);
    const node = done ? seq.prefix?.nodes[snapshot.position / this.#o.space.pageTokens - 1] : undefined;
    if (node === undefined || this.cache === null) this.cache?.returnSlot(snapshot.slot);
    else if (this.cache.attachState(node, snapshot.slot)) this.#stateAttached(seq, node);
  }

  #stateAttached(seq: Sequence, node: CacheNode): void {
    this.#o.onPublished?.(node);
    const { prefix } = seq;
    if (prefix === null || (node.index + 1) * this.#o.space.pageTokens <= seq.numPrompt) return;
    // A sequence leaves one state of decode behind, not one for each of its pages.
    if (prefix.decodeState !== null) this.cache?.discardState(prefix.decodeState);
    prefix.decodeState = node.state;
  }

  /** Names the whole pages that are filled, and takes those of others that have the same contents. */
  #publish(seq: Sequence): void {
    const { prefix } = seq;
    if (prefix === null || this.cache === null || !prefix.publishes) return;
    const { pageTokens } = this.#o.space;
    const limit = this.#o.decodePages === 'none' ? seq.numPrompt : seq.numTokens;
    const filled = Math.floor(Math.min(seq.numComputed, limit) / pageTokens);
    while (prefix.nodes.length < filled) {
      const node = prefix.publishPage(this.#nextPage(seq, prefix), seq.table, { pool: this.pool, cache: this.cache });
      if (node === null) return this.#retract(seq);
      if (this.#computing.get(node.name) === seq) this.#computing.delete(node.name);
      this.#o.onPublished?.(node);
    }
  }

  /** Name and tokens of the first page that has none yet. */
  #nextPage(seq: Sequence, prefix: SequencePrefix): { name: PageName; tokens: Int32Array } {
    const { pageTokens } = this.#o.space;
    const index = prefix.nodes.length;
    if (index < prefix.names.length) return { name: prefix.nameOf(index), tokens: prefix.names.tokens(index) };
    const tokens = new Int32Array(pageTokens);
    seq.copyTokens(index * pageTokens, pageTokens, tokens, 0);
    const before = prefix.nodes.at(-1)?.name ?? prefix.names.root;
    const producer = this.#o.decodePages === 'prefill' ? 'prefill' : 'decode';
    return { name: prefix.names.childOf(before, tokens, producer), tokens };
  }

  /** Takes pages and slot away. */
  release(seq: Sequence): void {
    const { prefix } = seq;
    if (prefix !== null) {
      prefix.borrow(null);
      this.#retract(seq);
      prefix.nodes.length = 0;
      prefix.decodeState = null;
    }
    seq.table.release(this.pool);
    if (seq.slot !== null) this.slots.free(seq.slot, seq.key);
    seq.slot = null;
  }

  /** Errors: `integrity` when pages or slots of these sequences and of the cache do not add up. */
  checkIntegrity(active: readonly Sequence[]): void {
    this.pool.checkIntegrity([...active.map((seq) => seq.table), ...(this.cache?.tables() ?? [])]);
    const holders = active.map((seq) => {
      if (seq.slot === null) throw fail('integrity', `${seq.key} is active without a state slot`);
      return { owner: seq.key, slot: seq.slot };
    });
    this.slots.checkIntegrity(holders);
    this.cache?.checkSlots(this.#taking);
    for (const seq of this.#computing.values()) {
      if (!active.includes(seq)) throw fail('integrity', `${seq.key} is waited for and does not run`);
    }
  }
}
