import type { Clock, Cluster, Logger, Metrics, Tracing } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { RouterConfig } from './config.ts';
import type { Tier } from './kv/blob.ts';
import { FaultLog, setTierGauges, storeObserver } from './kv/cache-observer.ts';
import { DirectoryPublisher } from './kv/directory-publisher.ts';
import { Evictor } from './kv/evictor.ts';
import { nativeTransfer } from './kv/native-transfer.ts';
import { PAGE_TOKENS } from './kv/page-pool.ts';
import { PeerExchange } from './kv/peer/exchange.ts';
import type { LeaseHolder } from './kv/peer/puller.ts';
import { prefillMs } from './kv/peer/rates.ts';
import type { PrefixCache } from './kv/prefix-cache.ts';
import type { PoolTransfer } from './kv/restorer.ts';
import { RouterKv } from './kv/router-kv.ts';
import { Swapper } from './kv/swapper.ts';
import type { BlobStore, BlobStoreObserver, TierUsage } from './kv/tiers/blob-store.ts';
import { TieredStore } from './kv/tiers/tiered-store.ts';
import type { LoadedModel } from './load-model.ts';
import type { Scheduler } from './scheduler/scheduler.ts';
import type { Sequence } from './sequence.ts';

export interface KvHomeOptions {
  config: RouterConfig;
  loaded: LoadedModel;
  identity: { id: string; incarnation: bigint };
  metrics: Metrics;
  tracing: Tracing;
  clock: Clock;
  logger: Logger;
}

/** Time for which a puller keeps what it pulls from being evicted, milliseconds; it is released earlier. */
const LEASE_MS = 30_000;

/** The KV cache of a router with everything around it: lower tiers, the directory, other routers. */
export class KvHome {
  readonly kv: RouterKv;
  readonly peers: PeerExchange;
  /** Null without lower tiers: preempted sequences are computed again. */
  readonly swapper: Swapper | null;
  readonly faults: FaultLog;
  readonly #o: KvHomeOptions;
  #scheduler: Scheduler | null = null;
  #cluster: Cluster | null = null;
  #publisher: DirectoryPublisher | null = null;
  #evictor: Evictor | null = null;

  /** Opens the tiers. Errors: `config_invalid` for a folder that is none, or another process's. */
  static async open(options: KvHomeOptions): Promise<KvHome> {
    const faults = new FaultLog(options.metrics, options.logger);
    // The store speaks before there is a home to listen.
    const late: { home: KvHome | null } = { home: null };
    const listener: Pick<BlobStoreObserver, 'added' | 'removed'> = {
      added: (tier, blob) => late.home?.added(tier, blob),
      removed: (tier, kind, name) => late.home?.removed(tier, kind, name),
    };
    const observer = storeObserver(options.metrics, faults, listener);
    const isLeased: IsLeased = (blob) => late.home?.isLeased(blob) ?? false;
    late.home = new KvHome(options, faults, await openStore(options, observer, isLeased));
    return late.home;
  }

  private constructor(options: KvHomeOptions, faults: FaultLog, store: TieredStore | null) {
    this.#o = options;
    this.faults = faults;
    this.kv = this.#makeKv(store);
    this.peers = this.#makePeers();
    this.swapper = this.#makeSwapper();
  }

  /** Predictions come from what this scheduler measures. */
  attach(scheduler: Scheduler): void {
    this.#scheduler = scheduler;
  }

