import { createHash, type Hash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { fail } from '@guildhall/common';
import type { HubFile } from './hub-client.ts';

const CHUNK_BYTES = 4 << 20;

/** A hash that will equal the file's checksum once all of its bytes went in. */
export function startChecksum(file: HubFile): Hash {
  if (file.checksum.algorithm === 'sha256') return createHash('sha256');
  // Git names a blob by sha1 over its type, its length and its contents.
  return createHash('sha1').update(`blob ${file.size}\0`);
}

/** Feeds the first `length` bytes of a file on the disk to a hash; what was fed is told as it goes. */
export async function feedFile(
  hash: Hash,
  path: string,
  length: number,
  signal: AbortSignal,
  onBytes: (count: number) => void = () => undefined,
): Promise<void> {
  const handle = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(length, 1)));
    for (let done = 0; done < length;) {
      if (signal.aborted) throw fail('cancelled', 'the pull was stopped');
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, length - done), done);
      if (bytesRead === 0) throw fail('download_corrupt', `${path} became shorter while it was read`);
      hash.update(buffer.subarray(0, bytesRead));
      done += bytesRead;
      onBytes(bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** True where a file on the disk has the checksum; its size is the caller's matter. */
export async function matchesChecksum(
  path: string,
  file: HubFile,
  signal: AbortSignal,
  onBytes?: (count: number) => void,
): Promise<boolean> {
  const hash = startChecksum(file);
  await feedFile(hash, path, file.size, signal, onBytes);
  return hash.digest('hex') === file.checksum.digest;
}
