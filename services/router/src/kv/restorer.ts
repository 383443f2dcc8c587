import type { Sequence } from '../sequence.ts';
import type { Blob } from './blob.ts';
import type { Import, PrefixMatch } from './kv-manager.ts';
import { PAGE_TOKENS, type PagePool } from './page-pool.ts';
import type { CacheNode, PrefixCache } from './prefix-cache.ts';
import type { SlotId } from './state-slots.ts';
import type { BlobStore } from './tiers/blob-store.ts';

/** Moves bytes into and out of the native pools, beside the steps. */
export interface PoolTransfer {
  /** Bytes and CRC-32C of each run of `group` pages. */
  exportPages(pages: Int32Array, group: number): Promise<{ parts: Uint8Array[]; checksums: Uint32Array }>;
  importPages(pages: Int32Array, parts: readonly Uint8Array[]): Promise<void>;
  exportState(slot: number): Promise<{ data: Uint8Array; checksum: number }>;
  importState(slot: number, data: Uint8Array): Promise<void>;
}

export interface RestorerOptions {
  pool: PagePool;
  cache: PrefixCache;
  store: BlobStore;
  transfer: PoolTransfer;
  pageBytes: number;
  stateBytes: number;
  /** Tokens of a named page. */
  pageTokens: number;
  stateless: boolean;
}

/** Named pages that are read and imported at a time. */
const BATCH = 32;

/**
 * Fills the pages of an admitted sequence from host memory and disk. What cannot be had is left to prefill; nothing here
 * fails a sequence.
 */
export class Restorer {
  readonly #o: RestorerOptions;

  constructor(options: RestorerOptions) {
    this.#o = options;
  }

  /**
   * Runs the imports of `match` and returns the named pages in place from which the sequence can go on. The state behind
   * them is what its prefix has borrowed, or else in its own slot. Table and slot must not be given back before.
   */
  async restore(seq: Sequence, match: PrefixMatch): Promise<number> {
    const state = match.imports.find(({ kind }) => kind === 'state') ?? null;
    if (!(await this.restorePages(seq, match))) return this.shallower(seq);
    if (state === null) return match.resume;
    return (await this.#importState(seq, state)) ? match.resume : this.shallower(seq);
  }

  /** Imports the pages of `match`; false when one could not be had, or nobody wants them any more. */
  async restorePages(seq: Sequence, match: PrefixMatch): Promise<boolean> {
    const pages = match.imports.filter(({ kind }) => kind === 'page');
    let whole = true;
    for (let at = 0; at < pages.length && whole && !seq.ended; at += BATCH) {
      whole = await this.#importPages(seq, pages.slice(at, at + BATCH));
    }
    return whole && !seq.ended;
  }

  /** Where the sequence can go on from what is in the pool, named pages. Borrows the state there. */
  shallower(seq: Sequence): number {
    const nodes = seq.prefix?.nodes ?? [];
    if (this.#o.stateless) return nodes.length;
    const resume = nodes.findLastIndex((node) => node.state !== null) + 1;
    seq.prefix?.borrow(nodes[resume - 1]?.state ?? null);
    return resume;
  }

  /** False when a page could not be had; those before it are in place. */
  async #importPages(seq: Sequence, imports: readonly Import[]): Promise<boolean> {
    const { store, transfer, pageTokens } = this.#o;
    const group = pageTokens / PAGE_TOKENS;
    const blobs = await Promise.all(imports.map(({ name }) => store.get('page', name)));
    const bad = blobs.findIndex((blob, i) => !this.#isPage(seq, imports[i], blob));
    const good = blobs.slice(0, bad < 0 ? blobs.length : bad) as Blob[];
    const first = imports[0]?.index ?? 0;
    if (good.length > 0 && !seq.ended) {
      const ids = Int32Array.from(seq.table.pages.slice(first * group, (first + good.length) * group));
      await transfer.importPages(
        ids,
        good.map(({ data }) => data),
      );
      for (const { index } of imports.slice(0, good.length)) if (!this.#insert(seq, index)) return false;
    }
    return bad < 0;
  }

  #isPage(seq: Sequence, wanted: Import | undefined, blob: Blob | null): boolean {
    if (blob === null || wanted === undefined || blob.data.length !== this.#o.pageBytes) return false;
    const tokens = seq.prefix?.names.tokens(wanted.index);
    return (
      tokens !== undefined && tokens.length === blob.tokens.length && tokens.every((id, i) => id === blob.tokens[i])
    );
  }

  #insert(seq: Sequence, index: number): boolean {
    const { prefix } = seq;
    if (prefix === null || prefix.nodes.length !== index) return false;
    const page = { name: prefix.nameOf(index), tokens: prefix.names.tokens(index) };
    return prefix.publishPage(page, seq.table, this.#o) !== null;
  }

  /** False when the state could not be had. */
  async #importState(seq: Sequence, wanted: Import): Promise<boolean> {
    const { cache, store, transfer, stateBytes } = this.#o;
    const blob = await store.get('state', wanted.name);
    const node = seq.prefix?.nodes[wanted.index];
    if (blob === null || blob.data.length !== stateBytes || node === undefined || seq.ended) return false;
    const slot = node.state === null ? cache.takeSlot() : null;
    if (slot !== null) await this.#intoSlot(node, slot, blob.data);
    // In use from here on, or another one could take its slot.
    if (node.state !== null) seq.prefix?.borrow(node.state);
    else if (seq.slot !== null) await transfer.importState(seq.slot, blob.data);
    return true;
  }

  async #intoSlot(node: CacheNode, slot: SlotId, data: Uint8Array): Promise<void> {
    const { cache, transfer } = this.#o;
    try {
      await transfer.importState(slot, data);
    } catch (err) {
      cache.returnSlot(slot);
      throw err;
    }
    cache.attachState(node, slot);
  }
}
