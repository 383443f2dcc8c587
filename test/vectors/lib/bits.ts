import type { RuntimeOptions, WeightFormat } from '@guildhall/native';
import { assertSameBits } from './compare.ts';
import type { ModelRunner } from './model-runner.ts';

/** What determines a numerics class. */
export interface NumericsChoice {
  name: string;
  weights: WeightFormat;
  bf16Kernels: RuntimeOptions['bf16Kernels'];
}

/** The kernel families; `auto` is bf16-dot where the CPU has it. */
export const FAMILIES: readonly NumericsChoice[] = [
  { name: 'f32-fma', weights: 'f32', bf16Kernels: 'auto' },
  { name: 'bf16-fma', weights: 'bf16', bf16Kernels: 'bf16-fma' },
  { name: 'bf16 auto', weights: 'bf16', bf16Kernels: 'auto' },
  { name: 'fp8 auto', weights: 'fp8', bf16Kernels: 'auto' },
  { name: 'q8', weights: 'q8', bf16Kernels: 'auto' },
  { name: 'q4', weights: 'q4', bf16Kernels: 'auto' },
];

/** What a prompt gave: logits at its positions, and the state after it. */
export interface PromptResult {
  logits: Float32Array[];
  state: Buffer;
}

/** Runs one prompt alone, in pieces that end at `cuts`. */
export async function runAlone(
  runner: ModelRunner,
  ids: Int32Array,
  positions: Int32Array,
  cuts: readonly number[] = [],
): Promise<PromptResult> {
  const sequence = runner.begin(ids.length);
  const logits = await runner.prefill(sequence, ids, positions, cuts);
  const state = await runner.stateBytes(sequence);
  runner.end(sequence);
  return { logits, state };
}

/** Asserts equality bit for bit of logits and states. */
export function assertSameResult(actual: PromptResult, expected: PromptResult, what: string): void {
  for (const [i, row] of expected.logits.entries()) {
    assertSameBits(actual.logits[i] as Float32Array, row, `${what}: logits ${i}`);
  }
  if (!actual.state.equals(expected.state)) throw new Error(`${what}: states differ`);
}
