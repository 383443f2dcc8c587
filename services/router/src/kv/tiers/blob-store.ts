import type { PageName } from '@guildhall/common';
import type { Blob, BlobInfo, BlobKey, BlobKind, CacheFault, Tier } from '../blob.ts';

/** What a store tells: metrics and the directory follow it. Called at once, never throws. */
export interface BlobStoreObserver {
  /** A blob can be had from `tier` from now on, and was not there before. */
  added(tier: Tier, blob: BlobInfo): void;
  /** A blob is no longer in `tier`. */
  removed(tier: Tier, kind: BlobKind, name: PageName, reason: 'evicted' | 'fault' | 'deleted'): void;
  fault(kind: CacheFault, detail: string): void;
}

export interface TierUsage {
  tier: Tier;
  capacityBytes: number;
  usedBytes: number;
  pages: number;
  states: number;
}

/**
 * Pages and states outside of the pool: host memory first, then disk. Keys never change their contents. No method
 * throws for a fault of a tier: it is told to the observer, and the blob counts as not there.
 */
export interface BlobStore {
  /** Tier that has the blob, or null. Never waits. */
  where(kind: BlobKind, name: PageName): 'host' | 'disk' | null;
  /** The blob, checked against its checksum, or null. From disk it moves to host memory on the way, if it fits. */
  get(kind: BlobKind, name: PageName): Promise<Blob | null>;
  /** Brings blobs from disk to host memory; resolves when it has tried. */
  prefetch(keys: readonly { kind: BlobKind; name: PageName }[], signal: AbortSignal): Promise<void>;
  /** Keeps a blob, evicting worse ones; false when it is not worth it or does not fit. Keeps `data` itself. */
  put(blob: Blob): boolean;
  /** A blob that is read often or soon counts more. */
  touch(kind: BlobKind, name: PageName): void;
  delete(kind: BlobKind, name: PageName): void;
  /**
   * Keeps bytes of one sequence (swap, drain) under a key of its own, never evicted until released. Resolves false when
   * neither tier has room for them.
   */
  hold(key: BlobKey, data: Uint8Array, checksum: number): Promise<boolean>;
  /** Held bytes, checked, or null after a fault. */
  held(key: BlobKey): Promise<Uint8Array | null>;
  release(key: BlobKey): void;
  usage(): TierUsage[];
  /** Infos of all blobs, for a directory that lost them. */
  entries(): Iterable<BlobInfo & { tier: 'host' | 'disk' }>;
  /** Finishes writes to disk and closes it. */
  close(): Promise<void>;
}
