import type { ModelConfig } from '../config.ts';
import { describe } from '../json-file.ts';
import { expectedTensors, scaleName, scaleShape, type ExpectedTensor } from './expected.ts';
import type { ModelLayout } from './layout.ts';
import { tensorError, type TensorEntry } from './safetensors/header.ts';
import { listNames, type TensorLocation } from './tensor-table.ts';

const PLAIN_DTYPES = ['F32', 'BF16', 'F16'];
const SCALE_DTYPES = ['F32', 'BF16'];

/** What a check of all tensors against the config found. */
export interface Verification {
  /** Names that the router reads, scales included. */
  dense: string[];
  /** Names that holders of experts read, scales included. */
  experts: string[];
  /** Tensors that are set aside, in words. */
  notices: string[];
}

/**
 * Checks presence, shape and dtype of every tensor that the config asks for, and sorts the rest.
 * @throws checkpoint_invalid naming file, tensor, found and expected.
 */
export function verifyTensors(
  dir: string,
  tensors: ReadonlyMap<string, TensorLocation>,
  config: ModelConfig,
  layout: ModelLayout,
): Verification {
  const used: Record<'dense' | 'expert', string[]> = { dense: [], expert: [] };
  const known = new Set<string>();
  for (const expected of expectedTensors(config, layout)) {
    for (const name of verifyOne(dir, tensors, expected)) {
      known.add(name);
      used[expected.part].push(name);
    }
  }
  const rest = [...tensors.keys()].filter((name) => !known.has(name));
  return { dense: used.dense, experts: used.expert, notices: setAside(rest, layout) };
}

/** @returns the names that the weight consists of: itself and, for FP8, its scales. */
function verifyOne(dir: string, tensors: ReadonlyMap<string, TensorLocation>, expected: ExpectedTensor): string[] {
  const { name, shape, scalable } = expected;
  const found = tensors.get(name);
  if (found === undefined) throw tensorError(dir, name, `missing, expected shape ${describe(shape)}`);
  const file = found.file.path;
  expectShape(file, found.entry, shape);
  const { dtype } = found.entry;
  if (PLAIN_DTYPES.includes(dtype)) return [name];
  if (dtype !== 'F8_E4M3' || !scalable) {
    const allowed = scalable ? [...PLAIN_DTYPES, 'F8_E4M3 with block scales'] : PLAIN_DTYPES;
    throw tensorError(file, name, `found dtype ${dtype}, expected ${allowed.join(', ')}`);
  }
  const scale = tensors.get(scaleName(name));
  if (scale === undefined) {
    throw tensorError(file, name, `is F8_E4M3, expected its block scales in a tensor ${scaleName(name)}`);
  }
  expectShape(scale.file.path, scale.entry, scaleShape(shape));
  if (!SCALE_DTYPES.includes(scale.entry.dtype)) {
    const problem = `found dtype ${scale.entry.dtype}, expected ${SCALE_DTYPES.join(' or ')}`;
    throw tensorError(scale.file.path, scaleName(name), problem);
  }
  return [name, scaleName(name)];
}

function expectShape(file: string, entry: TensorEntry, shape: readonly number[]): void {
  const same = entry.shape.length === shape.length && entry.shape.every((size, i) => size === shape[i]);
  if (!same) throw tensorError(file, entry.name, `found shape ${describe(entry.shape)}, expected ${describe(shape)}`);
}

const MTP = /^(?:model\.|model\.language_model\.)?mtp\./;
const VISION = /^(?:model\.)?(?:visual|vision_tower|vision_model)\./;
const SEPARATE_EXPERT = /\.mlp\.experts\.\d+\./;

function setAside(names: string[], layout: ModelLayout): string[] {
  const mtp = names.filter((name) => MTP.test(name));
  const vision = names.filter((name) => VISION.test(name));
  const unknown = names.filter((name) => !MTP.test(name) && !VISION.test(name) && name !== 'lm_head.weight');
  const notices: string[] = [];
  if (mtp.length > 0) {
    const storage = mtp.some((name) => SEPARATE_EXPERT.test(name)) ? 'one tensor per expert' : 'fused experts';
    notices.push(`${mtp.length} multi-token-prediction tensors (${storage}) are set aside`);
  }
  if (vision.length > 0) notices.push(`${vision.length} vision tensors are set aside`);
  if (unknown.length > 0) notices.push(`${unknown.length} unknown tensors are ignored: ${listNames(unknown)}`);
  if (names.includes('lm_head.weight'))
    notices.push(`lm_head.weight is ignored: the head is tied to ${layout.embedding}`);
  return notices;
}
