import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { fail } from '@guildhall/common';
import type { TensorSource } from '@guildhall/native';
import { isRecord } from '../../json-file.ts';
import { SafetensorsFile, type MapFile } from '../safetensors/file.ts';
import type { TensorEntry } from '../safetensors/header.ts';

/** What a segment was made from and by; one that differs in any of it is not used. */
export interface SegmentOrigin {
  /** Fingerprint of the checkpoint. */
  fingerprint: string;
  format: string;
  /** Version of the arithmetic that made the numbers. */
  version: number;
}

interface PartInfo {
  dtype: string;
  shape: [number, number];
  crc32: number;
}

interface StoredInfo extends PartInfo {
  scale: PartInfo | null;
}

const SCHEMA = 'guildhall.weights/1';
const INFO_KEY = 'guildhall';
const SUFFIX = '.safetensors';
/** Bytes that are hashed and written in one go; other work gets its turn between two. */
const WRITE_BYTES = 4 << 20;

/** How files that are being written are called. */
export const DRAFT_PREFIX = '.draft-';

/** True for the name of a segment in a cache folder. */
export function isSegmentName(name: string): boolean {
  return /^[0-9a-f]{32}\.safetensors$/.test(name);
}

/**
 * Writes weights as one safetensors file whose name is the hash of its contents, so that it never changes and two
 * writers cannot disturb each other. Other work goes on meanwhile.
 * @param draft where the file grows, in `dir` too.
 * @returns the file's name in `dir`.
 */
export async function writeSegment(
  dir: string,
  draft: string,
  origin: SegmentOrigin,
  weights: ReadonlyMap<string, TensorSource>,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  const entries: Record<string, unknown> = {};
  const infos: Record<string, StoredInfo> = {};
  let offset = 0;
  const add = (name: string, data: Uint8Array): number => {
    entries[name] = { dtype: 'U8', shape: [data.byteLength], data_offsets: [offset, (offset += data.byteLength)] };
    chunks.push(data);
    return crc32(data);
  };
  for (const [name, { dtype, shape, data, scale }] of weights) {
    const info = { dtype, shape, crc32: add(name, data) };
    const scaleInfo =
      scale === null ? null : { dtype: scale.dtype, shape: scale.shape, crc32: add(scaleKey(name), scale.data) };
    infos[name] = { ...info, scale: scaleInfo };
  }
  const about = JSON.stringify({ schema: SCHEMA, ...origin, tensors: infos });
  const header = Buffer.from(JSON.stringify({ __metadata__: { [INFO_KEY]: about }, ...entries }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const digest = await writeHashed(draft, [length, header, ...chunks]);
  const name = `${digest.slice(0, 32)}${SUFFIX}`;
  await rename(draft, join(dir, name));
  return name;
}

/** Writes a file, down to the disk. @returns its sha256; nothing is left of a file that could not be written. */
async function writeHashed(path: string, chunks: readonly Uint8Array[]): Promise<string> {
  const hash = createHash('sha256');
  const handle = await open(path, 'wx');
  try {
    for (const chunk of chunks) {
      for (let at = 0; at < chunk.byteLength;) {
        const part = chunk.subarray(at, at + WRITE_BYTES);
        hash.update(part);
        for (let done = 0; done < part.byteLength;) done += (await handle.write(part, done)).bytesWritten;
        at += part.byteLength;
      }
    }
    await handle.sync();
  } catch (err) {
    await rm(path, { force: true });
    throw err;
  } finally {
    await handle.close();
  }
  return hash.digest('hex');
}

function scaleKey(name: string): string {
  return `${name}#scale`;
}

/** A segment whose header is known to be sound; the numbers are checked as they are taken. */
export class Segment {
  readonly path: string;
  readonly #file: SafetensorsFile;
  readonly #infos: Map<string, StoredInfo>;
  readonly #entries: Map<string, TensorEntry>;

  private constructor(path: string, file: SafetensorsFile, infos: Map<string, StoredInfo>) {
    this.path = path;
    this.#file = file;
    this.#infos = infos;
    this.#entries = new Map(file.entries.map((entry) => [entry.name, entry]));
  }

  /**
   * Opens a segment.
   * @throws checkpoint_invalid where it is damaged or of another origin.
   */
  static open(path: string, origin: SegmentOrigin, mapFile: MapFile | null): Segment {
    const file = SafetensorsFile.open(path, mapFile);
    const about = parseAbout(path, file.metadata.get(INFO_KEY));
    const { fingerprint, format, version } = origin;
    if (about['fingerprint'] !== fingerprint || about['format'] !== format || about['version'] !== version) {
      throw fail('checkpoint_invalid', `${path}: made from another checkpoint or by another version`);
    }
    const tensors = about['tensors'];
    if (!isRecord(tensors)) throw fail('checkpoint_invalid', `${path}: lists no tensors`);
    return new Segment(path, file, new Map(Object.entries(tensors) as [string, StoredInfo][]));
  }

  get names(): string[] {
    return [...this.#infos.keys()];
  }

  /**
   * A weight, its bytes compared with their checksums.
   * @throws checkpoint_invalid where they differ.
   */
  take(name: string): TensorSource {
    const info = this.#infos.get(name);
    if (info === undefined) throw fail('internal', `${this.path} does not hold ${name}`);
    const { dtype, shape, scale } = info;
    return {
      dtype: dtype as TensorSource['dtype'],
      shape,
      data: this.#bytes(name, info.crc32),
      scale:
        scale === null
          ? null
          : {
              dtype: scale.dtype as NonNullable<TensorSource['scale']>['dtype'],
              shape: scale.shape,
              data: this.#bytes(scaleKey(name), scale.crc32),
            },
      rows: null,
    };
  }

  #bytes(key: string, wanted: number): Uint8Array {
    const entry = this.#entries.get(key);
    if (entry === undefined) throw fail('checkpoint_invalid', `${this.path}: ${key} is missing`);
    const bytes = this.#file.bytes(entry.begin, entry.end);
    if (crc32(bytes) !== wanted) throw fail('checkpoint_invalid', `${this.path}: the checksum of ${key} is wrong`);
    return bytes;
  }
}

function parseAbout(path: string, text: string | undefined): Record<string, unknown> {
  try {
    const about: unknown = JSON.parse(text ?? '');
    if (isRecord(about) && about['schema'] === SCHEMA) return about;
  } catch {
    // Says the same as a wrong schema.
  }
  throw fail('checkpoint_invalid', `${path}: is no segment of a weights cache`);
}
