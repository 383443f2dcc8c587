import {
  type Attributes,
  authMetadata,
  channelCredentials,
  type Clock,
  type Logger,
  type Metrics,
  type Tracing,
} from '@guildhall/common';
import type { pages } from '@guildhall/proto';
import type { RouterConfig } from '../../config.ts';
import { pagesRpc } from '../../rpc/pages.ts';
import type { Sequence } from '../../sequence.ts';
import { parkedRecord } from '../parked-record.ts';
import { ParkedSequences } from '../parked.ts';
import type { RouterKv } from '../router-kv.ts';
import type { SequenceRecord } from '../sequence-record.ts';
import type { Checksum } from './blob-assembly.ts';
import { PeerChannels } from './channels.ts';
import { PrefixPull } from './prefix-pull.ts';
import { type LeaseHolder, PeerPuller, type PullResult } from './puller.ts';
import { PullRates } from './rates.ts';
import { isTakeable, TakeOver } from './takeover.ts';

export interface PeerExchangeOptions {
  config: Pick<
    RouterConfig,
    | 'maxPulls'
    | 'maxFetches'
    | 'pullRate'
    | 'pullStallMs'
    | 'pullLimitMs'
    | 'fetchStallMs'
    | 'parkMs'
    | 'clusterToken'
    | 'tlsCert'
    | 'tlsKey'
    | 'tlsCa'
    | 'tlsServerName'
  >;
  identity: { fingerprint: string; numericsId: string };
  kv: RouterKv;
  /** Leases at the holder; null without the directory. */
  lease: LeaseHolder | null;
  /** Another router has begun to fetch from here; it may have leased what it wants. */
  onFetch: () => void;
  checksum: Checksum;
  clock: Clock;
  metrics: Metrics;
  tracing: Tracing;
  logger: Logger;
  /** Bytes of 64 tokens. */
  pageBytes: number;
  /** Bytes of a named page. */
  namedPageBytes: number;
  /** 0 for models without recurrent state. */
  stateBytes: number;
  /** Predicted milliseconds of computing prompt tokens [from, to). */
  prefillMs: (from: number, to: number) => number;
}

/** Time without use after which a channel to another router is closed. */
const IDLE_MS = 60_000;
/** Time to the first bytes of a router that was never pulled from. */
const FIRST_LATENCY_MS = 5;
/** Interval at which transfers for sequences that have ended are looked for. */
const WATCH_MS = 50;

/** What this router gives to others and takes from them, wired. */
export class PeerExchange {
  readonly parked: ParkedSequences;
  /** Null when nothing is to be pulled. */
  readonly puller: PeerPuller | null;
  readonly #o: PeerExchangeOptions;
  readonly #channels: PeerChannels;
  readonly #prefix: PrefixPull | null;
  readonly #takeOver: TakeOver | null;

