import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tensorBytes } from '../weights/safetensors/dtype.ts';

/** A tensor to write. */
export interface RawTensor {
  name: string;
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

/** Bytes of a safetensors file with a given header text. */
export function safetensorsBytes(header: string, data: Uint8Array = new Uint8Array(0)): Buffer {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

/** Bytes of a well-formed safetensors file. */
export function encodeSafetensors(tensors: readonly RawTensor[]): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const { name, dtype, shape, data } of tensors) {
    if (tensorBytes(dtype, shape) !== data.length) throw new TypeError(`${name}: ${data.length} bytes do not fit`);
    header[name] = { dtype, shape, data_offsets: [offset, (offset += data.length)] };
  }
  return safetensorsBytes(JSON.stringify(header), Buffer.concat(tensors.map(({ data }) => data)));
}

/** Writes tensors to a directory: one file, or shards with an index. */
export function writeTensors(dir: string, tensors: readonly RawTensor[], numShards = 1): void {
  if (numShards === 1) {
    writeFileSync(join(dir, 'model.safetensors'), encodeSafetensors(tensors));
    return;
  }
  const map: Record<string, string> = {};
  for (let shard = 0; shard < numShards; shard++) {
    const file = `model-${pad(shard + 1)}-of-${pad(numShards)}.safetensors`;
    const part = tensors.filter((_, i) => i % numShards === shard);
    writeFileSync(join(dir, file), encodeSafetensors(part));
    for (const { name } of part) map[name] = file;
  }
  const index = { metadata: { total_size: 0 }, weight_map: map };
  writeFileSync(join(dir, 'model.safetensors.index.json'), JSON.stringify(index));
}

function pad(n: number): string {
  return String(n).padStart(5, '0');
}
