import { join } from 'node:path';
import { ensureGguf, type GgufFormat } from '../gguf/convert.ts';
import type { Progress } from '../progress.ts';
import type { BenchOptions } from '../suite.ts';
import { ensureModel } from './generate.ts';
import { modelSpec, type ModelName, type ModelSpec } from './specs.ts';

/** The peer's format that a weight format of ours is compared with. */
export const PEER_FORMATS: Record<string, GgufFormat> = { bf16: 'BF16', fp8: 'Q8_0', q8: 'Q8_0', q4: 'Q4_0' };

/** The weight formats that are held against the peer. */
export const CONTEST_WEIGHTS = ['bf16', 'q8', 'q4'];

/** A bench model on disk. */
export interface ModelFiles {
  spec: ModelSpec;
  dir: string;
}

/** The checkpoint of a model, written if need be. */
export function modelFiles(options: BenchOptions, name: ModelName, progress: Progress): ModelFiles {
  const { modelsDir, size, root } = options;
  const dir = ensureModel({ modelsDir, name, size, tinyDir: join(root, 'models', 'tiny') }, progress);
  return { spec: modelSpec(name, size), dir };
}

/** Path of the peer's file for a weight format, written if need be; null where the peer has no such format. */
export function peerFile({ spec, dir }: ModelFiles, weights: string, progress: Progress): string | null {
  const format = PEER_FORMATS[weights];
  return format === undefined ? null : ensureGguf(dir, spec, format, progress);
}

/** All files that the options need. */
export function ensureModels(options: BenchOptions, progress: Progress): void {
  for (const name of options.models) {
    const files = modelFiles(options, name, progress);
    progress.done(files.dir);
    if (options.peer) for (const weights of options.weights ?? CONTEST_WEIGHTS) peerFile(files, weights, progress);
  }
}
