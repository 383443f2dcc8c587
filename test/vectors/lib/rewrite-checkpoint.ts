import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TensorFile } from './tensor-file.ts';

/** A tensor with its bytes. */
export interface StoredTensor {
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

/** All tensors of a checkpoint directory. */
export function readTensors(dir: string): Map<string, StoredTensor> {
  const out = new Map<string, StoredTensor>();
  for (const name of readdirSync(dir).filter((file) => file.endsWith('.safetensors'))) {
    const file = new TensorFile(join(dir, name));
    for (const tensor of file.names) {
      out.set(tensor, { dtype: file.dtype(tensor), shape: file.shape(tensor), data: file.bytes(tensor) });
    }
  }
  return out;
}

/** Writes a checkpoint directory: `from`'s other files, with these tensors in `shards` files. */
export function writeCheckpoint(from: string, to: string, tensors: Map<string, StoredTensor>, shards: number): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true }))
    if (entry.isFile() && !entry.name.includes('safetensors')) cpSync(join(from, entry.name), join(to, entry.name));
  if (shards === 1) {
    writeFileSync(join(to, 'model.safetensors'), encode([...tensors]));
    return;
  }
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${String(shard + 1).padStart(5, '0')}-of-${String(shards).padStart(5, '0')}.safetensors`;
    const part = [...tensors].filter((_, i) => i % shards === shard);
    for (const [name] of part) weightMap[name] = file;
    writeFileSync(join(to, file), encode(part));
  }
  const index = { metadata: { total_size: 0 }, weight_map: weightMap };
  index.metadata.total_size = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
  writeFileSync(join(to, 'model.safetensors.index.json'), JSON.stringify(index));
}

function encode(tensors: [string, StoredTensor][]): Buffer {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const [name, { dtype, shape, data }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, (offset += data.length)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...tensors.map(([, { data }]) => data)]);
}

/** Replaces the fused experts of the main layers by one set of tensors for each expert. */
export function splitExperts(tensors: Map<string, StoredTensor>): Map<string, StoredTensor> {
  const out = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    const prefix = /^(.*\.experts)\.(gate_up_proj|down_proj)$/.exec(name);
    if (prefix === null) {
      out.set(name, tensor);
      continue;
    }
    const [experts, rows, columns] = tensor.shape as [number, number, number];
    const size = tensor.data.length / experts;
    for (let e = 0; e < experts; e++) {
      const own = tensor.data.slice(e * size, (e + 1) * size);
      const put = (projection: string, data: Uint8Array, count: number): void => {
        out.set(`${prefix[1]}.${e}.${projection}.weight`, { dtype: tensor.dtype, shape: [count, columns], data });
      };
      if (prefix[2] === 'down_proj') {
        put('down_proj', own, rows);
      } else {
        put('gate_proj', own.slice(0, size / 2), rows / 2);
        put('up_proj', own.slice(size / 2), rows / 2);
      }
    }
  }
  return out;
}

/** Replaces the experts of the main layers by the fused tensors of each layer. */
export function fuseExperts(tensors: Map<string, StoredTensor>): Map<string, StoredTensor> {
  const out = new Map<string, StoredTensor>();
  const numbers = [...tensors.keys()].map((name) =>
    Number(/\.experts\.(\d+)\.gate_proj\.weight$/.exec(name)?.[1] ?? -1),
  );
  const count = Math.max(...numbers) + 1;
  for (const [name, tensor] of tensors) {
    const match = /^(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight$/.exec(name);
    if (match === null || name.startsWith('mtp.')) out.set(name, tensor);
    else if (match[2] === '0' && match[3] !== 'up_proj') {
      const fused = match[3] === 'down_proj' ? ['down_proj'] : ['gate_proj', 'up_proj'];
      const parts = Array.from({ length: count }, (_, e) =>
        fused.map((part) => tensors.get(`${match[1]}.${e}.${part}.weight`) as StoredTensor),
      ).flat();
      const [rows, columns] = tensor.shape as [number, number];
      out.set(`${match[1]}.${fused.length === 2 ? 'gate_up_proj' : 'down_proj'}`, {
        dtype: tensor.dtype,
        shape: [count, rows * fused.length, columns],
        data: Buffer.concat(parts.map(({ data }) => data)),
      });
    }
  }
  return out;
}

/** BF16 tensors of the same values; the F32 values must be representable. */
export function toBf16({ dtype, shape, data }: StoredTensor): StoredTensor {
  if (dtype !== 'F32') throw new Error(`expected F32, found ${dtype}`);
  const bits = new Uint32Array(data.slice().buffer);
  return { dtype: 'BF16', shape, data: new Uint8Array(Uint16Array.from(bits, (b) => b >>> 16).buffer) };
}

/** F32 tensors of the same values as BF16 ones. */
export function toF32({ dtype, shape, data }: StoredTensor): StoredTensor {
  if (dtype !== 'BF16') throw new Error(`expected BF16, found ${dtype}`);
  const halves = new Uint16Array(data.slice().buffer);
  return { dtype: 'F32', shape, data: new Uint8Array(Uint32Array.from(halves, (h) => h << 16).buffer) };
}

/** A tensor's F32 values rounded to nearest-even BF16, still stored as F32. */
export function roundToBf16({ dtype, shape, data }: StoredTensor): StoredTensor {
  if (dtype !== 'F32') throw new Error(`expected F32, found ${dtype}`);
  const bits = new Uint32Array(data.slice().buffer);
  const rounded = bits.map((b) => ((b + 0x7fff + ((b >>> 16) & 1)) & 0xffff0000) >>> 0);
  return { dtype, shape, data: new Uint8Array(rounded.buffer) };
}

/** config.json of a directory. */
export function readConfig(dir: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as Record<string, unknown>;
}
