import type { PageName } from '@guildhall/common';
import type { Blob, BlobInfo, BlobKey, BlobKind, CacheFault, Tier } from '../blob.ts';

/** What the directory and metrics need to know of a blob; tiers keep no tokens of what lies on disk. */
export type StoredBlob = Pick<BlobInfo, 'kind' | 'name' | 'size' | 'value'>;

/** CRC-32C of each part. */
export type Checksum = (parts: readonly Uint8Array[]) => Promise<Uint32Array>;

/** What a store tells: metrics and the directory follow it. Called at once, never throws. */
export interface BlobStoreObserver {
  /** A blob can be had from `tier` from now on, and was not there before. It may be in the other tier too. */
  added(tier: Tier, blob: StoredBlob): void;
  /** A blob is no longer in `tier`; `BlobStore.where` says if it still is in the other. */
  removed(tier: Tier, kind: BlobKind, name: PageName, reason: 'evicted' | 'fault' | 'deleted'): void;
  fault(kind: CacheFault, detail: string): void;
  /** Faults of this kind have ended: the next one is news again. */
  recovered(kind: CacheFault): void;
  /** What became of a blob that was to be written to disk; `dropped`: not worth it, or the disk is too slow. */
  writeBack(outcome: 'written' | 'dropped' | 'failed', bytes: number): void;
}

export interface TierUsage {
  tier: Tier;
  capacityBytes: number;
  /** Bytes of blobs and of what is held; on disk in whole blocks, with those of other models in the folder. */
  usedBytes: number;
  /** Bytes that belong to sequences, part of `usedBytes`. */
  heldBytes: number;
  /** Bytes in memory that wait to be written to the tier. */
  pendingBytes: number;
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
  /** Brings blobs from disk to host memory, as many as that holds; resolves when it has tried. */
  prefetch(keys: readonly { kind: BlobKind; name: PageName }[], signal: AbortSignal): Promise<void>;
  /** Keeps a blob, evicting worse ones; false when it is not worth it or does not fit. Keeps `data` itself. */
  put(blob: Blob): boolean;
  /** A blob that is read often or soon counts more. */
  touch(kind: BlobKind, name: PageName): void;
  delete(kind: BlobKind, name: PageName): void;
  /**
   * Keeps bytes of one sequence (swap, drain) under a key of its own, never evicted until released. Resolves false when
   * neither tier has room for them, or the key was released meanwhile. A key that is held already is replaced.
   */
  hold(key: BlobKey, data: Uint8Array, checksum: number): Promise<boolean>;
  /** Held bytes, checked, or null after a fault. */
  held(key: BlobKey): Promise<Uint8Array | null>;
  release(key: BlobKey): void;
  usage(): TierUsage[];
  /** All blobs with their nearest tier, for a directory that lost them. */
  entries(): Iterable<StoredBlob & { tier: 'host' | 'disk' }>;
  /** Writes to disk what is worth it, for `flushMs` at most, and closes it. */
  close(flushMs?: number): Promise<void>;
}
