import type { PageName } from '@guildhall/common';
import type { Blob, BlobKind } from './blob.ts';
import { KvManager } from './kv-manager.ts';
import { PAGE_TOKENS, PagePool } from './page-pool.ts';
import { type DeviceObserver, PrefixCache, type PrefixCacheOptions } from './prefix-cache.ts';
import { type PoolTransfer, Restorer } from './restorer.ts';
import { StateSlots } from './state-slots.ts';
import type { BlobStore, StoredBlob } from './tiers/blob-store.ts';
import { WriteBack } from './write-back.ts';

export interface RouterKvOptions {
  /** Pages of 64 tokens. */
  numPages: number;
  /** Sequences at a time; their state slots come first in the pool. */
  maxRunning: number;
  /** State slots behind those, for snapshots. */
  numSnapshots: number;
  /** exact: a hit gives the bits of a miss. fast: what decode made is shared too, which rounds otherwise. */
  mode: 'exact' | 'fast' | 'off';
  fingerprint: string;
  numericsId: string;
  /** Tokens of a named page. */
  pageTokens: number;
  /** Bytes of 64 tokens. */
  pageBytes: number;
  /** 0 for models without recurrent state. */
  stateBytes: number;
  snapshotGrid: number;
  transfer: PoolTransfer;
  /** Host memory and disk; null without. */
  store: BlobStore | null;
  observer: DeviceObserver;
  isLeased?: PrefixCacheOptions['isLeased'];
  cost: (tokens: number, depth: number) => number;
  /** Something could not be read from the pool. */
  onError: (err: unknown) => void;
}

/** The parts of the KV cache of one router, wired. */
export class RouterKv {
  readonly manager: KvManager;
  readonly cache: PrefixCache | null;
  readonly store: BlobStore | null;
  readonly restorer: Restorer | null;
  readonly transfer: PoolTransfer;
  readonly #writeBack: WriteBack | null;

  constructor(options: RouterKvOptions) {
    const { numPages, maxRunning, fingerprint, numericsId, pageTokens, snapshotGrid, transfer } = options;
    const pool = new PagePool(numPages);
    const stateless = options.stateBytes === 0;
    this.transfer = transfer;
    this.cache = options.mode === 'off' ? null : makeCache(options, pool);
    this.store = options.store;
    const { cache, store } = this;
    const pageBytes = options.pageBytes * (pageTokens / PAGE_TOKENS);
    const tiers = cache === null || store === null ? null : { cache, store };
    this.restorer =
      tiers &&
      new Restorer({ ...tiers, pool, transfer, pageBytes, pageTokens, stateBytes: options.stateBytes, stateless });
    this.#writeBack = tiers && new WriteBack({ ...tiers, transfer, pageTokens, onError: options.onError });
    this.manager = new KvManager({
      pool,
      slots: new StateSlots(maxRunning),
      cache,
      store,
      space: { fingerprint, numericsId, pageTokens },
      snapshotGrid,
      stateless,
      // Without recurrent layers a token's bits are the same in decode as in prefill.
      decodePages: stateless ? 'prefill' : options.mode === 'fast' ? 'decode' : 'none',
      onPublished: (node) => this.#writeBack?.offer(node),
    });
  }

  /** A page or state, wherever it is in this router; null when it is not. */
  async read(kind: BlobKind, name: PageName): Promise<Blob | null> {
    return (await this.#writeBack?.read(kind, name)) ?? null;
  }

  /** Infos of everything that others could fetch, by tier. */
  *entries(): Iterable<StoredBlob & { tier: 'device' | 'host' | 'disk' }> {
    for (const info of this.cache?.entries() ?? []) yield { ...info, tier: 'device' };
    yield* this.store?.entries() ?? [];
  }

  /** Resolves when all that was published has been copied to host memory. */
  async settle(): Promise<void> {
    await this.#writeBack?.idle();
  }

  async close(): Promise<void> {
    await this.#writeBack?.close();
    await this.store?.close();
  }
}

function makeCache(options: RouterKvOptions, pool: PagePool): PrefixCache {
  const { maxRunning, numSnapshots, pageTokens, pageBytes, stateBytes, cost, observer } = options;
  const snapshots = stateBytes > 0 && numSnapshots > 0 ? new StateSlots(numSnapshots, maxRunning) : null;
  return new PrefixCache({
    pool,
    snapshots,
    pageTokens,
    pageBytes: pageBytes * (pageTokens / PAGE_TOKENS),
    stateBytes,
    cost,
    observer,
    ...(options.isLeased === undefined ? {} : { isLeased: options.isLeased }),
  });
}
