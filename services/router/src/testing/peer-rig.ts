import {
  authMetadata,
  bindGrpcServer,
  channelCredentials,
  createGrpcServer,
  createMetrics,
  createLogger,
  type Metrics,
  type PageName,
  PageNames,
  shutDownGrpcServer,
  systemClock,
} from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { pages } from '@guildhall/proto';
import { type Blob, type BlobKey, blobKey, type BlobKind } from '../kv/blob.ts';
import { ParkedSequences } from '../kv/parked.ts';
import { PeerChannels } from '../kv/peer/channels.ts';
import { PeerPuller, type PeerPullerOptions } from '../kv/peer/puller.ts';
import { PullRates } from '../kv/peer/rates.ts';
import { type BlobSource, pagesRpc, type PagesRpcOptions } from '../rpc/pages.ts';
import { crc32cReference } from './crc32c.ts';

/** CRC-32C of each part, as the native one is called. */
export function crc32cOf(parts: readonly Uint8Array[]): Promise<Uint32Array> {
  return Promise.resolve(Uint32Array.from(parts, crc32cReference));
}

export const IDENTITY = { fingerprint: 'f'.repeat(32), numericsId: 'class-1' };
export const PAGE_TOKENS = 64;
/** More than one part and no multiple of one. */
export const PAGE_BYTES = 300_001;
export const STATE_BYTES = 123_457;
export const NO_TOKEN = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };

/** Bytes of a test blob that appear in no other place of a transfer; what fronts look for. */
export const MARK = Buffer.from('<-- flip a bit of this -->');

/** A prompt's pages and the states behind them, with contents that differ. */
export class Prompt {
  readonly tokens: Int32Array;
  readonly names: PageNames;

  constructor(numPages: number, seed = 1) {
    this.tokens = Int32Array.from({ length: numPages * PAGE_TOKENS }, (_, i) => (i * 31 + seed * 7) % 1000);
    this.names = new PageNames({ ...IDENTITY, pageTokens: PAGE_TOKENS, salt: '', adapter: '' }, this.tokens);
  }

  name(index: number): PageName {
    return this.names.at(index);
  }

  blob(kind: BlobKind, index: number): Blob {
    const data = Buffer.alloc(kind === 'page' ? PAGE_BYTES : STATE_BYTES, index + (kind === 'page' ? 1 : 101));
    for (const before of [1000, 2000, 3000]) MARK.copy(data, data.length - before);
    const tokens = kind === 'page' ? this.names.tokens(index) : new Int32Array(0);
    return {
      kind,
      name: this.name(index),
      tokens,
      size: data.length,
      checksum: crc32cReference(data),
      value: 12.5,
      data,
    };
  }

  /** Its pages as a pull asks for them. */
  wanted(): { name: PageName; tokens: Int32Array }[] {
    return this.names.first(this.names.length).map((name, i) => ({ name, tokens: this.names.tokens(i) }));
  }
}

/** A map with the two calls that the puller makes. */
export class MapStore {
  readonly blobs = new Map<BlobKey, Blob>();
  room = Infinity;

  put(blob: Blob): boolean {
    if (this.blobs.size >= this.room) return false;
    this.blobs.set(blobKey(blob.kind, blob.name), blob);
    return true;
  }

  where(kind: BlobKind, name: PageName): 'host' | null {
    return this.blobs.has(blobKey(kind, name)) ? 'host' : null;
  }

  get(kind: BlobKind, name: PageName): Blob | null {
    return this.blobs.get(blobKey(kind, name)) ?? null;
  }
}

/** What a holder has, and a record of what was read. */
export class MapSource implements BlobSource {
  readonly store = new MapStore();
  readonly reads: BlobKind[] = [];
  /** Waits before each read, if set. */
  gate: Promise<void> | null = null;
  signal: AbortSignal | null = null;

  async read(kind: BlobKind, name: PageName, signal: AbortSignal): Promise<Blob | null> {
    this.signal = signal;
    this.reads.push(kind);
    await this.gate;
    return this.store.get(kind, name);
  }
}

/** The value of a metric, summed over labels that contain `labels`. */
export async function metricOf(metrics: Metrics, name: string, labels = ''): Promise<number> {
  const { body } = await metrics.render();
  return body
    .split('\n')
    .filter((line) => line.startsWith(name) && '{ '.includes(line[name.length] ?? 'x') && line.includes(labels))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** A real server of the Pages service. */
export interface Holder {
  address: string;
  source: MapSource;
  parked: ParkedSequences;
  metrics: Metrics;
  stop(): Promise<void>;
}

export async function startHolder(
  options: Partial<PagesRpcOptions> & { clusterToken?: string | null; parkedLimitMs?: number } = {},
): Promise<Holder> {
  const source = new MapSource();
  const metrics = createMetrics('router');
  const parked = new ParkedSequences({
    clock: systemClock,
    limitMs: options.parkedLimitMs ?? 60_000,
    onEnd: () => undefined,
  });
  const server = createGrpcServer(
    { ...NO_TOKEN, clusterToken: options.clusterToken ?? null },
    { maxMessageBytes: 16 << 20 },
  );
  const rpc = pagesRpc({
    source,
    parked,
    identity: IDENTITY,
    clock: systemClock,
    metrics,
    logger: silentLogger(),
    maxFetches: 4,
    readerLimitMs: 60_000,
    ...options,
  });
  server.addService(pages.PagesService, rpc);
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  return { address, source, parked, metrics, stop: () => shutDownGrpcServer(server, 0) };
}

type FetchCall = Parameters<pages.PagesServer['fetch']>[0];

/** A server whose Fetch does what a test says. */
export async function startHostile(
  fetch: (call: FetchCall) => void,
): Promise<{ address: string; stop(): Promise<void> }> {
  const server = createGrpcServer(NO_TOKEN, { maxMessageBytes: 16 << 20 });
  server.addService(pages.PagesService, {
    fetch: (call: FetchCall) => {
      call.on('error', () => undefined);
      fetch(call);
    },
    release: (_call: unknown, reply: (err: null, value: pages.ReleaseReply) => void) =>
      reply(null, { released: false }),
  });
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  return { address, stop: () => shutDownGrpcServer(server, 0) };
}

/** A puller with its store, metrics and log. */
export interface Pulling {
  puller: PeerPuller;
  store: MapStore;
  channels: PeerChannels;
  metrics: Metrics;
  log: string[];
  close(): void;
}

export function makePuller(options: Partial<PeerPullerOptions> & { clusterToken?: string | null } = {}): Pulling {
  const store = new MapStore();
  const metrics = createMetrics('router');
  const log: string[] = [];
  const logger = createLogger({
    service: 'test',
    id: null,
    level: 'warn',
    destination: { write: (line: string) => void log.push(line) },
  });
  const clock = options.clock ?? systemClock;
  const metadata = authMetadata({ clusterToken: options.clusterToken ?? null });
  const channels = new PeerChannels({ credentials: channelCredentials(NO_TOKEN), metadata, clock, idleMs: 60_000 });
  const puller = new PeerPuller({
    channels,
    store,
    rates: new PullRates({ clock, bytesPerSecond: 1e9, latencyMs: 1 }),
    checksum: crc32cOf,
    lease: null,
    clock,
    metrics,
    logger,
    identity: IDENTITY,
    pageBytes: PAGE_BYTES,
    stateBytes: STATE_BYTES,
    maxPulls: 4,
    stallMs: 30_000,
    limitMs: 60_000,
    ...options,
  });
  return { puller, store, channels, metrics, log, close: () => channels.close() };
}
