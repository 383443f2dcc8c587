import { NAME_BYTES, type PageName } from '../kv/page-names.ts';

/** What an entry of the directory stands for: K and V of a page, or the state right behind it. */
export type EntryKind = 'page' | 'state';

/** Where a holder has an entry, from near to far. */
export type EntryTier = 'device' | 'host' | 'disk';

export interface EntryKey {
  kind: EntryKind;
  name: PageName;
}

export interface DirectoryEntry extends EntryKey {
  tier: EntryTier;
  /** Bytes, below 2^32. */
  size: number;
  /** Milliseconds that computing it again would take. */
  value: number;
}

/** Kind and name. */
export const KEY_BYTES = 1 + NAME_BYTES;
/** Tier, size (u32) and value (f32). */
const RECORD_BYTES = 9;

const TIERS: readonly (EntryTier | undefined)[] = [undefined, 'device', 'host', 'disk'];
const MAX_SIZE = 2 ** 32 - 1;

/** Key of an entry as Redis has it, and a Map's key: kind byte and name, latin1. */
export function entryKey(kind: EntryKind, name: PageName): string {
  return (kind === 'page' ? 'p' : 's') + name;
}

/** The entry behind a key of `entryKey`. */
export function parseEntryKey(key: string): EntryKey {
  return { kind: key[0] === 'p' ? 'page' : 'state', name: key.slice(1) as PageName };
}

/** Tier of a number in an answer; null for 0 and for what a later release may add. */
export function tierOf(code: number): EntryTier | null {
  return TIERS[code] ?? null;
}

export function fartherTier(a: EntryTier | null, b: EntryTier | null): EntryTier | null {
  return TIERS.indexOf(a ?? undefined) > TIERS.indexOf(b ?? undefined) ? a : b;
}

/** Keys as one run of bytes [n * 17]. */
export function packKeys(keys: readonly EntryKey[]): Buffer {
  let text = '';
  for (const { kind, name } of keys) text += entryKey(kind, name);
  return Buffer.from(text, 'latin1');
}

/** Entries as one run of bytes [n * 26]. */
export function packEntries(entries: readonly DirectoryEntry[]): Buffer {
  const bytes = Buffer.alloc(entries.length * (KEY_BYTES + RECORD_BYTES));
  let at = 0;
  for (const { kind, name, tier, size, value } of entries) {
    at += bytes.write(entryKey(kind, name), at, 'latin1');
    at = bytes.writeUInt8(TIERS.indexOf(tier), at);
    at = bytes.writeUInt32LE(Math.min(size, MAX_SIZE), at);
    at = bytes.writeFloatLE(value, at);
  }
  return bytes;
}

/** The keys in an answer. */
export function unpackKeys(bytes: Uint8Array): EntryKey[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const keys: EntryKey[] = [];
  for (let at = 0; at + KEY_BYTES <= text.length; at += KEY_BYTES)
    keys.push(parseEntryKey(text.slice(at, at + KEY_BYTES)));
  return keys;
}
