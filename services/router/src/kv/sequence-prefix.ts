import type { PageName, PageNames } from '@guildhall/common';
import type { Tier } from './blob.ts';
import { PAGE_TOKENS, type PagePool } from './page-pool.ts';
import type { PageTable } from './page-table.ts';
import type { CachedState, CacheNode, PrefixCache } from './prefix-cache.ts';
import type { SlotId } from './state-slots.ts';

/** Where a sequence's next step takes its state from: its own slot, zeros, or another slot, which it copies. */
export type StateSource = 'own' | 'zeros' | SlotId;

/** A snapshot that a prefill step takes. */
export interface PlannedSnapshot {
  /** Tokens before it, a multiple of the page. */
  position: number;
  slot: SlotId;
}

/** What one sequence has to do with shared pages. */
export class SequencePrefix {
  readonly names: PageNames;
  /** Named pages that its table begins with, in order. */
  readonly nodes: CacheNode[] = [];
  /** Whole pages of the prompt that can be taken from elsewhere: the last token is always computed. */
  readonly usable: number;
  /** Tokens taken from each tier when it was first admitted; null before. */
  cached: Map<Tier, number> | null = null;
  /** Of those: made by decode, or following from it. */
  decodeCachedTokens = 0;
  /** The last state that decode left; the next one takes its place. */
  decodeState: CachedState | null = null;
  /** Pages that came from another router while it waited; they lie in host memory. */
  pulledPages = 0;
  /** False once a page of its own could not be named. */
  publishes = true;
  /** Names that others wait for while it computes them. */
  readonly announced: PageName[] = [];
  #borrowed: CachedState | null = null;
  #branch: { from: number; names: PageName[] } | null = null;
  readonly #grid: number;
  readonly #forks = new Set<number>();

  /** `grid` is the distance of snapshots in tokens; `readable` is false for prompts that must be computed whole. */
  constructor(names: PageNames, numPrompt: number, grid: number, readable: boolean) {
    this.names = names;
    // Snapshots belong to whole pages.
    this.#grid = Math.ceil(grid / names.pageTokens) * names.pageTokens;
    this.usable = Math.floor((numPrompt - 1) / names.pageTokens);
    this.readable = readable ? this.usable : 0;
  }

  /** Pages that may be read from the cache. */
  readonly readable: number;

  /** State that the first step reads. */
  get borrowed(): CachedState | null {
    return this.#borrowed;
  }

  /** Keeps a state from being evicted until another one or none is borrowed. */
  borrow(state: CachedState | null): void {
    if (state !== null) state.users += 1;
    if (this.#borrowed !== null) this.#borrowed.users -= 1;
    this.#borrowed = state;
  }

  /** Of `resume` pages taken over: tokens whose pages or state come from decode. */
  decodeTokens(resume: number): number {
    return this.#branch === null ? 0 : Math.max(0, resume - this.#branch.from) * this.names.pageTokens;
  }

  get cachedTokens(): number {
    return this.cached === null ? 0 : [...this.cached.values()].reduce((sum, tokens) => sum + tokens, 0);
  }

  /** Prompts go apart behind `position` tokens: a state there lets others go on. */
  addFork(position: number): void {
    if (position > 0 && position < this.usable * this.names.pageTokens) this.#forks.add(position);
  }

  /** Name of page `index` of the prompt, on the branch that the sequence is on. */
  nameOf(index: number): PageName {
    const branch = this.#branch;
    if (branch === null || index < branch.from) return this.names.at(index);
    while (branch.names.length <= index - branch.from) {
      const next = branch.from + branch.names.length;
      const previous = branch.names.at(-1) ?? this.nameBefore(next);
      branch.names.push(this.names.childOf(previous, this.names.tokens(next), 'prefill'));
    }
    return branch.names[index - branch.from] as PageName;
  }

  /** Name that page `index` follows. */
  nameBefore(index: number): PageName {
    return index === 0 ? this.names.root : this.nameOf(index - 1);
  }

  /** Page `index` has this name, which decode gave it; those after it follow from it. */
  branch(index: number, name: PageName): void {
    this.unbranch(index);
    this.#branch ??= { from: index, names: [] };
    this.#branch.names.push(name);
  }

  /** Pages from `index` on have the names that prefill gives after those before. */
  unbranch(index: number): void {
    const branch = this.#branch;
    if (branch === null) return;
    if (index <= branch.from) this.#branch = null;
    else branch.names.length = Math.min(branch.names.length, index - branch.from);
  }

  /**
   * Gives the next page of the table, whose contents are complete, its name, and takes an older page of the same contents
   * in its place if there is one. Null when the name is another prompt's: then no later page can be named either.
   */
  publishPage(
    page: { name: PageName; tokens: Int32Array },
    table: PageTable,
    { pool, cache }: { pool: PagePool; cache: PrefixCache },
  ): CacheNode | null {
    const group = this.names.pageTokens / PAGE_TOKENS;
    const index = this.nodes.length;
    const pages = table.pages.slice(index * group, (index + 1) * group);
    const parent = this.nodes[index - 1] ?? null;
    const node = cache.insert({ ...page, parent, index, pages });
    if (node === null) {
      this.publishes = false;
      return null;
    }
    for (const [i, id] of node.pages.entries()) table.replace(pool, index * group + i, id);
    this.nodes.push(node);
    return node;
  }

  /** The first position after `start` at which a snapshot is wanted, or null. */
  nextSnapshot(start: number): number | null {
    const last = this.usable * this.names.pageTokens;
    if (start >= last) return null;
    const gridded = (Math.floor(start / this.#grid) + 1) * this.#grid;
    let next = Math.min(last, gridded);
    for (const fork of this.#forks) if (fork > start && fork < next) next = fork;
    return next;
  }
}
