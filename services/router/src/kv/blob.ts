import type { PageName } from '@guildhall/common';

/** What a blob holds: K and V of one named page, or the DeltaNet states behind one. */
export type BlobKind = 'page' | 'state';

/** What is known of a blob without its bytes. */
export interface BlobInfo {
  kind: BlobKind;
  name: PageName;
  /** Tokens of a page, compared on a hit; empty for a state. */
  tokens: Int32Array;
  /** Bytes of the data. */
  size: number;
  /** CRC-32C of the data. */
  checksum: number;
  /** Milliseconds that computing it again would take. */
  value: number;
}

/** A page or state outside of the pool. */
export interface Blob extends BlobInfo {
  /** [size], in the layout of the numerics class. */
  data: Uint8Array;
}

/** Key of a blob: a page and the state behind it have the same name. */
export type BlobKey = string;

export function blobKey(kind: BlobKind, name: PageName): BlobKey {
  return (kind === 'page' ? 'p' : 's') + name;
}

/** Where a blob is, from near to far. */
export type Tier = 'device' | 'host' | 'disk' | 'peer';

/** What goes wrong with cached blobs; each is counted by kind, and logged once. */
export type CacheFault =
  | 'corrupt'
  | 'truncated'
  | 'checksum'
  | 'stalled'
  | 'holder_gone'
  | 'disk_full'
  | 'disk_read_only'
  | 'disk_error'
  | 'redis';
