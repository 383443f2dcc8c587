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
  const { bytesWritten } = await file.writev([header, content.data], 0);
  if (bytesWritten === header.length + content.data.length) return;
  // A disk that is nearly full takes a part; the next write says so.
  await writeAll(file, Buffer.concat([header, content.data]).subarray(bytesWritten), bytesWritten);
}

/** Reads a header and checks it; the data is only known to have the right length. */
export async function readPageHeader(
  file: FileHandle,
  space: FileSpace,
  checksum: Checksum,
): Promise<Parsed<PageFileInfo>> {
  const { size: length } = await file.stat();
  let raw = parse(await readStart(file, Math.min(length, FIRST_READ)), length);
  if ('needs' in raw) raw = parse(await readStart(file, raw.needs), length);
  if ('fault' in raw) return raw;
  if ('needs' in raw) return bad('truncated', 'it shrank');
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
  const { size: length } = await file.stat();
  const bytes = await readStart(file, length);
  if (bytes.length < length) return bad('truncated', 'it shrank');
  const raw = parse(bytes, length);
  if ('fault' in raw) return raw;
  if ('needs' in raw) return bad('truncated', 'it shrank');
  const { header, info } = raw.value;
  const data = bytes.subarray(header.length);
  const [headerCrc, dataCrc] = await checksum([header.subarray(0, -4), data]);
  const wrong = checkHeader(header, headerCrc, space);
  if (wrong !== null) return wrong;
  return dataCrc === info.checksum ? { value: { ...info, data } } : bad('corrupt', 'the data has another CRC-32C');
}

/** The first `most` bytes, fewer where the file ends. Not from Buffer's pool: they may stay for long. */
async function readStart(file: FileHandle, most: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(most);
  let done = 0;
  while (done < most) {
    const { bytesRead } = await file.read(bytes, done, most - done, done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

/** The header at the start of a file of `length` bytes, with lengths that agree with it; or how many bytes it needs. */
function parse(bytes: Buffer, length: number): Parsed<{ header: Buffer; info: PageFileInfo }> | { needs: number } {
  if (bytes.length < FIXED_BYTES) return bad('truncated', `${length} bytes are no header`);
  if (bytes.toString('latin1', 0, 8) !== MAGIC) return bad('corrupt', 'not a file of the page cache');
  if (bytes.readUInt32LE(8) !== VERSION) return bad('corrupt', `format version ${bytes.readUInt32LE(8)}`);
  const numTokens = bytes.readUInt32LE(12);
  const size = Number(bytes.readBigUInt64LE(16));
  if (numTokens > MAX_TOKENS) return bad('corrupt', `${numTokens} tokens`);
  const expected = fileBytes(numTokens, size);
  if (length !== expected) return bad(length < expected ? 'truncated' : 'corrupt', `${length} of ${expected} bytes`);
  const end = headerBytes(numTokens);
  return bytes.length < end ? { needs: end } : fields(bytes.subarray(0, end), numTokens, size);
}

function fields(header: Buffer, numTokens: number, size: number): Parsed<{ header: Buffer; info: PageFileInfo }> {
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
