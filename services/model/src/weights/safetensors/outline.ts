import { createHash } from 'node:crypto';
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fail } from '@guildhall/common';
import { describe, fileError, parseJsonObject } from '../../json-file.ts';

/** What a safetensors file that is not here is called: its own name and this. */
export const OUTLINE_SUFFIX = '.outline';

const SCHEMA = 'guildhall.outline/1';
const MAX_OUTLINE_BYTES = 128 * 1024 * 1024;

/** Some bytes of a file and where they stand in it. */
export interface Piece {
  begin: number;
  bytes: Uint8Array;
}

/** The parts of a file that make it known without its weights: its header and the samples of the fingerprint. */
export interface Outline {
  /** Name of the file itself. */
  file: string;
  /** Length of the file itself. */
  size: number;
  pieces: Piece[];
}

/** An outline as it is stored: 8 bytes of length, JSON with where the pieces stand and their checksum, the pieces. */
export function encodeOutline(outline: Outline): Buffer {
  const data = Buffer.concat(outline.pieces.map((piece) => piece.bytes));
  const json = Buffer.from(
    JSON.stringify({
      schema: SCHEMA,
      file: outline.file,
      size: outline.size,
      pieces: outline.pieces.map(({ begin, bytes }) => [begin, begin + bytes.byteLength]),
      sha256: sha256(data),
    }),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

/**
 * Writes an outline, atomically.
 * @param path where to; its name is that of the file and `.outline`.
 */
export function writeOutline(path: string, outline: Outline): void {
  writeFileSync(`${path}.tmp`, encodeOutline(outline));
  renameSync(`${path}.tmp`, path);
}

/**
 * Reads an outline and checks it against its own checksum.
 * @throws checkpoint_not_found, checkpoint_invalid.
 */
export function readOutline(path: string): Outline {
  const bytes = readWhole(path);
  const length = bytes.length < 8 ? -1 : Number(bytes.readBigUInt64LE());
  if (length < 2 || length > bytes.length - 8) throw damaged(path, 'its header does not fit');
  const root = parseJsonObject(path, bytes.toString('utf8', 8, 8 + length));
  const data = bytes.subarray(8 + length);
  const { schema, file, size, pieces, sha256: wanted } = root;
  if (schema !== SCHEMA) throw damaged(path, `found schema ${describe(schema)}, expected ${SCHEMA}`);
  if (file !== basename(path, OUTLINE_SUFFIX)) throw damaged(path, `it is the outline of ${describe(file)}`);
  if (!isOffset(size) || !Array.isArray(pieces)) throw damaged(path, 'expected size and pieces');
  if (sha256(data) !== wanted) throw damaged(path, 'its checksum is wrong');
  return { file, size, pieces: cutPieces(path, pieces, size, data) };
}

function cutPieces(path: string, ranges: unknown[], size: number, data: Buffer): Piece[] {
  let offset = 0;
  const pieces = ranges.map((range) => {
    const [begin, end] = Array.isArray(range) ? (range as unknown[]) : [];
    if (!isOffset(begin) || !isOffset(end) || begin > end || end > size) throw damaged(path, 'a piece is out of range');
    const bytes = data.subarray(offset, (offset += end - begin));
    return { begin, bytes };
  });
  if (offset !== data.length) throw damaged(path, 'its pieces do not fill it');
  return pieces;
}

/** Copy of bytes [begin, end) of the outlined file, or null where the outline does not hold them. */
export function outlinedBytes(outline: Outline, begin: number, end: number): Uint8Array<ArrayBuffer> | null {
  for (const piece of outline.pieces) {
    if (begin < piece.begin || end > piece.begin + piece.bytes.byteLength) continue;
    return Uint8Array.from(piece.bytes.subarray(begin - piece.begin, end - piece.begin));
  }
  return null;
}

function readWhole(path: string): Buffer {
  try {
    if (statSync(path).size > MAX_OUTLINE_BYTES) throw damaged(path, `more than ${MAX_OUTLINE_BYTES} bytes`);
    return readFileSync(path);
  } catch (err) {
    throw err instanceof Error && 'errno' in err ? fileError(path, err) : err;
  }
}

function damaged(path: string, problem: string): Error {
  return fail('checkpoint_invalid', `${path}: ${problem}; remove it and run guildhall pull again`);
}

function isOffset(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
