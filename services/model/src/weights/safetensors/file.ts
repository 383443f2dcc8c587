import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import { fail, isGuildhallError } from '@guildhall/common';
import { fileError } from '../../json-file.ts';
import { MAX_HEADER_BYTES, parseHeader, type TensorEntry } from './header.ts';

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
  readonly #mapFile: MapFile | null;
  #mapping: ArrayBuffer | null = null;

  private constructor(path: string, size: number, entries: TensorEntry[], mapFile: MapFile | null) {
    this.path = path;
    this.name = basename(path);
    this.size = size;
    this.entries = entries;
    this.#mapFile = mapFile;
  }

  /**
   * Reads and checks the header.
   * @param mapFile without it ranges are read into memory: for tools and tests.
   * @throws checkpoint_not_found, checkpoint_invalid naming file, tensor and what was expected.
   */
  static open(path: string, mapFile: MapFile | null): SafetensorsFile {
    return withFile(path, (fd, size) => {
      if (size < 8) throw fail('checkpoint_invalid', `${path}: found ${size} bytes, expected a safetensors header`);
      const length = new DataView(readExactly(path, fd, 0, 8).buffer).getBigUint64(0, true);
      if (length < 2n || length > BigInt(MAX_HEADER_BYTES)) {
        throw fail('checkpoint_invalid', `${path}: header length is ${length}, expected 2 to ${MAX_HEADER_BYTES}`);
      }
      if (length > BigInt(size - 8)) {
        throw fail(
          'checkpoint_invalid',
          `${path}: header length is ${length}, but ${size - 8} bytes follow: it is truncated`,
        );
      }
      const entries = parseHeader(path, readExactly(path, fd, 8, Number(length)), size);
      return new SafetensorsFile(path, size, entries, mapFile);
    });
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
    return withFile(this.path, (fd, size) => {
      this.#expectSize(size);
      return readExactly(this.path, fd, begin, end - begin);
    });
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
