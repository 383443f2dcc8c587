import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Progress } from '../progress.ts';
import { bf16Table, fillWords, seedOf, wordsToBf16, wordsToF32 } from './random.ts';
import type { ModelName, ModelSize, ModelSpec } from './specs.ts';
import { modelSpec } from './specs.ts';
import type { TensorPlan } from './tensor-plan.ts';
import { extendTokenizer } from './tokenizer.ts';

/** Part of the folder's name: raised when the same name must stand for other weights. */
const GENERATION = 1;
const CHUNK_WORDS = 4 << 20;
const COPIED = ['tokenizer_config.json', 'chat_template.jinja', 'generation_config.json'];

/** Folder of a model's files. */
export function modelDir(modelsDir: string, name: ModelName, size: ModelSize): string {
  return join(modelsDir, `${name}-${size}-v${GENERATION}`);
}

/**
 * The checkpoint of a bench model, written if it is not there: config.json, one safetensors file, and a tokenizer whose
 * every id decodes to text. The same seed gives the same bytes on every machine.
 * @param tinyDir checkpoint whose tokenizer and chat template are extended.
 * @returns its folder.
 */
export function ensureModel(
  options: { modelsDir: string; name: ModelName; size: ModelSize; tinyDir: string },
  progress: Pick<Progress, 'update' | 'done'>,
): string {
  const { name, size, tinyDir } = options;
  const dir = modelDir(options.modelsDir, name, size);
  if (existsSync(join(dir, 'config.json'))) return dir;
  mkdirSync(dir, { recursive: true });
  const spec = modelSpec(name, size);
  const file = join(dir, 'model.safetensors');
  const partial = `${file}.${process.pid}.part`;
  try {
    writeWeights(partial, spec, progress);
    renameSync(partial, file);
  } finally {
    rmSync(partial, { force: true });
  }
  for (const copied of COPIED) copyFileSync(join(tinyDir, copied), join(dir, copied));
  const tokenizer = readFileSync(join(tinyDir, 'tokenizer.json'), 'utf8');
  writeFileSync(join(dir, 'tokenizer.json'), extendTokenizer(tokenizer, spec.text.vocab_size));
  // Last, since its presence says that the folder is whole.
  writeFileSync(join(dir, 'config.json'), `${JSON.stringify(spec.config, null, 2)}\n`);
  return dir;
}

function writeWeights(path: string, spec: ModelSpec, progress: Pick<Progress, 'update' | 'done'>): void {
  const total = spec.tensors.reduce((sum, plan) => sum + byteLength(plan), 0);
  const label = `${spec.name}: writing ${(total / 1e9).toFixed(1)} GB of random weights`;
  const fd = openSync(path, 'w');
  try {
    writeSync(fd, safetensorsHeader(spec.tensors));
    let written = 0;
    for (const plan of spec.tensors) {
      for (const bytes of tensorBytes(plan)) {
        writeAll(fd, bytes);
        written += bytes.length;
        progress.update(label, written / total);
      }
    }
  } finally {
    closeSync(fd);
  }
  progress.done(`${spec.name}: wrote ${(total / 1e9).toFixed(1)} GB of random weights`);
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
}

function count(plan: TensorPlan): number {
  return plan.shape.reduce((product, size) => product * size, 1);
}

function byteLength(plan: TensorPlan): number {
  return count(plan) * (plan.dtype === 'F32' ? 4 : 2);
}

/** Length and JSON of a safetensors header, padded so that the data starts at a multiple of 64. */
export function safetensorsHeader(tensors: readonly TensorPlan[]): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const plan of tensors) {
    header[plan.name] = { dtype: plan.dtype, shape: plan.shape, data_offsets: [end, (end += byteLength(plan))] };
  }
  const json = JSON.stringify(header);
  const padded = json.padEnd(Math.ceil((json.length + 8) / 64) * 64 - 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, Buffer.from(padded)]);
}

/** Contents of a tensor, in pieces of at most 16 MiB. A piece is valid until the next one is asked for. */
export function* tensorBytes(plan: TensorPlan): Generator<Uint8Array> {
  const state = seedOf(plan.name);
  const values = count(plan);
  if (plan.dtype === 'F32') {
    const words = new Uint32Array(values);
    fillWords(state, words);
    yield new Uint8Array(wordsToF32(words, plan.mean, plan.deviation).buffer);
    return;
  }
  const table = bf16Table(plan.mean, plan.deviation);
  const total = Math.ceil(values / 2);
  const chunk = new Uint32Array(Math.min(total, CHUNK_WORDS));
  for (let at = 0; at < total; at += chunk.length) {
    const words = chunk.subarray(0, Math.min(chunk.length, total - at));
    fillWords(state, words);
    wordsToBf16(words, table);
    yield new Uint8Array(words.buffer, 0, Math.min(words.length * 4, (values - at * 2) * 2));
  }
}
