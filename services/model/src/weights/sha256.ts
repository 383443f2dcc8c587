import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

/** Bytes that are hashed in one go, a few milliseconds; other work gets its turn between two. */
const CHUNK_BYTES = 1 << 20;

/** SHA-256 as hex digits. */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    hash.update(bytes.subarray(at, at + CHUNK_BYTES));
    if (at + CHUNK_BYTES < bytes.length) await setImmediate();
  }
  return hash.digest('hex');
}
