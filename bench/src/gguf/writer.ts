import { closeSync, openSync, writeSync } from 'node:fs';
import { GGML_TYPES, formatBytes, type GgmlType } from './quantize.ts';

/** A metadata value; numbers say how they are stored. */
export type GgufValue =
  { u32: number } | { f32: number } | { bool: boolean } | { string: string } | { i32s: readonly number[] };

/** A tensor to write. */
export interface GgufTensor {
  name: string;
  /** Rows x columns (and experts in front), as in a checkpoint; GGUF lists them the other way round. */
  shape: readonly number[];
  type: GgmlType;
  /** The encoded contents, piece by piece. */
  encoded(): Iterable<Uint8Array>;
}

const MAGIC = 0x46554747;
const VERSION = 3;
const ALIGNMENT = 32;
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 };

/** Collects little-endian fields. */
class Fields {
  readonly parts: Buffer[] = [];

  u32(value: number): void {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    this.parts.push(part);
  }

  u64(value: number): void {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    this.parts.push(part);
  }

  i32(value: number): void {
    const part = Buffer.alloc(4);
    part.writeInt32LE(value);
    this.parts.push(part);
  }

  f32(value: number): void {
    const part = Buffer.alloc(4);
    part.writeFloatLE(value);
    this.parts.push(part);
  }

  string(value: string): void {
    const part = Buffer.from(value);
    this.u64(part.length);
    this.parts.push(part);
  }

  value(value: GgufValue): void {
    if ('u32' in value) {
      this.u32(VALUE_TYPES.u32);
      this.u32(value.u32);
    } else if ('f32' in value) {
      this.u32(VALUE_TYPES.f32);
      this.f32(value.f32);
    } else if ('bool' in value) {
      this.u32(VALUE_TYPES.bool);
      this.parts.push(Buffer.of(value.bool ? 1 : 0));
    } else if ('string' in value) {
      this.u32(VALUE_TYPES.string);
      this.string(value.string);
    } else {
      this.u32(VALUE_TYPES.array);
      this.u32(VALUE_TYPES.i32);
      this.u64(value.i32s.length);
      for (const item of value.i32s) this.i32(item);
    }
  }
}

function padding(size: number): number {
  return (ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT;
}

function tensorBytes(tensor: GgufTensor): number {
  return formatBytes(
    tensor.type,
    tensor.shape.reduce((product, size) => product * size, 1),
  );
}

/** Everything in front of the tensors' data. */
export function ggufHeader(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensor[]): Buffer {
  const fields = new Fields();
  fields.u32(MAGIC);
  fields.u32(VERSION);
  fields.u64(tensors.length);
  fields.u64(metadata.size);
  for (const [key, value] of metadata) {
    fields.string(key);
    fields.value(value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    fields.string(tensor.name);
    fields.u32(tensor.shape.length);
    for (const size of [...tensor.shape].reverse()) fields.u64(size);
    fields.u32(GGML_TYPES[tensor.type]);
    fields.u64(offset);
    const bytes = tensorBytes(tensor);
    offset += bytes + padding(bytes);
  }
  const header = Buffer.concat(fields.parts);
  return Buffer.concat([header, Buffer.alloc(padding(header.length))]);
}

/**
 * Writes a GGUF file (version 3, little-endian).
 * @param onProgress told the share that is written, 0 to 1.
 * @throws RangeError if a tensor's contents are not as long as its shape says; file system errors.
 */
export function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
  onProgress: (fraction: number) => void = () => undefined,
): void {
  const total = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  let written = 0;
  const fd = openSync(path, 'w');
  try {
    writeAll(fd, ggufHeader(metadata, tensors));
    for (const tensor of tensors) {
      const start = written;
      for (const bytes of tensor.encoded()) {
        writeAll(fd, bytes);
        written += bytes.length;
        onProgress(written / total);
      }
      if (written - start !== tensorBytes(tensor)) {
        throw new RangeError(`${tensor.name}: ${written - start} bytes, expected ${tensorBytes(tensor)}`);
      }
      writeAll(fd, new Uint8Array(padding(written - start)));
    }
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at);
}
