import { fail, type GuildhallError } from '@guildhall/common';
import { describe } from '../../json-file.ts';
import { dtypeBits, tensorBytes } from './dtype.ts';
import { HeaderScanner } from './scanner.ts';

/** One tensor of a safetensors file. */
export interface TensorEntry {
  name: string;
  dtype: string;
  shape: number[];
  /** First byte in the file. */
  begin: number;
  /** One past the last byte in the file. */
  end: number;
}

/** Largest header that is read; the format's own limit. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_TENSORS = 4_000_000;
const MAX_RANK = 16;

/**
 * Parses and checks the JSON header of a safetensors file: known dtypes, sizes that follow from dtype and shape,
 * data that fills the rest of the file without overlap or gap, no name twice.
 * @param file name for messages.
 * @param json the header's bytes, without the 8 length bytes.
 * @param fileBytes length of the whole file.
 * @param metadata receives the file's own words about itself.
 * @returns entries in the order of their data.
 * @throws checkpoint_invalid naming file, tensor and what was expected.
 */
export function parseHeader(
  file: string,
  json: Uint8Array,
  fileBytes: number,
  metadata: Map<string, string> = new Map(),
): TensorEntry[] {
  const scanner = new HeaderScanner(file, decodeUtf8(file, json));
  const dataStart = 8 + json.byteLength;
  const entries = new Map<string, TensorEntry>();
  scanner.object((name) => {
    if (name === '__metadata__') {
      scanner.object((key) => metadata.set(key, scanner.string()));
      return;
    }
    if (entries.has(name)) throw tensorError(file, name, 'named twice in the header, expected once');
    if (entries.size >= MAX_TENSORS) throw fail('checkpoint_invalid', `${file}: more than ${MAX_TENSORS} tensors`);
    entries.set(name, readEntry(scanner, file, name, dataStart));
  });
  scanner.end();
  return checkLayout(file, [...entries.values()], dataStart, fileBytes);
}

/** The error for one tensor of a file. */
export function tensorError(file: string, name: string, problem: string): GuildhallError {
  const shown = name.length > 200 ? `${name.slice(0, 197)}...` : name;
  return fail('checkpoint_invalid', `${file}: tensor ${shown}: ${problem}`, { field: shown });
}

function decodeUtf8(file: string, json: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
  } catch (err) {
    throw fail('checkpoint_invalid', `${file}: header is not valid UTF-8`, { cause: err });
  }
}

function readEntry(scanner: HeaderScanner, file: string, name: string, dataStart: number): TensorEntry {
  let dtype: string | null = null;
  let shape: number[] | null = null;
  let offsets: number[] | null = null;
  scanner.object((key) => {
    if (key === 'dtype' && dtype === null) dtype = scanner.string();
    else if (key === 'shape' && shape === null) shape = scanner.integers(MAX_RANK);
    else if (key === 'data_offsets' && offsets === null) offsets = scanner.integers(2);
    else throw tensorError(file, name, `found key ${describe(key)}, expected dtype, shape and data_offsets once each`);
  });
  return checkEntry(file, name, { dtype, shape, offsets }, dataStart);
}

function checkEntry(
  file: string,
  name: string,
  found: { dtype: string | null; shape: number[] | null; offsets: number[] | null },
  dataStart: number,
): TensorEntry {
  const { dtype, shape, offsets } = found;
  if (dtype === null || shape === null || offsets === null) {
    throw tensorError(file, name, 'expected dtype, shape and data_offsets');
  }
  if (dtypeBits(dtype) === null) throw tensorError(file, name, `found unknown dtype ${describe(dtype)}`);
  const [from, to] = offsets;
  if (from === undefined || to === undefined || from > to) {
    throw tensorError(file, name, `found data_offsets ${describe(offsets)}, expected [begin, end] with begin <= end`);
  }
  const expected = tensorBytes(dtype, shape);
  if (expected !== to - from) {
    const wanted = expected === null ? 'a size in whole bytes below 2^53' : `${expected} bytes`;
    throw tensorError(
      file,
      name,
      `found ${to - from} bytes of data, expected ${wanted} for ${dtype} ${describe(shape)}`,
    );
  }
  return { name, dtype, shape, begin: dataStart + from, end: dataStart + to };
}

function checkLayout(file: string, entries: TensorEntry[], dataStart: number, fileBytes: number): TensorEntry[] {
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let cursor = dataStart;
  for (const entry of entries) {
    if (entry.end > fileBytes) {
      throw tensorError(file, entry.name, `ends at byte ${entry.end}, but the file has ${fileBytes}: it is truncated`);
    }
    if (entry.begin < cursor) throw tensorError(file, entry.name, 'its data overlaps that of another tensor');
    if (entry.begin > cursor) {
      throw tensorError(file, entry.name, `${entry.begin - cursor} unused bytes before its data, expected none`);
    }
    cursor = entry.end;
  }
  if (cursor !== fileBytes) {
    throw fail('checkpoint_invalid', `${file}: found ${fileBytes} bytes, expected ${cursor} by its header`);
  }
  return entries;
}