  /** Lists what this router has in the directory from now on. */
  publish(cluster: Cluster, onReplaced: (err: Error) => void): void {
    if (this.kv.cache === null) return;
    const { identity, clock, logger, metrics } = this.#o;
    cluster.directory.meter(metrics);
    this.#cluster = cluster;
    this.#publisher = new DirectoryPublisher({
      directory: cluster.directory,
      router: identity.id,
      incarnation: identity.incarnation,
      clock,
      logger,
      metrics,
      entries: () => this.kv.entries(),
      onReplaced,
      onFault: (kind, detail) => this.faults.fault(kind, detail),
    });
    this.#publisher.start();
    this.#evictor = this.#makeEvictor(this.kv.cache, this.#publisher);
  }

  /** A page or state can be had from a tier from now on. */
  added(tier: Tier, info: Parameters<DirectoryPublisher['added']>[1]): void {
    this.#publisher?.added(tier, info);
  }

  removed(tier: Tier, ...key: RemovedKey): void {
    this.#publisher?.removed(tier, ...key);
  }

  /** Another router is about to fetch it. */
  isLeased({ kind, name }: Parameters<IsLeased>[0]): boolean {
    return this.#publisher?.isLeased(kind, name) ?? false;
  }

  /** Brings what a waiting sequence will need nearer: from other routers and from disk. Null when there is nothing. */
  prefetch(seq: Sequence): Promise<void> | null {
    return this.peers.prefetch(seq) ?? this.#fromDisk(seq);
  }

  #fromDisk(seq: Sequence): Promise<void> | null {
    const { store, manager } = this.kv;
    if (store === null) return null;
    const keys = manager.match(seq).imports.filter(({ tier }) => tier === 'disk');
    if (keys.length === 0) return null;
    return this.peers.watched(seq, async (signal) => await store.prefetch(keys, signal));
  }

  setGauges(): void {
    this.peers.setGauges();
    setTierGauges(this.#o.metrics, this.#usage());
  }

  /** Tiers as RouterInfo shows them. */
  tiers(): router.CacheTier[] {
    return this.#usage().map(({ tier, capacityBytes, usedBytes, pages, states }) => ({
      name: tier,
      capacityBytes: BigInt(capacityBytes),
      usedBytes: BigInt(usedBytes),
      pages: BigInt(pages),
      states: BigInt(states),
    }));
  }

  #usage(): TierUsage[] {
    const { kv, states } = this.#o.loaded.pools;
    const { cache, manager, store } = this.kv;
    const stateBytes = (cache?.numStates ?? 0) * (states?.slotBytes ?? 0);
    const device: TierUsage = {
      tier: 'device',
      capacityBytes: kv.numPages * kv.pageBytes + this.#o.loaded.numSnapshots * (states?.slotBytes ?? 0),
      usedBytes: (manager.pool.numPages - manager.pool.numFree) * kv.pageBytes + stateBytes,
      heldBytes: 0,
      pendingBytes: 0,
      pages: cache?.numPages ?? 0,
      states: cache?.numStates ?? 0,
    };
    return [device, ...(store?.usage() ?? [])];
  }

  /** Leaves the directory, gives up what is parked and closes the tiers. */
  async close(): Promise<void> {
    this.peers.close();
    await this.#publisher?.close();
    await this.kv.close();
  }

  #makeKv(store: BlobStore | null): RouterKv {
    const { config, loaded, logger, metrics } = this.#o;
    const { kv, states } = loaded.pools;
    return new RouterKv({
      numPages: kv.numPages,
      maxRunning: config.maxRunning,
      numSnapshots: loaded.numSnapshots,
      mode: config.prefixCache,
      fingerprint: loaded.fingerprint,
      numericsId: loaded.numericsId,
      pageTokens: config.pageTokens,
      pageBytes: kv.pageBytes,
      stateBytes: states?.slotBytes ?? 0,
      snapshotGrid: config.snapshotGrid,
      transfer: this.#timed(nativeTransfer(kv, states)),
      store,
      observer: {
        added: (info) => {
          this.added('device', info);
          this.#evictor?.poke();
        },
        removed: (kind, name, reason) => {
          metrics.count('guildhall_kv_evictions_total', { tier: 'device', reason });
          this.removed('device', kind, name);
        },
      },
      isLeased: (blob) => this.isLeased(blob),
      cost: (tokens, depth) => this.#cost(tokens, depth),
      onError: (err) => logger.error({ err }, 'pages could not be copied out of the pool'),
    });
  }

  /** Imports tell the decision to pull from other routers what they cost. */
  #timed(transfer: PoolTransfer): PoolTransfer {
    const { clock } = this.#o;
    return {
      ...transfer,
      importPages: async (pages, parts) => {
        const begun = clock.monotonicMs();
        await transfer.importPages(pages, parts);
        const bytes = parts.reduce((sum, part) => sum + part.length, 0);
        this.peers.puller?.rates.observeImport(bytes, clock.monotonicMs() - begun);
      },
    };
  }

  #makeEvictor(cache: PrefixCache, publisher: DirectoryPublisher): Evictor {
    const { manager, store } = this.kv;
    return new Evictor({ pool: manager.pool, cache, store, ask: (keys) => publisher.evict(keys) });
  }

  /** Milliseconds of computing `tokens` prompt tokens after `depth` others, with their share of what every step costs. */
  #cost(tokens: number, depth: number): number {
    const cost = this.#scheduler?.prefillCost;
    if (cost === undefined) return tokens;
    const { chunkTokens } = this.#o.config;
    const step = { tokens: chunkTokens, depthTokens: chunkTokens * (depth + tokens / 2) };
    return (cost.predict(step) * tokens) / chunkTokens;
  }

  #makePeers(): PeerExchange {
    const { config, loaded, metrics, tracing, clock, logger } = this.#o;
    const { fingerprint, numericsId, native, pools } = loaded;
    const { pageBytes } = pools.kv;
    const { chunkTokens } = config;
    return new PeerExchange({
      config,
      identity: { fingerprint, numericsId },
      kv: this.kv,
      lease: this.#lease,
      onFetch: () => this.#publisher?.poke(),
      checksum: (parts) => native.crc32c(parts),
      clock,
      metrics,
      tracing,
      logger,
      pageBytes,
      namedPageBytes: pageBytes * (config.pageTokens / PAGE_TOKENS),
      stateBytes: pools.states?.slotBytes ?? 0,
      prefillMs: (from, to) =>
        this.#scheduler === null ? Infinity : prefillMs(this.#scheduler.prefillCost, { from, to, chunkTokens }),
    });
  }

  readonly #lease: LeaseHolder = async (holder, blobs) => {
    const cluster = this.#cluster;
    if (cluster === null) return async () => undefined;
    const lease = await cluster.directory.lease(holder, blobs, LEASE_MS);
    return async () => void (await cluster.directory.release(lease));
  };

  #makeSwapper(): Swapper | null {
    const { config, loaded, metrics, clock } = this.#o;
    const { manager, store, restorer, transfer } = this.kv;
    if (store === null) return null;
    const { kv, states } = loaded.pools;
    return new Swapper({
      mode: config.swap,
      clock,
      kv: manager,
      restorer,
      store,
      transfer,
      pageBytes: kv.pageBytes,
      stateBytes: states?.slotBytes ?? 0,
      recomputeMs: (from, to) => this.#scheduler?.recomputeMs(from, to) ?? Infinity,
      moved: (direction, bytes) => metrics.count('guildhall_swap_bytes_total', { direction }, bytes),
      lost: () => metrics.count('guildhall_swap_lost_total'),
    });
  }
}

type RemovedKey = [...Parameters<DirectoryPublisher['removed']>] extends [unknown, ...infer Rest] ? Rest : never;
type IsLeased = NonNullable<Parameters<typeof TieredStore.open>[0]['isLeased']>;

/** Null when neither host memory nor disk is to be used. */
async function openStore(
  { config, loaded, clock }: KvHomeOptions,
  observer: BlobStoreObserver,
  isLeased: IsLeased,
): Promise<TieredStore | null> {
  if (config.kvHostMemory === 0 && config.kvDisk === null) return null;
  const { fingerprint, numericsId, native } = loaded;
  return await TieredStore.open({
    hostBytes: config.kvHostMemory,
    disk: config.kvDisk === null ? null : { path: config.kvDisk, capacityBytes: config.kvDiskLimit },
    space: { fingerprint, numericsId },
    checksum: (parts) => native.crc32c(parts),
    observer,
    clock,
    isLeased,
  });
}
