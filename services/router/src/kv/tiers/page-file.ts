import type { FileHandle } from 'node:fs/promises';
import { NAME_BYTES, type PageName } from '@guildhall/common';
import type { Blob, BlobInfo, BlobKind } from '../blob.ts';
import type { Checksum } from './blob-store.ts';

/*
 * A file of the disk tier, little-endian:
 *
 *   0   8 bytes   magic
 *   8   u32       format version
 *   12  u32       n, tokens
 *   16  u64       bytes of the data
 *   24  f64       value, milliseconds
 *   32  u32       CRC-32C of the data
 *   36  u32       kind: 1 page, 2 state, 3 held bytes of a sequence
 *   40  16 bytes  name space: model and numerics class
 *   56  16 bytes  name
 *   72  n * i32   tokens
 *   ..  u32       CRC-32C of the header so far
 *   ..            data
 */
const MAGIC = 'GHKVBLOB';
const VERSION = 1;
const FIXED_BYTES = 72;
const KINDS = ['page', 'state', 'held'] as const;
/** Tokens of a page at most: the header of a file that claims more is garbage. */
const MAX_TOKENS = 1 << 20;
/** One read gets the whole header of a usual page. */
const FIRST_READ = 4096;

export type FileKind = BlobKind | 'held';

/** What a header says. */
export interface PageFileInfo extends Omit<BlobInfo, 'kind'> {
  kind: FileKind;
}

/** Who wrote a file: 16 bytes, as a latin1 string. */
export type FileSpace = string;

export type BadFile = { fault: 'corrupt' | 'truncated'; detail: string };
export type Parsed<T> = { value: T } | BadFile;

const bad = (fault: BadFile['fault'], detail: string): BadFile => ({ fault, detail });

/** Bytes of the file of a blob. */
export function fileBytes(tokens: number, size: number): number {
  return headerBytes(tokens) + size;
}

function headerBytes(tokens: number): number {
  return FIXED_BYTES + 4 * tokens + 4;
}

async function encodeHeader(info: PageFileInfo, space: FileSpace, checksum: Checksum): Promise<Buffer> {
  const { tokens } = info;
  const header = Buffer.alloc(headerBytes(tokens.length));
  header.write(MAGIC, 0, 'latin1');
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(tokens.length, 12);
  header.writeBigUInt64LE(BigInt(info.size), 16);
  header.writeDoubleLE(info.value, 24);
  header.writeUInt32LE(info.checksum, 32);
  header.writeUInt32LE(KINDS.indexOf(info.kind) + 1, 36);
  header.write(space, 40, NAME_BYTES, 'latin1');
  header.write(info.name, 56, NAME_BYTES, 'latin1');
  tokens.forEach((id, i) => header.writeInt32LE(id, FIXED_BYTES + 4 * i));
  const end = header.length - 4;
  const [crc = 0] = await checksum([header.subarray(0, end)]);
  header.writeUInt32LE(crc, end);
  return header;
}

/** Writes header and data from the start of an empty file. */
export async function writePageFile(
  file: FileHandle,
  content: { info: PageFileInfo; data: Uint8Array },
  space: FileSpace,
  checksum: Checksum,
): Promise<void> {
  const header = await encodeHeader(content.info, space, checksum);
  await writeAll(file, header, 0);
  await writeAll(file, content.data, header.length);
}

/** Reads a header and checks it. It costs one read; the data is only known to have the right length. */
export async function readPageHeader(
  file: FileHandle,
  space: FileSpace,
  checksum: Checksum,
): Promise<Parsed<PageFileInfo>> {
  const raw = await readRawHeader(file);
  if ('fault' in raw) return raw;
  const { header, info } = raw.value;
  const [crc] = await checksum([header.subarray(0, -4)]);
  return checkHeader(header, crc, space) ?? { value: info };
}

/** Reads a file and checks all of it. */
export async function readPageFile(
  file: FileHandle,
  space: FileSpace,
  checksum: Checksum,
): Promise<Parsed<PageFileInfo & Pick<Blob, 'data'>>> {
  const raw = await readRawHeader(file);
  if ('fault' in raw) return raw;
  const { header, info } = raw.value;
  // Not from Buffer's pool: the bytes may stay for long.
  const data = Buffer.allocUnsafeSlow(info.size);
  const got = await readAll(file, data, header.length);
  if (got < info.size) return bad('truncated', `${got} of ${info.size} bytes`);
  const [headerCrc, dataCrc] = await checksum([header.subarray(0, -4), data]);
  const wrong = checkHeader(header, headerCrc, space);
  if (wrong !== null) return wrong;
  return dataCrc === info.checksum ? { value: { ...info, data } } : bad('corrupt', 'the data has another CRC-32C');
}

/** The header as it is, with lengths that agree with the file's, so that nothing is allocated on garbage's word. */
async function readRawHeader(file: FileHandle): Promise<Parsed<{ header: Buffer; info: PageFileInfo }>> {
  const { size: length } = await file.stat();
  let header = Buffer.alloc(Math.min(length, FIRST_READ));
  if ((await readAll(file, header, 0)) < Math.min(length, FIXED_BYTES)) return bad('truncated', 'it shrank');
  if (length < FIXED_BYTES) return bad('truncated', `${length} bytes are no header`);
  if (header.toString('latin1', 0, 8) !== MAGIC) return bad('corrupt', 'not a file of the page cache');
  if (header.readUInt32LE(8) !== VERSION) return bad('corrupt', `format version ${header.readUInt32LE(8)}`);
  const numTokens = header.readUInt32LE(12);
  const size = Number(header.readBigUInt64LE(16));
  if (numTokens > MAX_TOKENS) return bad('corrupt', `${numTokens} tokens`);
  const expected = fileBytes(numTokens, size);
  if (length !== expected) return bad(length < expected ? 'truncated' : 'corrupt', `${length} of ${expected} bytes`);
  const end = headerBytes(numTokens);
  if (end > header.length) {
    header = Buffer.alloc(end);
    if ((await readAll(file, header, 0)) < end) return bad('truncated', 'it shrank');
  }
  return parse(header.subarray(0, end), numTokens, size);
}

function parse(header: Buffer, numTokens: number, size: number): Parsed<{ header: Buffer; info: PageFileInfo }> {
  const kind = KINDS[header.readUInt32LE(36) - 1];
  if (kind === undefined) return bad('corrupt', `kind ${header.readUInt32LE(36)}`);
  const info = {
    kind,
    name: header.toString('latin1', 56, 56 + NAME_BYTES) as PageName,
    tokens: Int32Array.from({ length: numTokens }, (_, i) => header.readInt32LE(FIXED_BYTES + 4 * i)),
    size,
    value: header.readDoubleLE(24),
    checksum: header.readUInt32LE(32),
  };
  return { value: { header, info } };
}

function checkHeader(header: Buffer, crc: number | undefined, space: FileSpace): BadFile | null {
  if (header.readUInt32LE(header.length - 4) !== crc) return bad('corrupt', 'the header has another CRC-32C');
  if (header.toString('latin1', 40, 40 + NAME_BYTES) !== space) return bad('corrupt', 'written by another model');
  return null;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Bytes that could be read: fewer than asked for at the end of the file. */
async function readAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}
