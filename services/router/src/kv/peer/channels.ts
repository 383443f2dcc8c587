import type { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import { channelOptions, type Clock, type Timer } from '@guildhall/common';
import { pages } from '@guildhall/proto';
import { PEER_MESSAGE_BYTES } from './wire.ts';

export interface PeerChannelOptions {
  credentials: ChannelCredentials;
  metadata: Metadata;
  clock: Clock;
  /** Time without a call after which a channel is closed, milliseconds. */
  idleMs: number;
}

interface Entry {
  client: pages.PagesClient;
  users: number;
  idle: Timer | null;
}

/** Channels to other routers, one for each address, kept while they are used and a little longer. */
export class PeerChannels {
  readonly #o: PeerChannelOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: PeerChannelOptions) {
    this.#o = options;
  }

  /** Metadata of each call. */
  get metadata(): Metadata {
    return this.#o.metadata;
  }

  /** The same for a call that belongs to a span. */
  metadataFor(traceparent: string | undefined): Metadata {
    if (traceparent === undefined) return this.#o.metadata;
    const metadata = this.#o.metadata.clone();
    metadata.set('traceparent', traceparent);
    return metadata;
  }

  /** Open channels. */
  get size(): number {
    return this.#entries.size;
  }

  /** Runs `body` with a client for `address`. */
  async use<T>(address: string, body: (client: pages.PagesClient) => Promise<T>): Promise<T> {
    const entry = this.#open(address);
    entry.users += 1;
    entry.idle?.cancel();
    entry.idle = null;
    try {
      return await body(entry.client);
    } finally {
      entry.users -= 1;
      if (entry.users === 0 && this.#entries.get(address) === entry) {
        entry.idle = this.#o.clock.setTimer(this.#o.idleMs, () => this.#close(address, entry));
      }
    }
  }

  /** Closes all of them; calls in progress fail. */
  close(): void {
    for (const [address, entry] of this.#entries) this.#close(address, entry);
  }

  #open(address: string): Entry {
    const known = this.#entries.get(address);
    if (known !== undefined) return known;
    const options = channelOptions({ maxMessageBytes: PEER_MESSAGE_BYTES });
    const client = new pages.PagesClient(address, this.#o.credentials, options);
    const entry: Entry = { client, users: 0, idle: null };
    this.#entries.set(address, entry);
    return entry;
  }

  #close(address: string, entry: Entry): void {
    entry.idle?.cancel();
    entry.client.close();
    this.#entries.delete(address);
  }
}
