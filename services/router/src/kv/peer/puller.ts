import {
  type Clock,
  errorMessage,
  isGuildhallError,
  type Logger,
  type Metrics,
  pacedReplies,
  packNames,
  type PageName,
} from '@guildhall/common';
import type { pages } from '@guildhall/proto';
import { type BlobKey, blobKey, type BlobKind } from '../blob.ts';
import type { BlobStore } from '../tiers/blob-store.ts';
import type { Checksum } from './blob-assembly.ts';
import type { PeerChannels } from './channels.ts';
import { NamedBlobs, type WantedBlob } from './named-blobs.ts';
import type { PullRates } from './rates.ts';
import { PeerStanding } from './standing.ts';
import { Turns } from './turns.ts';
import { faultOf, isCacheFault, MAX_NAMES, type PullFault, stalled } from './wire.ts';

/** Another router, as the directory or the gateway names it. */
export interface PeerHolder {
  routerId: string;
  /** host:port of its gRPC server. */
  address: string;
}

export interface PullRequest {
  holder: PeerHolder;
  /** Pages that are missing here, in the order of the prompt, with the token ids [pageTokens] that each must have. */
  pages: readonly { name: PageName; tokens: Int32Array }[];
  /** The page whose state is wanted, or null. */
  stateName: PageName | null;
  /** Time that it may take, if that is less than the limit of all pulls, milliseconds. */
  limitMs?: number;
  /** Of the span that it belongs to. */
  traceparent?: string | undefined;
  signal: AbortSignal;
}

/**
 * How a pull ended. `partial`: the holder no longer has all of it; `no_room`: the store did not take a blob; `cancelled`:
 * by the caller. After any of them, what came before is in the store, checked.
 */
export type PullOutcome = 'complete' | 'partial' | 'no_room' | 'cancelled' | PullFault;

export interface PullResult {
  outcome: PullOutcome;
  /** Pages and state that this pull brought into the store. */
  pages: number;
  state: boolean;
  bytes: number;
  ms: number;
}

const NOTHING: Readonly<PullResult> = { outcome: 'complete', pages: 0, state: false, bytes: 0, ms: 0 };

/** Keeps the holder's entries in the directory from being evicted; the result gives them free again. */
export type LeaseHolder = (
  holder: string,
  blobs: readonly { kind: BlobKind; name: PageName }[],
) => Promise<() => Promise<void>>;

export interface PeerPullerOptions {
  channels: PeerChannels;
  store: Pick<BlobStore, 'put' | 'where'>;
  rates: PullRates;
  checksum: Checksum;
  lease: LeaseHolder | null;
  clock: Clock;
  metrics: Metrics;
  logger: Logger;
  identity: { fingerprint: string; numericsId: string };
  /** Sizes of this router's pages and states, bytes. */
  pageBytes: number;
  stateBytes: number;
  /** Transfers at a time; more wait. */
  maxPulls: number;
  stallMs: number;
  limitMs: number;
}

/**
 * Brings pages and states of other routers into the store. Everything is checked against what was asked for before it is
 * kept; no fault reaches the caller as an error: what is missing afterwards is computed.
 */
export class PeerPuller {
  readonly rates: PullRates;
  readonly #o: PeerPullerOptions;
  readonly #standing: PeerStanding;
  readonly #turns: Turns;
  /** Blobs on their way, so that requests with a common prefix fetch it once. */
  readonly #coming = new Map<BlobKey, Promise<unknown>>();

  constructor(options: PeerPullerOptions) {
    this.#o = options;
    this.rates = options.rates;
    this.#standing = new PeerStanding(options.clock);
    this.#turns = new Turns(options.maxPulls);
  }

  /** Transfers that run now. */
  get running(): number {
    return this.#turns.running;
  }

  /**
   * Whether pulling `bytes` from a holder is expected to be faster than computing them in `prefillMs`, and the holder is
   * not one that failed lately.
   */
  worthwhile(holder: string, bytes: number, prefillMs: number): boolean {
    const avoided = this.#standing.avoided(holder);
    const worth = !avoided && this.rates.pullMs(holder, bytes) + this.rates.importMs(bytes) < prefillMs;
    if (!worth) this.#o.metrics.count('guildhall_kv_pulls_total', { outcome: avoided ? 'avoided' : 'slower' });
    return worth;
  }

