import { errorMessage, type Logger } from '@guildhall/common';
import type { ExpertLoad, ExpertShard, Lane, NativeBinding } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import type { ReplySink } from '../lane-stream.ts';
import type { ExpertObserver } from '../observer.ts';
import type { ExpertPeer } from '../peer.ts';
import type { MessageLimits } from '../plan.ts';

export interface LocalFallbackOptions {
  /** Id under which rows are counted: this router's. */
  id: string;
  /** Empty; experts come and go. */
  shard: Pick<ExpertShard, 'loadAll' | 'unload' | 'forward'>;
  /** Experts held at a time, 2 at least. */
  capacity: number;
  /** Reads an expert's weights from the checkpoint. */
  read: (layer: number, expert: number) => Promise<Omit<ExpertLoad, 'expert'>>;
  native: Pick<NativeBinding, 'parseReplyHeader' | 'packStatusReply'>;
  observer: Pick<ExpertObserver, 'fallback'>;
  logger: Logger;
}

/** An expert that is held or being loaded; the map that they are in is ordered by their last use. */
interface Held {
  layer: number;
  expert: number;
  /** Messages that need it and are not computed yet. */
  users: number;
  /** When it is there; null before somebody loads it. */
  loaded: Promise<void> | null;
}

/** Nothing crosses a network. */
const NO_LIMIT: MessageLimits = { requestBytes: Number.MAX_SAFE_INTEGER, replyBytes: Number.MAX_SAFE_INTEGER };

/**
 * A worker inside the router: it answers the same messages with the same bits, one after another in each lane, and loads
 * the experts that each of them needs. Those used longest ago make room.
 */
export class LocalFallback implements ExpertPeer {
  readonly id: string;
  readonly isFallback = true;
  readonly ready = true;
  readonly #o: LocalFallbackOptions;
  readonly #held = new Map<string, Held>();
  readonly #pending = new Set<string>();
  /** What each lane has to do. One for both would hold decode up behind prefill, which waits for decode. */
  readonly #lines: Record<Lane, Promise<void>> = { decode: Promise.resolve(), prefill: Promise.resolve() };
  #closed = false;

  constructor(options: LocalFallbackOptions) {
    this.#o = options;
    this.id = options.id;
  }

  /** Different experts that one message may ask for: either lane has its half. */
  get capacity(): number {
    return Math.max(1, Math.floor(this.#o.capacity / 2));
  }

  limits(): MessageLimits {
    return NO_LIMIT;
  }

  send(lane: Lane, key: string, frame: Buffer, sink: ReplySink): boolean {
    if (this.#closed) return false;
    this.#pending.add(key);
    this.#lines[lane] = this.#lines[lane].then(async () => this.#serve(lane, key, frame, sink));
    return true;
  }

  forget(_lane: Lane, key: string): void {
    this.#pending.delete(key);
  }

  queryHeld(): void {}

  reset(): void {}

  /** Answers nothing any more; what is being computed ends unheard. */
  close(): void {
    this.#closed = true;
    this.#pending.clear();
  }

  async #serve(lane: Lane, key: string, frame: Buffer, sink: ReplySink): Promise<void> {
    if (!this.#pending.has(key)) return;
    const { native, logger } = this.#o;
    let reply: Buffer;
    try {
      reply = await this.#compute(lane, frame);
    } catch (err) {
      logger.error({ reason: errorMessage(err) }, 'this router cannot compute experts itself');
      reply = native.packStatusReply(frame, experts.ReplyStatus.REPLY_STATUS_FAILED, errorMessage(err));
    }
    if (this.#pending.delete(key)) sink({ kind: 'reply', header: native.parseReplyHeader(reply), frame: reply });
  }

  async #compute(lane: Lane, frame: Buffer): Promise<Buffer> {
    const { frame: sent } = experts.ClientFrame.decode(frame);
    if (sent?.$case !== 'forward') return Buffer.alloc(0);
    const { layer, experts: bytes } = sent.value;
    const entries = bytes.length / 2;
    const wanted = new Set(Array.from({ length: entries }, (_, i) => bytes.readUInt16LE(2 * i)));
    const { users, loaded } = await this.#hold(layer, [...wanted]);
    try {
      return await this.#o.shard.forward(frame, 0, lane);
    } finally {
      for (const held of users) held.users -= 1;
      this.#o.observer.fallback(this.#held.size, loaded, entries);
    }
  }

  /** Takes experts into use, and loads those that are not held. Throws what reading and loading throws. */
  async #hold(layer: number, wanted: readonly number[]): Promise<{ users: Held[]; loaded: number }> {
    const users = wanted.map((expert) => this.#use(layer, expert));
    const lacking = users.filter(({ loaded }) => loaded === null);
    this.#makeRoom();
    const loaded = this.#load(layer, lacking);
    for (const held of lacking) held.loaded = loaded;
    try {
      // The other lane may be loading some of them.
      await Promise.all(users.flatMap(({ loaded: done }) => done ?? []));
    } catch (err) {
      for (const held of users) held.users -= 1;
      throw err;
    }
    return { users, loaded: lacking.length };
  }

  /** An expert as the one that was used last. */
  #use(layer: number, expert: number): Held {
    const key = `${layer}/${expert}`;
    const held = this.#held.get(key) ?? { layer, expert, users: 0, loaded: null };
    this.#held.delete(key);
    this.#held.set(key, held);
    held.users += 1;
    return held;
  }

  async #load(layer: number, lacking: readonly Held[]): Promise<void> {
    const { shard, read } = this.#o;
    if (lacking.length === 0) return;
    try {
      const loads = lacking.map(async ({ expert }) => ({ expert, ...(await read(layer, expert)) }));
      await shard.loadAll(layer, await Promise.all(loads));
    } catch (err) {
      for (const { expert } of lacking) this.#held.delete(`${layer}/${expert}`);
      throw err;
    }
  }

  /** What is in use is never more than there is room for: either lane has its half. */
  #makeRoom(): void {
    for (const [key, { layer, expert, users }] of this.#held) {
      if (this.#held.size <= this.#o.capacity) return;
      if (users > 0) continue;
      this.#held.delete(key);
      this.#o.shard.unload(layer, expert);
    }
  }
}
