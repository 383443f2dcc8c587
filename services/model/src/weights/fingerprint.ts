import { createHash } from 'node:crypto';
import type { ModelConfig } from '../config.ts';
import { SAMPLE_BYTES, sampleOffsets } from './safetensors/samples.ts';
import type { TensorTable } from './tensor-table.ts';

/** JSON with sorted keys, so that equal values give equal text whatever wrote them. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`;
}

/**
 * Name of a checkpoint's contents: sha256, first 32 hex digits, of the text config, the tensor table (name, dtype,
 * shape, offsets, file) and, for each file, its length and 64 samples of 1 KiB at even distances. Reading every byte
 * would take minutes on the large models; two checkpoints that share all of this are the same for every purpose here.
 */
export function fingerprintOf(config: ModelConfig, table: TensorTable): string {
  const hash = createHash('sha256');
  hash.update(canonicalJson(config.textConfig)).update('\n');
  const rows = [...table.tensors].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, { file, entry }] of rows) {
    hash.update(JSON.stringify([name, entry.dtype, entry.shape, entry.begin, entry.end, file.name])).update('\n');
  }
  for (const file of [...table.files].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    hash.update(JSON.stringify([file.name, file.size])).update('\n');
    for (const begin of sampleOffsets(file.size)) {
      hash.update(file.read(begin, Math.min(begin + SAMPLE_BYTES, file.size)));
    }
  }
  return hash.digest('hex').slice(0, 32);
}
