import { fail } from '@guildhall/common';
import type { TensorSource } from '@guildhall/native';
import { loadModelConfig, type ModelConfig } from '../config.ts';
import { scaleName } from './expected.ts';
import { fingerprintOf } from './fingerprint.ts';
import { findLayout, type ModelLayout } from './layout.ts';
import type { MapFile, SafetensorsFile } from './safetensors/file.ts';
import { SAMPLE_BYTES, sampleOffsets } from './safetensors/samples.ts';
import { openTensorTable, type TensorLocation, type TensorTable } from './tensor-table.ts';
import { verifyTensors, type Verification } from './verify.ts';

/** A range of weights that somebody asked for. */
export interface ReadRecord {
  file: string;
  tensor: string;
  /** Bytes of the tensor. */
  begin: number;
  end: number;
}

export interface CheckpointOptions {
  /** Maps files (the native addon's `mapFile`); without it ranges are read into memory. */
  mapFile?: MapFile | null;
  /** Told of every range of weights that is handed out. */
  onRead?: ((read: ReadRecord) => void) | null;
}

/** Bytes [begin, end) of a tensor. */
export interface TensorRange {
  tensor: string;
  begin: number;
  end: number;
}

/** Gives bytes [begin, end) of a tensor. */
export type ByteReader = (tensor: string, begin: number, end: number) => Uint8Array;

/** A tensor as it is stored. */
export interface TensorInfo {
  name: string;
  file: string;
  dtype: string;
  shape: readonly number[];
  byteLength: number;
}

/**
 * A checkpoint directory: config, tensor table and layout, all checked against each other when it is opened. Weights
 * are touched only when asked for: a router asks for dense ones, a worker for its experts.
 */
export class Checkpoint {
  readonly dir: string;
  readonly config: ModelConfig;
  readonly layout: ModelLayout;
  /** What was set aside or ignored, for the log. */
  readonly notices: readonly string[];
  readonly #table: TensorTable;
  readonly #verified: Verification;
  readonly #onRead: ((read: ReadRecord) => void) | null;
  readonly #files: ByteReader = (name, begin, end) => this.bytes(name, begin, end);
  #fingerprint: string | null = null;

