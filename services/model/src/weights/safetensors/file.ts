import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { fail, isGuildhallError } from '@guildhall/common';
import { fileError } from '../../json-file.ts';
import { MAX_HEADER_BYTES, parseHeader, type TensorEntry } from './header.ts';
import { SAMPLE_BYTES, sampleOffsets } from './samples.ts';
import { OUTLINE_SUFFIX, outlinedBytes, readOutline, type Outline, type Piece } from './outline.ts';

/** Maps `length` bytes of an open file read-only (the native addon's `mapFile`). */
export type MapFile = (fd: number, length: number) => ArrayBuffer;

/** One safetensors file, its header checked. Data is touched only when asked for. */
export class SafetensorsFile {
  readonly path: string;
  /** File name without directories. */
  readonly name: string;
  readonly size: number;
  /** In the order of their data. */
  readonly entries: readonly TensorEntry[];
  /** The `__metadata__` of the header. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly #mapFile: MapFile | null;
  readonly #outline: Outline | null;
  #mapping: ArrayBuffer | null = null;

  private constructor(
    path: string,
    size: number,
    header: Header,
    mapFile: MapFile | null,
    outline: Outline | null = null,
  ) {
    this.path = path;
    this.#outline = outline;
    this.name = basename(path);
    this.size = size;
    this.entries = header.entries;
    this.metadata = header.metadata;
    this.#mapFile = mapFile;
  }

  /**
   * Reads and checks the header. Where the file is not here but its outline is, everything but the weights is known,
   * and asking for those fails.
   * @param mapFile without it ranges are read into memory: for tools and tests.
   * @throws checkpoint_not_found, checkpoint_invalid naming file, tensor and what was expected.
   */
  static open(path: string, mapFile: MapFile | null): SafetensorsFile {
    if (!existsSync(path) && existsSync(path + OUTLINE_SUFFIX)) return SafetensorsFile.#openOutline(path);
    return withFile(path, (fd, size) => {
      const header = readHeader(path, size, (begin, end) => readExactly(path, fd, begin, end - begin));
      return new SafetensorsFile(path, size, header, mapFile);
    });
  }

