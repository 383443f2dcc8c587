import type { KvPool } from '@guildhall/native';

/** Pages that are written at a time. */
const GROUP = 16;

/** Seeded bf16 numbers of magnitude 0.25 to 1, of either sign, whatever layout they are read in. */
export function randomBf16(bytes: number, seed: number): Uint8Array {
  const values = new Uint16Array(bytes / 2);
  let state = (seed * 0x9e3779b1 + 1) >>> 0;
  for (let i = 0; i < values.length; i++) {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    values[i] = ((state & 1) << 15) | (0x3e80 + ((state >>> 8) & 0xff));
  }
  return new Uint8Array(values.buffer);
}

/** Fills the first `count` pages of a bf16 pool, each with numbers of its own. */
export async function fillRandom(kv: KvPool, count: number): Promise<void> {
  for (let first = 0; first < count; first += GROUP) {
    const pages = Int32Array.from({ length: Math.min(GROUP, count - first) }, (_, i) => first + i);
    await kv.importPages(pages, [randomBf16(pages.length * kv.pageBytes, first)]);
  }
}
