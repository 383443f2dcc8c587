import type { BlobKey } from '../kv/blob.ts';
import type { BlobStore } from '../kv/tiers/blob-store.ts';

/** Held bytes in a map, with a limit; a test can spoil them. */
export class HeldBytes implements Pick<BlobStore, 'hold' | 'held' | 'release'> {
  readonly blobs = new Map<BlobKey, Uint8Array>();
  readonly capacity: number;
  used = 0;

  constructor(capacity = Infinity) {
    this.capacity = capacity;
  }

  async hold(key: BlobKey, data: Uint8Array): Promise<boolean> {
    await Promise.resolve();
    if (this.blobs.has(key)) throw new Error(`${key} is held already`);
    if (this.used + data.length > this.capacity) return false;
    this.used += data.length;
    this.blobs.set(key, data.slice());
    return true;
  }

  async held(key: BlobKey): Promise<Uint8Array | null> {
    await Promise.resolve();
    return this.blobs.get(key) ?? null;
  }

  release(key: BlobKey): void {
    this.used -= this.blobs.get(key)?.length ?? 0;
    this.blobs.delete(key);
  }
}