  constructor(options: PeerExchangeOptions) {
    const { config, clock, metrics, kv } = options;
    this.#o = options;
    this.parked = new ParkedSequences({
      clock,
      limitMs: config.parkMs,
      onEnd: (how) => metrics.count('guildhall_parked_ended_total', { how }),
    });
    this.#channels = new PeerChannels({
      credentials: channelCredentials(config),
      metadata: authMetadata(config),
      clock,
      idleMs: IDLE_MS,
    });
    const { cache, store, manager } = kv;
    const { namedPageBytes, stateBytes, prefillMs } = options;
    this.puller = config.maxPulls === 0 || store === null ? null : this.#makePuller(store);
    const { puller } = this;
    this.#prefix =
      puller === null || store === null || cache === null
        ? null
        : new PrefixPull({
            manager,
            cache,
            store,
            puller,
            pageBytes: namedPageBytes,
            stateBytes,
            prefillMs,
            stallMs: config.pullStallMs,
          });
    this.#takeOver = puller === null || store === null ? null : this.#makeTakeOver(store, puller);
  }

  /** The service that other routers call. */
  rpc(): pages.PagesServer {
    const { kv, identity, clock, metrics, tracing, logger, config } = this.#o;
    return pagesRpc({
      tracing,
      source: { read: (kind, name) => kv.read(kind, name) },
      onFetch: this.#o.onFetch,
      parked: this.parked,
      identity,
      clock,
      metrics,
      logger,
      maxFetches: config.maxFetches,
      readerLimitMs: config.fetchStallMs,
    });
  }

  /** Brings pages of a waiting sequence here, or what is parked of it elsewhere; null when there is nothing to do. */
  prefetch(seq: Sequence): Promise<void> | null {
    const { moved, holder } = seq.spec;
    if (moved !== null && isTakeable(moved) && this.#takeOver !== null) {
      const takeOver = this.#takeOver;
      return this.watched(seq, async (signal) => {
        const trace = seq.trace?.transfer('take over', { 'guildhall.router': moved.routerId });
        const record = await takeOver.take(seq, moved, signal, trace?.traceparent);
        trace?.set({ 'guildhall.taken_over': record !== null, 'guildhall.tokens': record?.numComputed ?? 0 });
        trace?.end();
        if (record === null) return;
        if (seq.ended) takeOver.discard(record);
        else seq.record = record;
      });
    }
    const plan = holder === null ? null : (this.#prefix?.plan(seq, holder) ?? null);
    if (plan === null) return null;
    return this.watched(seq, async (signal) => {
      const trace = seq.trace?.transfer('pull pages', { 'guildhall.router': plan.holder.routerId });
      const result = await this.puller?.pull({ ...plan, signal, traceparent: trace?.traceparent });
      if (seq.prefix !== null) seq.prefix.pulledPages = result?.pages ?? 0;
      trace?.set({ 'guildhall.pages.wanted': plan.pages.length, ...pullFacts(result) });
      trace?.end();
    });
  }

  /** Keeps a record for another router; returns its handle. Null when it cannot be kept. */
  park(record: SequenceRecord): string | null {
    const { store } = this.#o.kv;
    if (store === null) return null;
    return this.parked.park(parkedRecord(record, store, this.#o.checksum));
  }

  setGauges(): void {
    this.#o.metrics.gauge('guildhall_parked_sequences', this.parked.size);
  }

  /** Gives up what is parked and closes all channels. */
  close(): void {
    this.parked.drop();
    this.#channels.close();
  }

  #makePuller(store: NonNullable<RouterKv['store']>): PeerPuller {
    const { config, clock, metrics, logger, identity, checksum, lease, namedPageBytes, stateBytes } = this.#o;
    return new PeerPuller({
      channels: this.#channels,
      store,
      rates: new PullRates({ clock, bytesPerSecond: config.pullRate, latencyMs: FIRST_LATENCY_MS }),
      checksum,
      lease,
      clock,
      metrics,
      logger,
      identity,
      pageBytes: namedPageBytes,
      stateBytes,
      maxPulls: config.maxPulls,
      stallMs: config.pullStallMs,
      limitMs: config.pullLimitMs,
    });
  }

  #makeTakeOver(store: NonNullable<RouterKv['store']>, puller: PeerPuller): TakeOver {
    const { config, kv, clock, metrics, logger, identity, checksum, pageBytes, stateBytes } = this.#o;
    return new TakeOver({
      channels: this.#channels,
      puller,
      cache: kv.cache,
      store,
      checksum,
      clock,
      metrics,
      logger,
      identity,
      pageBytes,
      stateBytes,
      maxPulls: config.maxPulls,
      stallMs: config.pullStallMs,
      limitMs: config.pullLimitMs,
    });
  }

  /** Runs a transfer for a sequence until it is over or the sequence has ended. */
  async watched(seq: Sequence, body: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const abort = new AbortController();
    const watch = this.#o.clock.setInterval(WATCH_MS, () => {
      if (seq.ended) abort.abort();
    });
    try {
      await body(abort.signal);
    } finally {
      watch.cancel();
    }
  }
}

function pullFacts(result: PullResult | undefined): Attributes {
  if (result === undefined) return {};
  const { outcome, pages: count, bytes } = result;
  return { 'guildhall.outcome': outcome, 'guildhall.pages': count, 'guildhall.bytes.received': bytes };
}
