import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('..', import.meta.url));

/** Names of the random checkpoints, in the order of generate/configs.py. */
export const RANDOM_MODELS = [
  'q35-base',
  'q35-odd',
  'q35-equal',
  'q35-fp8',
  'q35-fp8-odd',
  'q3-next',
  'q3-moe',
] as const;
/** All models that have vectors: the random ones and the trained one. */
export const MODELS: readonly string[] = [...RANDOM_MODELS, 'tiny'];

/** Of those: the ones without DeltaNet layers. */
export const MODELS_WITHOUT_STATES: readonly string[] = ['q3-moe'];

/** Directory of a checkpoint. */
export function checkpointDir(name: string): string {
  return name === 'tiny' ? join(here, '../../models/tiny') : join(here, 'checkpoints', name);
}

/** Directory of a model's vectors. */
export function vectorsDir(name: string): string {
  return name === 'tiny' ? join(here, 'tiny') : join(here, 'models', name);
}

/** A file of the block vectors. */
export function blockFile(file: string): string {
  return join(here, 'blocks', file);
}

/** Parses a JSON file that the generator wrote. */
export function readJson<T>(...path: string[]): T {
  const file = join(...path);
  if (!existsSync(file)) throw new Error(`${file} is missing: see test/vectors/README.md`);
  return JSON.parse(readFileSync(file, 'utf8')) as T;
}

/** A file of the vectors around multi-token prediction. */
export function mtpFile(file: string): string {
  return join(here, 'mtp', file);
}