  /** Never throws; see PullOutcome. */
  async pull(request: PullRequest): Promise<PullResult> {
    const all = this.#blobsOf(request);
    for (;;) {
      if (request.signal.aborted) return { ...NOTHING, outcome: 'cancelled' };
      const other = all
        .map(({ kind, name }) => this.#coming.get(blobKey(kind, name)))
        .find((work) => work !== undefined);
      if (other === undefined) break;
      await untilSettled(other, request.signal);
    }
    const wanted = all.filter(({ kind, name }) => this.#o.store.where(kind, name) === null);
    if (wanted.length === 0) return NOTHING;
    const blobs = new NamedBlobs(wanted, this.#o.checksum);
    const work = this.#run(request, blobs);
    for (const { kind, name } of wanted) this.#coming.set(blobKey(kind, name), work);
    try {
      return await work;
    } finally {
      for (const { kind, name } of wanted) this.#coming.delete(blobKey(kind, name));
    }
  }

  #blobsOf({ pages: list, stateName }: PullRequest): WantedBlob[] {
    const { pageBytes, stateBytes } = this.#o;
    const blobs: WantedBlob[] = list
      .slice(0, MAX_NAMES)
      .map(({ name, tokens }) => ({ kind: 'page', name, tokens, size: pageBytes }));
    // A state behind pages that are not all asked for would be useless.
    if (stateName !== null && stateBytes > 0 && list.length <= MAX_NAMES) {
      blobs.push({ kind: 'state', name: stateName, tokens: new Int32Array(0), size: stateBytes });
    }
    return blobs;
  }

  async #run(request: PullRequest, blobs: NamedBlobs): Promise<PullResult> {
    const { clock } = this.#o;
    const begun = clock.monotonicMs();
    const result: PullResult = { outcome: 'complete', pages: 0, state: false, bytes: 0, ms: 0 };
    try {
      await this.#turns.run(request.signal, async () => {
        const release = this.#lease(request.holder.routerId, blobs.wanted);
        try {
          result.outcome = await this.#transfer(request, blobs, result);
        } finally {
          release();
        }
      });
      this.#standing.succeeded(request.holder.routerId);
    } catch (err) {
      result.outcome = this.#onFault(request, err);
    }
    result.ms = clock.monotonicMs() - begun;
    this.#o.metrics.count('guildhall_kv_pulls_total', { outcome: result.outcome });
    this.#o.metrics.observe('guildhall_kv_pull_seconds', result.ms / 1000);
    return result;
  }

  /** Errors: faults of wire.ts, `cancelled`. */
  async #transfer(request: PullRequest, blobs: NamedBlobs, result: PullResult): Promise<PullOutcome> {
    const { channels, clock, stallMs, store } = this.#o;
    const { holder, signal } = request;
    const limitMs = Math.min(this.#o.limitMs, request.limitMs ?? Infinity);
    const begun = clock.monotonicMs();
    let firstAt: number | null = null;
    return await channels.use(holder.address, async (client) => {
      const call = client.fetch(this.#fetchRequest(blobs.wanted), channels.metadataFor(request.traceparent));
      for await (const reply of pacedReplies(call, { clock, stallMs, limitMs, signal, stalled })) {
        firstAt ??= clock.monotonicMs();
        const blob = await blobs.take(reply);
        if (blob === null) continue;
        if (signal.aborted) break;
        if (!store.put(blob)) return 'no_room';
        this.#stored(blob.kind, blob.size, result);
      }
      if (signal.aborted) return 'cancelled';
      const outcome = blobs.end() ? 'complete' : 'partial';
      const now = clock.monotonicMs();
      const latencyMs = (firstAt ?? now) - begun;
      this.rates.observe(holder.routerId, { bytes: result.bytes, latencyMs, ms: now - begun });
      return outcome;
    });
  }

  #stored(kind: BlobKind, size: number, result: PullResult): void {
    if (kind === 'page') result.pages += 1;
    else result.state = true;
    result.bytes += size;
    this.#o.metrics.count('guildhall_kv_pulled_bytes_total', { kind }, size);
  }

  #fetchRequest(wanted: readonly WantedBlob[]): pages.FetchRequest {
    const { identity } = this.#o;
    const names = wanted.filter(({ kind }) => kind === 'page').map(({ name }) => name);
    const states = wanted.filter(({ kind }) => kind === 'state').map(({ name }) => name);
    return {
      modelFingerprint: identity.fingerprint,
      numericsId: identity.numericsId,
      what: { $case: 'named', value: { pageNames: packNames(names), stateName: packNames(states) } },
    };
  }

  #onFault({ holder, signal }: PullRequest, err: unknown): PullOutcome {
    if (signal.aborted) return 'cancelled';
    const { fault, detail } = faultOf(err);
    const { logger, metrics } = this.#o;
    if (isCacheFault(fault)) metrics.count('guildhall_kv_faults_total', { kind: fault });
    if (this.#standing.failed(holder.routerId, fault)) {
      logger.warn({ holder: holder.routerId, address: holder.address, fault, detail }, 'pages could not be pulled');
    }
    if (!isGuildhallError(err) && !isServiceError(err)) logger.error({ err }, 'a pull broke in this router');
    return fault;
  }

  /** Takes a lease beside the transfer, which does not wait for it: the holder keeps what it is sending anyway. */
  #lease(holder: string, wanted: readonly WantedBlob[]): () => void {
    const { lease, logger } = this.#o;
    if (lease === null) return () => undefined;
    const onError = (err: unknown): void => logger.debug({ reason: errorMessage(err) }, 'no lease for a pull');
    const taken = lease(holder, wanted).catch(onError);
    return () => void taken.then((release) => release?.()).catch(onError);
  }
}

function isServiceError(err: unknown): boolean {
  return err instanceof Error && typeof (err as { code?: unknown }).code === 'number';
}

/** `work` never rejects. */
async function untilSettled(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const left = Promise.withResolvers<void>();
  const leave = (): void => left.resolve();
  signal.addEventListener('abort', leave, { once: true });
  await Promise.race([work, left.promise]);
  signal.removeEventListener('abort', leave);
}
