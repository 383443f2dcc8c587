import { hash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PageName, systemClock } from '@guildhall/common';
import { type Blob, type BlobKey, blobKey, type BlobKind, type CacheFault } from '../kv/blob.ts';
import type { BlobStoreObserver } from '../kv/tiers/blob-store.ts';
import { TieredStore, type TieredStoreOptions } from '../kv/tiers/tiered-store.ts';
import { crc32cReference as crc32c } from './crc32c.ts';

/** CRC-32C of each part, as the stores want it. */
export function checksums(parts: readonly Uint8Array[]): Promise<Uint32Array> {
  return Promise.resolve(Uint32Array.from(parts, crc32c));
}

export const SPACE = { fingerprint: 'model', numericsId: 'class' };

/** A folder that is removed with `remove`. */
export function temporaryFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'guildhall-tiers-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Files below a folder, relative to it, without the lock. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.lock'))
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

export function testName(label: string): PageName {
  return hash('sha256', label, 'binary').slice(0, 16) as PageName;
}

/** A blob whose bytes follow from its label. */
export function testBlob(label: string, size = 1000, value = 50, kind: BlobKind = 'page'): Blob {
  const seed = crc32c(Buffer.from(label + kind));
  const data = Uint8Array.from({ length: size }, (_, i) => (Math.imul(seed + i, 0x9e3779b1) >>> 24) & 0xff);
  const tokens = Int32Array.from({ length: kind === 'page' ? 64 : 0 }, (_, i) => (seed + i) & 0xffff);
  return { kind, name: testName(label), tokens, size, checksum: crc32c(data), value, data };
}

/** Remembers what a store tells, and that it adds up. */
export class StoreEvents implements BlobStoreObserver {
  readonly faults: { kind: CacheFault; detail: string }[] = [];
  readonly recoveries: CacheFault[] = [];
  readonly removals: string[] = [];
  readonly writeBacks = { written: 0, dropped: 0, failed: 0 };
  readonly there = { host: new Set<BlobKey>(), disk: new Set<BlobKey>() };
  /** Additions of what was there, and removals of what was not. */
  readonly nonsense: string[] = [];

  added(tier: string, { kind, name }: { kind: BlobKind; name: PageName }): void {
    const there = this.there[tier as 'host' | 'disk'];
    const key = blobKey(kind, name);
    if (there.has(key)) this.nonsense.push(`added again to ${tier}`);
    there.add(key);
  }

  removed(tier: string, kind: BlobKind, name: PageName, reason: string): void {
    if (!this.there[tier as 'host' | 'disk'].delete(blobKey(kind, name))) this.nonsense.push(`not in ${tier}`);
    this.removals.push(`${tier} ${reason}`);
  }

  fault(kind: CacheFault, detail: string): void {
    this.faults.push({ kind, detail });
  }

  recovered(kind: CacheFault): void {
    this.recoveries.push(kind);
  }

  writeBack(outcome: 'written' | 'dropped' | 'failed'): void {
    this.writeBacks[outcome] += 1;
  }

  get faultKinds(): CacheFault[] {
    return this.faults.map(({ kind }) => kind);
  }
}

/** Opens a store with a disk in `path` (null: none), and waits until it knows what is there. */
export async function openStore(
  path: string | null,
  options: Partial<Omit<TieredStoreOptions, 'disk'>> & { diskBytes?: number; events?: StoreEvents } = {},
): Promise<{ store: TieredStore; events: StoreEvents }> {
  const { diskBytes = 1 << 30, events = new StoreEvents(), ...rest } = options;
  const store = await TieredStore.open({
    hostBytes: 1 << 20,
    disk: path === null ? null : { path, capacityBytes: diskBytes },
    space: SPACE,
    checksum: checksums,
    observer: events,
    clock: systemClock,
    ...rest,
  });
  await store.learned();
  return { store, events };
}

/** The blob as it was put, or null. */
export function sameBlob(blob: Blob | null, expected: Blob): boolean {
  return (
    blob !== null &&
    blob.kind === expected.kind &&
    blob.name === expected.name &&
    blob.value === expected.value &&
    blob.checksum === expected.checksum &&
    Buffer.compare(blob.data, expected.data) === 0 &&
    blob.tokens.join() === expected.tokens.join()
  );
}
