import type { EntryKey } from '@guildhall/common';
import type { PagePool } from './page-pool.ts';
import type { PrefixCache } from './prefix-cache.ts';
import type { BlobStore } from './tiers/blob-store.ts';

export interface EvictorOptions {
  pool: PagePool;
  cache: PrefixCache;
  /** Pages that are also there need nobody's leave. */
  store: Pick<BlobStore, 'where'> | null;
  /** Takes entries off the directory; returns those that another router is about to fetch. */
  ask: (keys: readonly EntryKey[]) => Promise<EntryKey[]>;
}

/** Part of the pool that is kept free, and pages that are asked about at a time. */
const FREE_SHARE = 1 / 64;
const BATCH = 64;

/**
 * Keeps some pages free ahead of need, so that the directory is asked before the last copy of a page goes. Who needs pages
 * at once does not wait for it: the pool then evicts by itself, sparing what it knows to be leased.
 */
export class Evictor {
  readonly #o: EvictorOptions;
  readonly #low: number;
  #asking = false;

  constructor(options: EvictorOptions) {
    this.#o = options;
    this.#low = Math.floor(options.pool.numPages * FREE_SHARE);
  }

  /** Called whenever pages were taken. Never throws. */
  poke(): void {
    const { pool } = this.#o;
    if (this.#asking || pool.numFree >= this.#low || pool.numIdle === 0) return;
    this.#asking = true;
    void this.#run().finally(() => (this.#asking = false));
  }

  async #run(): Promise<void> {
    const { cache, store, ask } = this.#o;
    const nodes = cache.coldest(BATCH);
    const keys = nodes.flatMap((node): EntryKey[] => [
      ...(store?.where('page', node.name) ? [] : [{ kind: 'page' as const, name: node.name }]),
      ...(node.state === null || store?.where('state', node.name) ? [] : [{ kind: 'state' as const, name: node.name }]),
    ]);
    const kept = new Set((keys.length === 0 ? [] : await ask(keys)).map(({ name }) => name));
    // From the end of each chain: what is kept keeps all pages before it.
    for (const node of nodes) if (!kept.has(node.name)) cache.drop(node);
  }
}
