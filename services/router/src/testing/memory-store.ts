import type { PageName } from '@guildhall/common';
import { type Blob, type BlobInfo, type BlobKey, blobKey, type BlobKind } from '../kv/blob.ts';
import type { BlobStore, TierUsage } from '../kv/tiers/blob-store.ts';

/** A store of a test: host memory without a limit. */
export class MemoryStore implements BlobStore {
  readonly blobs = new Map<BlobKey, Blob>();
  readonly heldBytes = new Map<BlobKey, Uint8Array>();
  /** Refuses to hold more. */
  full = false;

  where(kind: BlobKind, name: PageName): 'host' | null {
    return this.blobs.has(blobKey(kind, name)) ? 'host' : null;
  }

  get(kind: BlobKind, name: PageName): Promise<Blob | null> {
    return Promise.resolve(this.blobs.get(blobKey(kind, name)) ?? null);
  }

  prefetch(): Promise<void> {
    return Promise.resolve();
  }

  put(blob: Blob): boolean {
    this.blobs.set(blobKey(blob.kind, blob.name), blob);
    return true;
  }

  touch(): void {
    // Nothing is evicted here.
  }

  delete(kind: BlobKind, name: PageName): void {
    this.blobs.delete(blobKey(kind, name));
  }

  hold(key: BlobKey, data: Uint8Array): Promise<boolean> {
    if (!this.full) this.heldBytes.set(key, data);
    return Promise.resolve(!this.full);
  }

  held(key: BlobKey): Promise<Uint8Array | null> {
    return Promise.resolve(this.heldBytes.get(key) ?? null);
  }

  release(key: BlobKey): void {
    this.heldBytes.delete(key);
  }

  usage(): TierUsage[] {
    return [];
  }

  *entries(): Iterable<BlobInfo & { tier: 'host' }> {
    for (const { data: _data, ...info } of this.blobs.values()) yield { ...info, tier: 'host' };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