  static #openOutline(path: string): SafetensorsFile {
    const outline = readOutline(path + OUTLINE_SUFFIX);
    const read = (begin: number, end: number): Uint8Array<ArrayBuffer> => fromOutline(path, outline, begin, end);
    return new SafetensorsFile(path, outline.size, readHeader(path, outline.size, read), null, outline);
  }

  /** True where only the outline of the file is on this machine. */
  get outlined(): boolean {
    return this.#outline !== null;
  }

  /** Bytes [begin, end) of the file: a view on the mapping, or a copy where the file is not mapped. */
  bytes(begin: number, end: number): Uint8Array {
    if (begin === end) return new Uint8Array(0);
    if (this.#mapFile === null) return this.read(begin, end);
    this.#mapping ??= this.#map(this.#mapFile);
    return new Uint8Array(this.#mapping, begin, end - begin);
  }

  /** Copy of bytes [begin, end) of the file, read and never mapped. */
  read(begin: number, end: number): Uint8Array {
    if (this.#outline !== null) return fromOutline(this.path, this.#outline, begin, end);
    return withFile(this.path, (fd, size) => {
      this.#expectSize(size);
      return readExactly(this.path, fd, begin, end - begin);
    });
  }

  /**
   * Fills `target` with the bytes from `begin` on, read in the background and never mapped: where the file was deleted or
   * cut short since it was opened this is an error, and no signal that ends the process.
   * @throws checkpoint_not_found, checkpoint_invalid, checkpoint_partial.
   */
  async readInto(begin: number, target: Uint8Array): Promise<void> {
    if (this.#outline !== null) {
      target.set(fromOutline(this.path, this.#outline, begin, begin + target.length));
      return;
    }
    try {
      const handle = await open(this.path, 'r');
      try {
        this.#expectSize((await handle.stat()).size);
        for (let done = 0; done < target.length;) {
          const { bytesRead } = await handle.read(target, done, target.length - done, begin + done);
          if (bytesRead === 0) {
            throw fail('checkpoint_invalid', `${this.path}: ends at byte ${begin + done}, expected ${this.size}`);
          }
          done += bytesRead;
        }
      } finally {
        await handle.close();
      }
    } catch (err) {
      throw isGuildhallError(err) ? err : fileError(this.path, err);
    }
  }

  /**
   * Compares the file with what it was when it was opened: there, and as long.
   * @throws checkpoint_not_found, checkpoint_invalid.
   */
  async check(): Promise<void> {
    if (this.#outline === null) await this.readInto(this.size, new Uint8Array(0));
  }

  /**
   * What makes the file known without its weights: its header and the samples of the fingerprint. Read in the background.
   * @throws checkpoint_not_found, checkpoint_invalid.
   */
  async outline(): Promise<Outline> {
    if (this.#outline !== null) return this.#outline;
    const piece = async (begin: number, end: number): Promise<Piece> => {
      const bytes = new Uint8Array(end - begin);
      await this.readInto(begin, bytes);
      return { begin, bytes };
    };
    const length = new Uint8Array(8);
    await this.readInto(0, length);
    const pieces = [await piece(0, 8 + Number(new DataView(length.buffer).getBigUint64(0, true)))];
    for (const begin of sampleOffsets(this.size)) {
      pieces.push(await piece(begin, Math.min(begin + SAMPLE_BYTES, this.size)));
    }
    return { file: this.name, size: this.size, pieces };
  }

  #map(mapFile: MapFile): ArrayBuffer {
    return withFile(this.path, (fd, size) => {
      this.#expectSize(size);
      return mapFile(fd, size);
    });
  }

  #expectSize(size: number): void {
    if (size === this.size) return;
    throw fail('checkpoint_invalid', `${this.path}: has ${size} bytes, had ${this.size} when it was opened`);
  }
}

interface Header {
  entries: TensorEntry[];
  metadata: Map<string, string>;
}

/** Reads and checks a header by way of a function that gives bytes of the file. */
function readHeader(path: string, size: number, read: (begin: number, end: number) => Uint8Array<ArrayBuffer>): Header {
  if (size < 8) throw fail('checkpoint_invalid', `${path}: found ${size} bytes, expected a safetensors header`);
  const length = new DataView(read(0, 8).buffer).getBigUint64(0, true);
  if (length < 2n || length > BigInt(MAX_HEADER_BYTES)) {
    throw fail('checkpoint_invalid', `${path}: header length is ${length}, expected 2 to ${MAX_HEADER_BYTES}`);
  }
  if (length > BigInt(size - 8)) {
    throw fail(
      'checkpoint_invalid',
      `${path}: header length is ${length}, but ${size - 8} bytes follow: it is truncated`,
    );
  }
  const metadata = new Map<string, string>();
  return { entries: parseHeader(path, read(8, 8 + Number(length)), size, metadata), metadata };
}

function fromOutline(path: string, outline: Outline, begin: number, end: number): Uint8Array<ArrayBuffer> {
  const bytes = outlinedBytes(outline, begin, end);
  if (bytes !== null) return bytes;
  throw fail('checkpoint_partial', `${path}: this file was not pulled to this machine, only its outline is here`);
}

function withFile<T>(path: string, use: (fd: number, size: number) => T): T {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (err) {
    throw fileError(path, err);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw fail('checkpoint_invalid', `${path}: found no regular file`);
    return use(fd, stat.size);
  } catch (err) {
    throw isGuildhallError(err) ? err : fileError(path, err);
  } finally {
    closeSync(fd);
  }
}

function readExactly(path: string, fd: number, position: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, bytes, done, length - done, position + done);
    if (count === 0) {
      throw fail('checkpoint_invalid', `${path}: ends at byte ${position + done}, expected ${position + length}`);
    }
    done += count;
  }
  return bytes;
}
