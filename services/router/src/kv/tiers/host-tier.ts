import type { Blob, BlobKey } from '../blob.ts';
import { blobKey } from '../blob.ts';
import type { BlobStoreObserver, StoredBlob, TierUsage } from './blob-store.ts';
import { GreedyDual } from './greedy-dual.ts';

export interface HostTierOptions {
  capacityBytes: number;
  observer: BlobStoreObserver;
  /** Blobs that are not to be evicted now. */
  isLeased: (blob: StoredBlob) => boolean;
  /** Told what is evicted, while the bytes are still there. */
  onEvict: (blob: Blob) => void;
}

/** Bytes of a sequence. */
export interface Held {
  data: Uint8Array;
  checksum: number;
}

/** Blobs in host memory, up to a limit of bytes. Held bytes count too and are never evicted. */
export class HostTier {
  readonly #o: HostTierOptions;
  readonly #blobs = new Map<BlobKey, Blob>();
  readonly #held = new Map<BlobKey, Held>();
  readonly #order = new GreedyDual<BlobKey>();
  readonly #count = { page: 0, state: 0 };
  #usedBytes = 0;
  #heldBytes = 0;

  constructor(options: HostTierOptions) {
    this.#o = options;
  }

  /** Bytes that blobs may take beside what is held. */
  get roomForBlobs(): number {
    return this.#o.capacityBytes - this.#heldBytes;
  }

  get(key: BlobKey): Blob | null {
    return this.#blobs.get(key) ?? null;
  }

  /** Keeps a blob unless what would have to go for it is worth more. */
  put(blob: Blob): boolean {
    const key = blobKey(blob.kind, blob.name);
    if (this.#blobs.has(key)) {
      this.#order.touch(key);
      return true;
    }
    const density = blob.value / Math.max(1, blob.size);
    if (!this.#makeRoom(blob.size, this.#order.priority(density))) return false;
    // The tokens may be a part of a long prompt, which must not stay in memory for them.
    const kept = { ...blob, tokens: blob.tokens.slice() };
    this.#blobs.set(key, kept);
    this.#order.add(key, density);
    this.#count[blob.kind] += 1;
    this.#usedBytes += blob.size;
    this.#o.observer.added('host', kept);
    return true;
  }

  touch(key: BlobKey): void {
    this.#order.touch(key);
  }

  delete(key: BlobKey, reason: 'evicted' | 'fault' | 'deleted'): void {
    const blob = this.#blobs.get(key);
    if (blob === undefined) return;
    this.#blobs.delete(key);
    this.#order.delete(key);
    this.#count[blob.kind] -= 1;
    this.#usedBytes -= blob.size;
    this.#o.observer.removed('host', blob.kind, blob.name, reason);
  }

  /** Keeps bytes that are worth more than any blob; false where held ones leave no room for them. */
  hold(key: BlobKey, held: Held): boolean {
    this.release(key);
    const bytes = held.data.length;
    if (!this.#makeRoom(bytes, Infinity)) return false;
    this.#held.set(key, held);
    this.#heldBytes += bytes;
    this.#usedBytes += bytes;
    return true;
  }

  held(key: BlobKey): Held | null {
    return this.#held.get(key) ?? null;
  }

  release(key: BlobKey): void {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    this.#heldBytes -= held.data.length;
    this.#usedBytes -= held.data.length;
  }

  blobs(): Iterable<Blob> {
    return this.#blobs.values();
  }

  /** Blobs, best first. */
  ranking(): Blob[] {
    return this.#order.ranking().map((key) => this.#blobs.get(key) as Blob);
  }

  usage(): TierUsage {
    return {
      tier: 'host',
      capacityBytes: this.#o.capacityBytes,
      usedBytes: this.#usedBytes,
      heldBytes: this.#heldBytes,
      pendingBytes: 0,
      pages: this.#count.page,
      states: this.#count.state,
    };
  }

  clear(): void {
    this.#blobs.clear();
    this.#held.clear();
  }

  #makeRoom(bytes: number, priority: number): boolean {
    if (bytes > this.roomForBlobs) return false;
    const missing = this.#usedBytes + bytes - this.#o.capacityBytes;
    const blobOf = (key: BlobKey): Blob => this.#blobs.get(key) as Blob;
    const victims = this.#order.evict(
      missing,
      priority,
      (key) => blobOf(key).size,
      (key) => this.#o.isLeased(blobOf(key)),
    );
    for (const key of victims ?? []) {
      const blob = blobOf(key);
      this.delete(key, 'evicted');
      this.#o.onEvict(blob);
    }
    return victims !== null;
  }
}
