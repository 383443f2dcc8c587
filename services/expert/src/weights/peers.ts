import type { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import { channelOptions, type Clock, isGuildhallError, type Logger } from '@guildhall/common';
import type { ExpertBytes, TensorRange } from '@guildhall/model/weights';
import { weights } from '@guildhall/proto';
import type { Neighbour } from './neighbours.ts';
import { fetchExpert, type PeerCalls } from './peer-calls.ts';
import { type Checksum, faultOf, transferFault, WEIGHTS_MESSAGE_BYTES } from './wire.ts';

export interface PeersOptions {
  credentials: ChannelCredentials;
  metadata: Metadata;
  checksum: Checksum;
  clock: Clock;
  logger: Logger;
  /** Time without a byte after which a transfer is given up, milliseconds. */
  stallMs: number;
  /** For so long a peer is asked again that has too much to do, milliseconds. */
  busyLimitMs: number;
  /** 0 to 1, as Math.random. */
  random: () => number;
}

export interface PeerFetch {
  fingerprint: string;
  signal: AbortSignal;
  paced: (bytes: number) => Promise<void>;
}

/** Time of one transfer, milliseconds. */
const LIMIT_MS = 300_000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** A peer that serves as many as it may is no faulty one. */
const BUSY_PAUSE_MS = 250;

interface Standing {
  faults: number;
  untilMs: number;
}

/** Transfers of weights from other workers: which one is asked, and who is left alone after a fault. */
export class Peers {
  readonly #o: PeersOptions;
  readonly #clients = new Map<string, weights.WeightsClient>();
  readonly #standing = new Map<string, Standing>();

  constructor(options: PeersOptions) {
    this.#o = options;
  }

  /**
   * An expert from one of `suppliers`: those without faults first, in random order, until one gives it. While one of them has
   * only too much to do, it is asked again.
   * @param check throws where the bytes cannot be those of the model.
   * Errors: `cancelled`; `peer_unavailable` with the fault of the last one.
   */
  async fetch(
    suppliers: readonly Neighbour[],
    address: { layer: number; expert: number },
    ranges: readonly TensorRange[],
    options: PeerFetch & { check: (bytes: ExpertBytes) => void },
  ): Promise<ExpertBytes> {
    return this.patiently(options.signal, () => this.#fetch(suppliers, address, ranges, options));
  }

  /** Runs a transfer again while it fails because the peer is busy. Errors: those of the transfer. */
  async patiently<T>(signal: AbortSignal, transfer: () => Promise<T>): Promise<T> {
    const { clock, busyLimitMs, random } = this.#o;
    const endMs = clock.monotonicMs() + busyLimitMs;
    for (;;) {
      try {
        return await transfer();
      } catch (err) {
        if (signal.aborted || faultOf(err).fault !== 'busy' || clock.monotonicMs() >= endMs) throw err;
      }
      await clock.sleep(BUSY_PAUSE_MS * (0.5 + random()), signal);
    }
  }

  async #fetch(
    suppliers: readonly Neighbour[],
    address: { layer: number; expert: number },
    ranges: readonly TensorRange[],
    options: PeerFetch & { check: (bytes: ExpertBytes) => void },
  ): Promise<ExpertBytes> {
    let last: Error | null = null;
    let busy: Error | null = null;
    for (const supplier of this.#order(suppliers)) {
      try {
        const bytes = await fetchExpert(this.calls(supplier.address, options), address, ranges);
        checkBytes(options.check, bytes);
        this.#standing.delete(supplier.id);
        return bytes;
      } catch (err) {
        if (options.signal.aborted) throw err;
        last = this.#failed(supplier, err);
        if (faultOf(last).fault === 'busy') busy = last;
      }
    }
    throw busy ?? last ?? transferFault('absent', 'no worker that can be asked has it');
  }

  /** What calls to an address need. */
  calls(address: string, { fingerprint, signal, paced }: PeerFetch): PeerCalls {
    const { metadata, checksum, clock, stallMs } = this.#o;
    const client = this.#client(address);
    return { client, metadata, fingerprint, checksum, clock, stallMs, limitMs: LIMIT_MS, signal, paced };
  }

  /** Closes channels to all but these addresses. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const [address, client] of this.#clients) {
      if (addresses.has(address)) continue;
      client.close();
      this.#clients.delete(address);
    }
  }

  close(): void {
    this.keepOnly(new Set());
  }

  #client(address: string): weights.WeightsClient {
    const known = this.#clients.get(address);
    if (known !== undefined) return known;
    const options = channelOptions({ maxMessageBytes: WEIGHTS_MESSAGE_BYTES });
    const client = new weights.WeightsClient(address, this.#o.credentials, options);
    this.#clients.set(address, client);
    return client;
  }

  /** Those that are left alone come last: with nobody else a bad chance is better than none. */
  #order(suppliers: readonly Neighbour[]): Neighbour[] {
    const nowMs = this.#o.clock.monotonicMs();
    return suppliers
      .map((supplier) => {
        const untilMs = this.#standing.get(supplier.id)?.untilMs ?? 0;
        return { supplier, avoid: untilMs > nowMs ? untilMs : 0, place: this.#o.random() };
      })
      .sort((a, b) => a.avoid - b.avoid || a.place - b.place)
      .map(({ supplier }) => supplier);
  }

  #failed({ id }: Neighbour, err: unknown): Error {
    const { fault, detail } = faultOf(err);
    const known = this.#standing.get(id) ?? { faults: 0, untilMs: 0 };
    if (fault !== 'busy') known.faults += 1;
    const pause = fault === 'busy' ? BUSY_PAUSE_MS : FIRST_PAUSE_MS * 2 ** Math.min(known.faults - 1, 6);
    known.untilMs = this.#o.clock.monotonicMs() + Math.min(pause, LONGEST_PAUSE_MS);
    this.#standing.set(id, known);
    if (fault !== 'busy')
      this.#o.logger.warn({ worker: id, fault, reason: detail }, 'weights from another worker failed');
    return transferFault(fault, `${id}: ${detail}`);
  }
}

function checkBytes(check: (bytes: ExpertBytes) => void, bytes: ExpertBytes): void {
  try {
    check(bytes);
  } catch (err) {
    throw isGuildhallError(err) ? transferFault('corrupt', err.message) : err;
  }
}
