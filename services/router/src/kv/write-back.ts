import type { PageName } from '@guildhall/common';
import type { Blob, BlobKind } from './blob.ts';
import { PAGE_TOKENS } from './page-pool.ts';
import type { CacheNode, PrefixCache } from './prefix-cache.ts';
import type { PoolTransfer } from './restorer.ts';
import type { BlobStore } from './tiers/blob-store.ts';

export interface WriteBackOptions {
  cache: PrefixCache;
  store: BlobStore;
  transfer: PoolTransfer;
  pageTokens: number;
  /** Something could not be read from the pool. */
  onError: (err: unknown) => void;
}

/** Pages that wait to be copied at most; the oldest are dropped. */
const MAX_QUEUED = 8192;
/** Pages that are copied at a time. */
const BATCH = 16;

/**
 * Copies what is published to host memory in the background, so that evicting it from the pool later costs nothing; and
 * reads blobs for others.
 */
export class WriteBack {
  readonly #o: WriteBackOptions;
  readonly #queue = new Set<CacheNode>();
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(options: WriteBackOptions) {
    this.#o = options;
  }

  /** A page, or the state behind it, is new in the pool. */
  offer(node: CacheNode): void {
    if (this.#closed) return;
    this.#queue.delete(node);
    this.#queue.add(node);
    if (this.#queue.size > MAX_QUEUED) for (const oldest of this.#queue) return void this.#queue.delete(oldest);
    this.#running ??= this.#run().finally(() => (this.#running = null));
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#queue.clear();
    await this.idle();
  }

  /** A page or state wherever it is, or null. */
  async read(kind: BlobKind, name: PageName): Promise<Blob | null> {
    const { cache, store } = this.#o;
    const node = cache.byName(name);
    const here = kind === 'page' ? node !== null : node !== null && node.state !== null;
    if (node === null || !here) return await store.get(kind, name);
    const blobs = kind === 'page' ? await this.#pages([node]) : [await this.#state(node)];
    return blobs[0] ?? null;
  }

  async #run(): Promise<void> {
    const { store } = this.#o;
    while (this.#queue.size > 0) {
      const batch = this.#takeBatch();
      try {
        const pages = batch.filter((node) => node.alive && store.where('page', node.name) === null);
        for (const blob of await this.#pages(pages)) store.put(blob);
        for (const node of batch) {
          if (!node.alive || node.state === null || store.where('state', node.name) !== null) continue;
          const blob = await this.#state(node);
          if (blob !== null) store.put(blob);
        }
      } catch (err) {
        this.#o.onError(err);
      }
    }
  }

  /** The oldest of the queue, without walking all of it. */
  #takeBatch(): CacheNode[] {
    const batch: CacheNode[] = [];
    for (const node of this.#queue) {
      if (batch.length === BATCH) break;
      this.#queue.delete(node);
      batch.push(node);
    }
    return batch;
  }

  async #pages(nodes: readonly CacheNode[]): Promise<Blob[]> {
    const { cache, transfer, pageTokens } = this.#o;
    if (nodes.length === 0) return [];
    for (const node of nodes) cache.pin(node);
    try {
      const ids = Int32Array.from(nodes.flatMap(({ pages }) => pages));
      const { parts, checksums } = await transfer.exportPages(ids, pageTokens / PAGE_TOKENS);
      return nodes.map((node, i) => {
        const data = parts[i] as Uint8Array;
        return { ...cache.pageInfo(node), data, size: data.length, checksum: checksums[i] as number };
      });
    } finally {
      for (const node of nodes) cache.unpin(node);
    }
  }

  async #state(node: CacheNode): Promise<Blob | null> {
    const { cache, transfer } = this.#o;
    const { state } = node;
    if (state === null) return null;
    const info = cache.stateInfo(node);
    state.users += 1;
    try {
      const { data, checksum } = await transfer.exportState(state.slot);
      return { ...info, data, size: data.length, checksum };
    } finally {
      state.users -= 1;
    }
  }
}
