import { readFileSync } from 'node:fs';
import type { Dtype, TensorSource } from '@guildhall/native';

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Tensors of one safetensors file of vectors, read whole. Values come out as the type that the test needs. */
export class TensorFile {
  readonly path: string;
  readonly #entries: Map<string, HeaderEntry>;
  readonly #data: Uint8Array;

  constructor(path: string) {
    const bytes = readFileSync(path);
    const headerLength = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength)) as Record<string, HeaderEntry>;
    this.path = path;
    this.#entries = new Map(Object.entries(header).filter(([name]) => name !== '__metadata__'));
    this.#data = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength).subarray(8 + headerLength);
  }

  get names(): string[] {
    return [...this.#entries.keys()];
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  shape(name: string): number[] {
    return this.#entry(name).shape;
  }

  dtype(name: string): string {
    return this.#entry(name).dtype;
  }

  /** A copy of the tensor's bytes. */
  bytes(name: string): Uint8Array {
    const [begin, end] = this.#entry(name).data_offsets;
    return this.#data.slice(begin, end);
  }

  floats(name: string): Float32Array {
    this.#expect(name, 'F32');
    return new Float32Array(this.bytes(name).buffer);
  }

  ints(name: string): Int32Array {
    this.#expect(name, 'I32');
    return new Int32Array(this.bytes(name).buffer);
  }

  /** Row `index` of a matrix of int32. */
  intRow(name: string, index: number): Int32Array {
    const columns = this.shape(name).at(-1) as number;
    return this.ints(name).slice(index * columns, (index + 1) * columns);
  }

  /** The tensor as a weight of a native block; trailing dimensions become columns. */
  source(name: string): TensorSource {
    const shape = this.shape(name);
    const columns = shape.slice(1).reduce((product, size) => product * size, 1);
    const rows = shape[0] as number;
    return {
      dtype: this.dtype(name) as Dtype,
      shape: [rows, columns],
      data: this.bytes(name),
      scale: null,
      rows: null,
    };
  }

  /** Slice `index` of a 3-D tensor, rows [from, to), as a weight. */
  sliceSource(name: string, index: number, from: number, to: number): TensorSource {
    const [, rows, columns] = this.shape(name) as [number, number, number];
    const width = this.dtype(name) === 'F32' ? 4 : 2;
    const start = (index * rows + from) * columns * width;
    const data = this.bytes(name).subarray(start, start + (to - from) * columns * width);
    return { dtype: this.dtype(name) as Dtype, shape: [to - from, columns], data, scale: null, rows: null };
  }

  #entry(name: string): HeaderEntry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new Error(`${this.path} has no tensor ${name}`);
    return entry;
  }

  #expect(name: string, dtype: string): void {
    if (this.dtype(name) !== dtype) throw new Error(`${this.path}: ${name} is ${this.dtype(name)}, not ${dtype}`);
  }
}
