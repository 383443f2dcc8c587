import { fail, type PageName } from '@guildhall/common';
import TinyQueue from 'tinyqueue';
import type { BlobInfo, BlobKind } from './blob.ts';
import type { PageId, PagePool } from './page-pool.ts';
import type { SlotId, StateSlots } from './state-slots.ts';

/** A named page in the pool. */
export interface CacheNode {
  readonly name: PageName;
  readonly parent: CacheNode | null;
  /** Place among the named pages of its prompt. */
  readonly index: number;
  readonly tokens: Int32Array;
  /** Physical pages of 64 tokens. */
  readonly pages: readonly PageId[];
  /** Named pages that follow it. */
  children: number;
  /** The state behind it, if there is one in a slot. */
  state: CachedState | null;
  priority: number;
  /** Order of its last use, which decides between equal priorities. */
  usedAt: number;
  alive: boolean;
}

/** A state in a slot of its own. */
export interface CachedState {
  readonly slot: SlotId;
  readonly node: CacheNode;
  /** Steps and transfers that read it. */
  users: number;
  priority: number;
  /** Milliseconds to compute it again from the state before it. */
  readonly value: number;
}

/** What the cache tells when pages and states come and go. */
export interface DeviceObserver {
  added(info: BlobInfo): void;
  /** `leased`: although another router was about to fetch it. */
  removed(kind: BlobKind, name: PageName, reason: 'evicted' | 'leased'): void;
}

export interface PrefixCacheOptions {
  pool: PagePool;
  /** Slots for states; null for a model without, in which every page's end can be resumed at. */
  snapshots: StateSlots | null;
  pageTokens: number;
  pageBytes: number;
  stateBytes: number;
  /** Predicted milliseconds of computing `tokens` prompt tokens after `depth` others. */
  cost: (tokens: number, depth: number) => number;
  observer: DeviceObserver;
  /** Another router is about to fetch it: evicted only when nothing else is left. */
  isLeased?: (blob: { kind: BlobKind; name: PageName }) => boolean;
}

interface Candidate {
  node: CacheNode;
  priority: number;
  usedAt: number;
}

const OWNER = 'snapshot';

/**
 * Named pages and states in the pool. Pages form a tree: a page's parent is the one before it. Evicted are leaves that
 * nobody else refers to, by GreedyDual (Young 1994; Cao and Irani 1997): priority = clock + cost of computing it again,
 * set at every use, and the clock rises to the priority of what is evicted. Contents under a name never change.
 */
export class PrefixCache {
  readonly #o: PrefixCacheOptions;
  readonly #nodes = new Map<PageName, CacheNode>();
  readonly #states = new Set<CachedState>();
  readonly #pinned: CacheNode[] = [];
  /** Leaves by priority; entries from before the node's last use are stale. */
  #leaves = new TinyQueue<Candidate>([], byUrgency);
  #pageClock = 0;
  #stateClock = 0;
  #uses = 0;

