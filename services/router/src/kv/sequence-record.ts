import { createHash } from 'node:crypto';
import { fail, type PageName } from '@guildhall/common';
import type { BlobKey } from './blob.ts';
import type { PageId } from './page-pool.ts';
import { pagesFor } from './page-pool.ts';
import type { SlotId } from './state-slots.ts';
import type { BlobStore } from './tiers/blob-store.ts';

/** A sequence outside of the pool: what was computed of it, without its tokens, which its owner has. */
export interface SequenceRecord {
  /** Its held blobs are called `<key>/<n>` for page n of its table, and `<key>/state`. */
  readonly key: string;
  /** Tokens whose K, V and state are kept. */
  readonly numComputed: number;
  /** SHA-256 over those token ids as little-endian u32. */
  readonly tokenDigest: Buffer;
  /** Named pages that its table begins with; they are had by name. */
  readonly shared: readonly PageName[];
  /** Pages of 64 tokens before the first held one. */
  readonly firstOwnPage: number;
  /** Pages that hold the computed tokens; [firstOwnPage, numPages) are held. */
  readonly numPages: number;
  readonly hasState: boolean;
  /** Pages that it fills from now on have the names of their tokens. */
  readonly publishes: boolean;
  /** Bytes that are held. */
  readonly bytes: number;
}

/** What of a sequence goes into a record. */
export interface RecordSource {
  readonly numComputed: number;
  /** Its table. */
  readonly pages: readonly PageId[];
  /** Slot with the state behind the computed tokens; null for a model without. */
  readonly slot: SlotId | null;
  readonly shared: readonly PageName[];
  /** Pages of 64 tokens that the shared ones take. */
  readonly firstOwnPage: number;
  readonly publishes: boolean;
  copyTokens(start: number, count: number, into: Int32Array, offset: number): void;
}

/** Moves bytes between native pools and JavaScript, beside the steps. */
export interface SwapTransfer {
  /** Bytes and CRC-32C of each run of `group` pages. */
  exportPages(pages: Int32Array, group: number): Promise<{ parts: Uint8Array[]; checksums: Uint32Array }>;
  importPages(pages: Int32Array, parts: readonly Uint8Array[]): Promise<void>;
  exportState(slot: number): Promise<{ data: Uint8Array; checksum: number }>;
  importState(slot: number, data: Uint8Array): Promise<void>;
}

export interface SwapDeps {
  transfer: SwapTransfer;
  store: Pick<BlobStore, 'hold' | 'held' | 'release'>;
}

/** Pages that are moved at a time. */
const BATCH = 32;

/** Name of a held page, or of the held state. */
export function heldKey(record: Pick<SequenceRecord, 'key'>, what: number | 'state'): BlobKey {
  return `${record.key}/${what}`;
}

/** SHA-256 over the first `count` token ids as little-endian u32. */
export function tokenDigest(source: Pick<RecordSource, 'copyTokens'>, count: number): Buffer {
  const ids = new Int32Array(count);
  source.copyTokens(0, count, ids, 0);
  const bytes = Buffer.alloc(4 * count);
  for (let i = 0; i < count; i++) bytes.writeUInt32LE((ids[i] as number) >>> 0, 4 * i);
  return createHash('sha256').update(bytes).digest();
}

/**
 * Copies a sequence's own pages and its state to the lower tiers, under `key`. No step may use them meanwhile, and they
 * must not be given back before this resolves. Null when the tiers have no room, or `wanted` says no in between: then
 * nothing is held. Errors of the native pools are thrown, with nothing held either.
 */
export async function swapOut(
  source: RecordSource,
  key: string,
  { transfer, store }: SwapDeps,
  wanted: () => boolean = () => true,
): Promise<SequenceRecord | null> {
  const numPages = pagesFor(source.numComputed);
  const { firstOwnPage, slot, numComputed } = source;
  if (firstOwnPage > numPages || numPages > source.pages.length) {
    throw fail(
      'integrity',
      `${firstOwnPage} shared pages and ${source.pages.length} in all hold ${numComputed} tokens`,
    );
  }
  const held: BlobKey[] = [];
  let bytes = 0;
  const hold = async (what: number | 'state', data: Uint8Array, checksum: number): Promise<boolean> => {
    const name = heldKey({ key }, what);
    if (!(await store.hold(name, data, checksum))) return false;
    held.push(name);
    bytes += data.length;
    return true;
  };
  try {
    let whole = true;
    for (let at = firstOwnPage; at < numPages && whole; at += BATCH) {
      const ids = Int32Array.from(source.pages.slice(at, Math.min(at + BATCH, numPages)));
      const { parts, checksums } = await transfer.exportPages(ids, 1);
      const kept = await Promise.all(parts.map((data, i) => hold(at + i, data, checksums[i] as number)));
      whole = kept.every(Boolean) && wanted();
    }
    if (whole && slot !== null) {
      const { data, checksum } = await transfer.exportState(slot);
      whole = (await hold('state', data, checksum)) && wanted();
    }
    if (whole) {
      const digest = tokenDigest(source, numComputed);
      const { shared, publishes } = source;
      const hasState = slot !== null;
      return { key, numComputed, tokenDigest: digest, shared, firstOwnPage, numPages, hasState, publishes, bytes };
    }
  } catch (err) {
    for (const name of held) store.release(name);
    throw err;
  }
  for (const name of held) store.release(name);
  return null;
}

/** Where a record goes: a table whose first pages are the shared ones, in place, and a slot. */
export interface RecordTarget extends Pick<RecordSource, 'copyTokens' | 'slot' | 'pages'> {
  readonly numTokens: number;
}

/**
 * Copies what a record holds into the pages and the slot of `target`, which no step may use meanwhile. False when
 * something could not be had, or was of other tokens: what was copied is worth nothing then. The record stays held.
 */
export async function swapIn(target: RecordTarget, record: SequenceRecord, deps: SwapDeps): Promise<boolean> {
  const { numComputed, numPages, firstOwnPage } = record;
  if (numComputed > target.numTokens || numPages > target.pages.length) return false;
  if (!tokenDigest(target, numComputed).equals(record.tokenDigest)) return false;
  for (let at = firstOwnPage; at < numPages; at += BATCH) {
    const end = Math.min(at + BATCH, numPages);
    const found = await Promise.all(
      Array.from({ length: end - at }, (_, i) => deps.store.held(heldKey(record, at + i))),
    );
    const parts = found.filter((data) => data !== null);
    if (parts.length < found.length) return false;
    await deps.transfer.importPages(Int32Array.from(target.pages.slice(at, end)), parts);
  }
  if (!record.hasState) return true;
  const state = await deps.store.held(heldKey(record, 'state'));
  if (state === null || target.slot === null) return false;
  await deps.transfer.importState(target.slot, state);
  return true;
}

/** Lets go of what a record holds. */
export function releaseRecord(record: SequenceRecord, store: SwapDeps['store']): void {
  for (let page = record.firstOwnPage; page < record.numPages; page++) store.release(heldKey(record, page));
  if (record.hasState) store.release(heldKey(record, 'state'));
}
