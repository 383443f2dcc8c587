import { join } from 'node:path';
import { fail } from '@guildhall/common';
import { OUTLINE_SUFFIX, SAMPLE_BYTES, sampleOffsets, writeOutline, type Piece } from '@guildhall/model/weights';
import { rangeBegin } from './download.ts';
import { Retryable, withRetries } from './http.ts';
import type { HubFile } from './hub-client.ts';
import type { FileSource } from './source.ts';

/** A file up to here is taken whole: its outline would save nothing. */
export const SMALLEST_OUTLINED_BYTES = 1 << 20;

const FIRST_BYTES = 256 << 10;
const MAX_HEADER_BYTES = 100_000_000;

/**
 * Fetches of a safetensors file what makes it known without its weights, its header and the samples of the model's
 * fingerprint, and writes it beside where the file would be.
 * @throws hub_invalid, unsupported where the server gives no ranges; errors of http.ts.
 */
export async function fetchOutline(client: FileSource, commit: string, file: HubFile, dir: string): Promise<number> {
  const first = await fetchRange(client, commit, file, 0, Math.min(FIRST_BYTES, file.size));
  const length = Buffer.from(first.buffer, first.byteOffset, 8).readBigUInt64LE();
  if (length > BigInt(Math.min(MAX_HEADER_BYTES, file.size - 8))) {
    throw fail('hub_invalid', `${file.path}: it is no safetensors file: its header would have ${length} bytes`);
  }
  const headerEnd = 8 + Number(length);
  const rest =
    headerEnd > first.byteLength ? await fetchRange(client, commit, file, first.byteLength, headerEnd) : null;
  const head = rest === null ? first.subarray(0, headerEnd) : Buffer.concat([first, rest]);
  const pieces: Piece[] = [{ begin: 0, bytes: head }];
  for (const begin of sampleOffsets(file.size)) {
    const end = Math.min(begin + SAMPLE_BYTES, file.size);
    const known = end <= first.byteLength ? first.subarray(begin, end) : null;
    pieces.push({ begin, bytes: known ?? (await fetchRange(client, commit, file, begin, end)) });
  }
  writeOutline(join(dir, file.path + OUTLINE_SUFFIX), { file: file.path, size: file.size, pieces });
  return pieces.reduce((sum, piece) => sum + piece.bytes.byteLength, 0);
}

async function fetchRange(
  client: FileSource,
  commit: string,
  file: HubFile,
  begin: number,
  end: number,
): Promise<Uint8Array> {
  return withRetries(client.context, file.path, async () => {
    const response = await client.open(commit, file.path, { begin, end });
    try {
      // A range that covers the whole file may come as one.
      if (response.status !== 206 && !(response.status === 200 && begin === 0)) {
        throw fail('unsupported', `${file.path}: this server gives no ranges, so nothing less than all can be pulled`);
      }
      if (response.status === 206 && rangeBegin(response.headers) !== begin) throw new Retryable('another range came');
      const bytes = Buffer.alloc(end - begin);
      let done = 0;
      for await (const chunk of response.chunks) {
        done += Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).copy(bytes, done);
        if (done === bytes.length) return bytes;
      }
      throw new Retryable(`it ended after ${done} of ${bytes.length} bytes`);
    } finally {
      response.close();
    }
  });
}
