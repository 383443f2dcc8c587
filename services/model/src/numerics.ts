import type { CombineMode, KernelFamily, KvFormat, KvKernel, RowFormat, WeightFormat } from '@guildhall/native';

/**
 * Version of the arithmetic of each kernel family. It goes up with every change that can change a bit of any output;
 * processes of different versions then refuse each other.
 */
export const KERNEL_VERSIONS: Record<KernelFamily, number> = {
  'f32-fma': 1,
  'bf16-fma': 1,
  'bf16-dot': 1,
  'fp8-fma': 1,
  'fp8-dot': 1,
  'q8-dot': 1,
  'q4-dot': 1,
};

/** Format in which a family multiplies activations. */
const ACTIVATIONS: Record<KernelFamily, string> = {
  'f32-fma': 'f32',
  'bf16-fma': 'f32',
  'bf16-dot': 'bf16',
  'fp8-fma': 'f32',
  'fp8-dot': 'bf16',
  'q8-dot': 'int8',
  'q4-dot': 'int8',
};

/** Formats that weights can be kept and multiplied in. */
export const WEIGHT_FORMATS = ['f32', 'bf16', 'fp8', 'q8', 'q4'] as const satisfies readonly WeightFormat[];

/** Version of the arithmetic of each kernel of attention. */
export const KV_KERNEL_VERSIONS: Record<KvKernel, number> = { fma: 1, dot: 1 };

/** What `--kv-dtype` may say; auto follows the weights. */
export const KV_DTYPES = ['auto', 'f32', 'bf16', 'fp8'] as const satisfies readonly ('auto' | KvFormat)[];
export type KvDtype = (typeof KV_DTYPES)[number];

/** What a numerics class consists of. */
export interface NumericsClass {
  kernelFamily: KernelFamily;
  weights: WeightFormat;
  rowFormat: RowFormat;
  kvFormat: KvFormat;
  kvKernel: KvKernel;
  combine: CombineMode;
}

/** Format of dispatched rows under a weight format. */
export function rowFormatOf(weights: WeightFormat): RowFormat {
  return weights === 'f32' ? 'f32' : 'bf16';
}

/** Format of KV pages: what is asked for, by default f32 under f32 weights and bf16 under all others. */
export function kvFormatOf(weights: WeightFormat, kvDtype: KvDtype): KvFormat {
  if (kvDtype !== 'auto') return kvDtype;
  return weights === 'f32' ? 'f32' : 'bf16';
}

/**
 * Name of the class within which the same tokens give the same bits, for instance
 * `bf16-dot-v1/bf16/act-bf16/row-bf16/kv-bf16-dot-v1/exact`. The instruction set is not part of it: every path of a family
 * gives the same bits.
 */
export function numericsId(numerics: NumericsClass): string {
  const { kernelFamily, weights, rowFormat, kvFormat, kvKernel, combine } = numerics;
  const family = `${kernelFamily}-v${KERNEL_VERSIONS[kernelFamily]}`;
  const kv = `${kvFormat}-${kvKernel}-v${KV_KERNEL_VERSIONS[kvKernel]}`;
  return `${family}/${weights}/act-${ACTIVATIONS[kernelFamily]}/row-${rowFormat}/kv-${kv}/${combine}`;
}