  constructor(options: PrefixCacheOptions) {
    this.#o = options;
    options.pool.onShortage((count) => this.#evictPages(count));
  }

  get numPages(): number {
    return this.#nodes.size;
  }

  get numStates(): number {
    return this.#states.size;
  }

  /** The page of that name, if its tokens are these. */
  find(name: PageName, tokens: Int32Array): CacheNode | null {
    const node = this.#nodes.get(name);
    return node !== undefined && sameTokens(node.tokens, tokens) ? node : null;
  }

  byName(name: PageName): CacheNode | null {
    return this.#nodes.get(name) ?? null;
  }

  /** A prefix was used: its pages, and the state at its end. */
  touch(nodes: readonly CacheNode[], state: CachedState | null): void {
    for (const node of nodes) this.#setPriority(node);
    if (state !== null) state.priority = this.#stateClock + state.value;
  }

  /**
   * Takes a page up; the cache adds its reference to `pages`. Returns the node of that name, which may be an older one
   * with other physical pages of the same contents; null when another prompt's page has the name. Errors: `integrity`
   * when `parent` is no longer there.
   */
  insert(page: Pick<CacheNode, 'name' | 'parent' | 'index' | 'tokens' | 'pages'>): CacheNode | null {
    const known = this.#nodes.get(page.name);
    if (known !== undefined) return sameTokens(known.tokens, page.tokens) ? known : null;
    const { parent } = page;
    if (parent !== null && !parent.alive) throw fail('integrity', 'a page was published after its parent had gone');
    const node: CacheNode = { ...page, children: 0, state: null, priority: 0, usedAt: 0, alive: true };
    for (const id of page.pages) this.#o.pool.cache(id);
    if (parent !== null) parent.children += 1;
    this.#nodes.set(node.name, node);
    this.#setPriority(node);
    this.#o.observer.added(this.pageInfo(node));
    return node;
  }

  /** A slot for a state, taken from the least valuable idle one if none is free; null when all are in use. */
  takeSlot(): SlotId | null {
    const { snapshots } = this.#o;
    if (snapshots === null) return null;
    if (!snapshots.can()) {
      let worst: CachedState | null = null;
      for (const state of this.#states) {
        if (state.users === 0 && (worst === null || state.priority < worst.priority)) worst = state;
      }
      if (worst === null) return null;
      this.#stateClock = Math.max(this.#stateClock, worst.priority);
      this.#dropState(worst);
    }
    return snapshots.allocate(OWNER);
  }

  /** Gives back a slot whose state did not come to be. */
  returnSlot(slot: SlotId): void {
    this.#o.snapshots?.free(slot, OWNER);
  }

  /** The slot holds the state behind `node`. Returns false, and frees the slot, when there is one already. */
  attachState(node: CacheNode, slot: SlotId): boolean {
    if (node.state !== null || !node.alive) {
      this.returnSlot(slot);
      return false;
    }
    const value = this.#stateCost(node);
    node.state = { slot, node, users: 0, priority: this.#stateClock + value, value };
    this.#states.add(node.state);
    this.#o.observer.added(this.stateInfo(node));
    return true;
  }

  /** Frees a state that is no longer wanted, unless somebody reads it. */
  discardState(state: CachedState): void {
    if (this.#states.has(state) && state.users === 0) this.#dropState(state);
  }

  pageInfo(node: CacheNode): BlobInfo {
    const { pageBytes, pageTokens, cost } = this.#o;
    const value = cost(pageTokens, node.index * pageTokens);
    return { kind: 'page', name: node.name, tokens: node.tokens, size: pageBytes, checksum: 0, value };
  }

  stateInfo(node: CacheNode): BlobInfo {
    const value = node.state?.value ?? this.#stateCost(node);
    return {
      kind: 'state',
      name: node.name,
      tokens: new Int32Array(0),
      size: this.#o.stateBytes,
      checksum: 0,
      value,
    };
  }

  /** Keeps a page while its bytes are read; as often as it is unpinned. */
  pin(node: CacheNode): void {
    for (const id of node.pages) this.#o.pool.share(id);
    this.#pinned.push(node);
  }

  unpin(node: CacheNode): void {
    const at = this.#pinned.indexOf(node);
    if (at < 0) throw fail('integrity', 'a page was unpinned that nobody had pinned');
    this.#pinned.splice(at, 1);
    this.#o.pool.free(node.pages);
  }

  /** Everything in the pool, parents before children. */
  *entries(): Iterable<BlobInfo> {
    for (const node of this.#nodes.values()) {
      yield this.pageInfo(node);
      if (node.state !== null) yield this.stateInfo(node);
    }
  }

  /** The cache's own references, and those of pins, for the pool's integrity check. */
  *tables(): Iterable<{ readonly pages: readonly PageId[] }> {
    yield* this.#nodes.values();
    yield* this.#pinned;
  }

  /** `loose` are slots of snapshots being taken. Errors: `integrity`. */
  checkSlots(loose: Iterable<SlotId>): void {
    const slots = [...[...this.#states].map(({ slot }) => slot), ...loose];
    this.#o.snapshots?.checkIntegrity(slots.map((slot) => ({ owner: OWNER, slot })));
  }

  /** The pages that would be evicted next, children before parents: leaves and the chains that end in them. */
  coldest(count: number): CacheNode[] {
    const leaves: CacheNode[] = [];
    const found: CacheNode[] = [];
    while (found.length < count) {
      const candidate = this.#leaves.pop();
      if (candidate === undefined) break;
      if (!isFresh(candidate)) continue;
      leaves.push(candidate.node);
      let node: CacheNode | null = candidate.node;
      while (node !== null && found.length < count && this.#isIdle(node)) {
        found.push(node);
        node = node.parent?.children === 1 ? node.parent : null;
      }
    }
    for (const leaf of leaves) this.#offer(leaf);
    return found;
  }

  /** Evicts a page if nobody uses it and none follows it. */
  drop(node: CacheNode): void {
    if (node.alive && node.children === 0 && this.#isIdle(node)) this.#evict(node);
  }

  #isIdle(node: CacheNode): boolean {
    return node.pages.every((id) => this.#o.pool.isIdle(id)) && (node.state?.users ?? 0) === 0;
  }

  /** Drops everything that nobody uses. */
  clear(): void {
    this.#evictPages(this.#o.pool.numPages);
    for (const state of this.#states) if (state.users === 0) this.#dropState(state);
  }

  #stateCost(node: CacheNode): number {
    const { pageTokens, cost } = this.#o;
    let from = node.parent;
    while (from !== null && from.state === null) from = from.parent;
    const start = from === null ? 0 : (from.index + 1) * pageTokens;
    return cost((node.index + 1) * pageTokens - start, start);
  }

  #setPriority(node: CacheNode): void {
    const { cost, pageTokens } = this.#o;
    node.priority = this.#pageClock + cost(pageTokens, node.index * pageTokens);
    this.#uses += 1;
    node.usedAt = this.#uses;
    if (node.children === 0) this.#offer(node);
  }

  #offer(node: CacheNode): void {
    this.#leaves.push({ node, priority: node.priority, usedAt: node.usedAt });
    if (this.#leaves.length <= 2 * this.#nodes.size + 64) return;
    const fresh = this.#leaves.data.filter(isFresh);
    this.#leaves = new TinyQueue(fresh, byUrgency);
  }

  /** Evicts until `count` pages have become free or nothing idle is left; what others lease comes last. */
  #evictPages(count: number): void {
    const target = this.#o.pool.numFree + count;
    this.#evictIdle(target, (node) => this.#isLeased(node));
    if (this.#o.pool.numFree < target) this.#evictIdle(target, () => false);
  }

  #isLeased({ name }: CacheNode): boolean {
    const { isLeased } = this.#o;
    return isLeased !== undefined && (isLeased({ kind: 'page', name }) || isLeased({ kind: 'state', name }));
  }

  #evictIdle(target: number, spare: (node: CacheNode) => boolean): void {
    const { pool } = this.#o;
    const kept: CacheNode[] = [];
    while (pool.numFree < target) {
      const candidate = this.#leaves.pop();
      if (candidate === undefined) break;
      const { node } = candidate;
      if (!isFresh(candidate)) continue;
      if (!this.#isIdle(node) || spare(node)) kept.push(node);
      else this.#evict(node);
    }
    for (const node of kept) this.#offer(node);
  }

  #evict(node: CacheNode): void {
    this.#pageClock = Math.max(this.#pageClock, node.priority);
    if (node.state !== null) this.#dropState(node.state);
    node.alive = false;
    this.#nodes.delete(node.name);
    for (const id of node.pages) this.#o.pool.uncache(id);
    const { parent } = node;
    if (parent !== null) {
      parent.children -= 1;
      if (parent.children === 0) this.#offer(parent);
    }
    this.#o.observer.removed('page', node.name, this.#isLeased(node) ? 'leased' : 'evicted');
  }

  #dropState(state: CachedState): void {
    this.#states.delete(state);
    state.node.state = null;
    this.returnSlot(state.slot);
    const { node } = state;
    this.#o.observer.removed('state', node.name, this.#isLeased(node) ? 'leased' : 'evicted');
  }
}

function isFresh({ node, usedAt }: Candidate): boolean {
  return node.alive && node.children === 0 && node.usedAt === usedAt;
}

function byUrgency(a: Candidate, b: Candidate): number {
  return a.priority - b.priority || a.usedAt - b.usedAt;
}

function sameTokens(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
