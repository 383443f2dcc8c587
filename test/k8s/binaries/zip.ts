import { inflateRawSync } from 'node:zlib';

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const STORED = 0;
const DEFLATED = 8;

/**
 * One file of a ZIP archive that is in memory (APPNOTE 6.3, without ZIP64 and encryption).
 * Throws where the archive is not one or has no such entry.
 */
export function unzip(archive: Buffer, name: string): Buffer {
  const end = archive.lastIndexOf(Buffer.from([0x50, 0x4b, 0x05, 0x06]));
  if (end < 0 || archive.readUInt32LE(end) !== END) throw new Error('not a ZIP archive');
  const count = archive.readUInt16LE(end + 10);
  let at = archive.readUInt32LE(end + 16);
  for (let index = 0; index < count; index += 1) {
    if (archive.readUInt32LE(at) !== ENTRY) throw new Error('the directory of the ZIP archive is damaged');
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => archive.readUInt16LE(at + field)) as [
      number,
      number,
      number,
    ];
    const entryName = archive.toString('utf8', at + 46, at + 46 + nameBytes);
    if (entryName === name) return contents(archive, at);
    at += 46 + nameBytes + extraBytes + commentBytes;
  }
  throw new Error(`the ZIP archive has no ${name}`);
}

function contents(archive: Buffer, entry: number): Buffer {
  const method = archive.readUInt16LE(entry + 10);
  const packed = archive.readUInt32LE(entry + 20);
  const local = archive.readUInt32LE(entry + 42);
  const start = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
  const bytes = archive.subarray(start, start + packed);
  if (method === STORED) return Buffer.from(bytes);
  if (method === DEFLATED) return inflateRawSync(bytes);
  throw new Error(`compression method ${method} of the ZIP archive is not supported`);
}