  private constructor(dir: string, config: ModelConfig, table: TensorTable, options: CheckpointOptions) {
    this.dir = dir;
    this.config = config;
    this.layout = findLayout(dir, (name) => table.tensors.has(name), config);
    this.#table = table;
    this.#verified = verifyTensors(dir, table.tensors, config, this.layout);
    this.#onRead = options.onRead ?? null;
    this.notices = [...config.notices, ...table.notices, ...this.#verified.notices];
  }

  /**
   * Opens and checks a checkpoint. No weights are read.
   * @throws checkpoint_not_found, checkpoint_invalid naming file, tensor or field, found and expected.
   */
  static open(dir: string, options: CheckpointOptions = {}): Checkpoint {
    const config = loadModelConfig(dir);
    return new Checkpoint(dir, config, openTensorTable(dir, options.mapFile ?? null), options);
  }

  /** All tensors, sorted by name. */
  get names(): string[] {
    return [...this.#table.tensors.keys()].sort();
  }

  /** Tensors that a router reads. */
  get denseNames(): readonly string[] {
    return this.#verified.dense;
  }

  /** Tensors that holders of experts read. */
  get expertNames(): readonly string[] {
    return this.#verified.experts;
  }

  /** Name of the contents, 32 hex digits; computed when first asked for. */
  get fingerprint(): string {
    this.#fingerprint ??= fingerprintOf(this.config, this.#table);
    return this.#fingerprint;
  }

  /** True where the bytes of a tensor are on this machine, not only the header of its file. */
  isHere(name: string): boolean {
    return !this.#locate(name).file.outlined;
  }

  /** Files of which only the outline is on this machine. */
  get outlinedFiles(): string[] {
    return this.#table.files.filter((file) => file.outlined).map((file) => file.name);
  }

  has(name: string): boolean {
    return this.#table.tensors.has(name);
  }

  /** What the header says of a tensor. @throws checkpoint_invalid if there is none of that name. */
  info(name: string): TensorInfo {
    const { file, entry } = this.#locate(name);
    const byteLength = entry.end - entry.begin;
    return { name, file: file.name, dtype: entry.dtype, shape: entry.shape, byteLength };
  }

  /** A whole tensor. */
  tensor(name: string): TensorInfo & { data: Uint8Array } {
    const info = this.info(name);
    return { ...info, data: this.bytes(name, 0, info.byteLength) };
  }

  /** Bytes [begin, end) of a tensor: a view on the mapped file, at any alignment. */
  bytes(name: string, begin: number, end: number): Uint8Array {
    const { file, entry } = this.#locate(name);
    if (begin < 0 || begin > end || end > entry.end - entry.begin) {
      throw fail('internal', `${name}: range [${begin}, ${end}) is outside its ${entry.end - entry.begin} bytes`);
    }
    this.#onRead?.({ file: file.name, tensor: name, begin, end });
    return file.bytes(entry.begin + begin, entry.begin + end);
  }

  /**
   * Copies of ranges of tensors, one after the other, read in the background and never mapped: files that were deleted or
   * cut short are errors.
   * @throws checkpoint_not_found, checkpoint_invalid, checkpoint_partial.
   */
  async read(ranges: readonly TensorRange[]): Promise<Uint8Array> {
    const total = ranges.reduce((sum, { begin, end }) => sum + end - begin, 0);
    // Memory of its own: it is handed on to native threads.
    const data = new Uint8Array(Buffer.allocUnsafeSlow(total).buffer);
    let at = 0;
    for (const { tensor, begin, end } of ranges) {
      const { file, entry } = this.#locate(tensor);
      this.#onRead?.({ file: file.name, tensor, begin, end });
      await file.readInto(entry.begin + begin, data.subarray(at, (at += end - begin)));
    }
    return data;
  }

  /** The safetensors files, those included of which only the outline is here. */
  get files(): readonly SafetensorsFile[] {
    return this.#table.files;
  }

  /**
   * Where the bytes of a tensor differ from the samples of its file that the outline has; null where they do not.
   * @param data bytes of the tensor from `begin` on.
   */
  differsFromSamples(tensor: string, begin: number, data: Uint8Array): number | null {
    const { file, entry } = this.#locate(tensor);
    if (!file.outlined) return null;
    const from = entry.begin + begin;
    for (const at of sampleOffsets(file.size)) {
      const low = Math.max(at, from);
      const high = Math.min(at + SAMPLE_BYTES, file.size, from + data.length);
      if (low >= high) continue;
      const sample = file.read(at, Math.min(at + SAMPLE_BYTES, file.size)).subarray(low - at, high - at);
      if (!Buffer.from(sample).equals(data.subarray(low - from, high - from))) return low - entry.begin;
    }
    return null;
  }

  /**
   * A whole weight for a native block: vectors as [n, 1], the convolution as [channels, kernel], matrices as they
   * are, with their block scales if they are FP8.
   * @param rows source row of each output row, or null.
   * @param read where bytes come from, by default the files.
   */
  source(name: string, rows: Int32Array | null = null, read: ByteReader = this.#files): TensorSource {
    const { dtype, shape, byteLength } = this.info(name);
    const first = shape[0] ?? 1;
    const columns = shape.slice(1).reduce((product, size) => product * size, 1);
    return {
      dtype: dtype as TensorSource['dtype'],
      shape: [first, columns],
      data: read(name, 0, byteLength),
      scale: this.#scaleOf(name, dtype, read),
      rows,
    };
  }

  #scaleOf(name: string, dtype: string, read: ByteReader): TensorSource['scale'] {
    if (dtype !== 'F8_E4M3') return null;
    const scale = this.info(scaleName(name));
    const data = read(scale.name, 0, scale.byteLength);
    return { dtype: scale.dtype as 'F32' | 'BF16', data, shape: scale.shape as [number, number] };
  }

  #locate(name: string): TensorLocation {
    const found = this.#table.tensors.get(name);
    if (found === undefined) throw fail('checkpoint_invalid', `${this.dir}: tensor ${name}: missing`, { field: name });
    return found;
  }
}
