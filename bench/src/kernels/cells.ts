/** What is measured of a kernel, and the ceiling that it is held against. */
export interface KernelCell {
  /** Name of the row. */
  name: string;
  kind: 'linear' | 'experts' | 'attention' | 'delta';
  /** Arguments of native/bench/kernels. */
  parameters: Record<string, string | number>;
  /** `read`: the kernel moves memory. Else the arithmetic peak of the units that it uses. */
  limit: 'read' | 'fma' | 'bf16' | 'vnni';
  /** Least share of the ceiling; null where only the figure is wanted. */
  target: number | null;
}

export const KERNEL_WEIGHTS = ['bf16', 'fp8', 'q8', 'q4'];

/** [outputs, inputs] of the hybrid bench model's matrices as the blocks pack them. */
const SHAPES: Record<string, [number, number]> = {
  'delta-in': [6176, 1024],
  'delta-out': [1024, 2048],
  'attention-in': [9216, 1024],
  'attention-out': [1024, 4096],
  head: [32000, 1024],
};

/** Least shares of the ceilings. */
const READ_TARGET = 0.85;
const PEAK_TARGET = 0.85;
const KV_TARGET = 0.7;

/** Units that multiply in a format. */
export function unitsOf(format: string): 'fma' | 'bf16' | 'vnni' {
  if (format === 'q8' || format === 'q4') return 'vnni';
  return format === 'f32' ? 'fma' : 'bf16';
}

/** All cells for some weight formats. */
export function kernelCells(formats: readonly string[]): KernelCell[] {
  return [...formats.flatMap(linearCells), ...formats.flatMap(expertCells), ...attentionCells(), ...deltaCells()];
}

function linearCells(format: string): KernelCell[] {
  const cells: KernelCell[] = [];
  for (const [shape, [n, k]] of Object.entries(SHAPES)) {
    const parameters = { format, n, k };
    const linear = (name: string, rows: number, limit: KernelCell['limit'], target: number | null): void => {
      const row = `${name}/${format}/${shape}-${n}x${k}`;
      cells.push({ name: row, kind: 'linear', parameters: { ...parameters, rows }, limit, target });
    };
    linear('gemv', 1, 'read', READ_TARGET);
    if (shape === 'delta-in' || shape === 'head') linear('gemm-16', 16, 'read', READ_TARGET);
    // Only bf16 has a target: quantised products are to be faster than it, not to reach the peak of bytes.
    if (shape !== 'head') linear('gemm-512', 512, unitsOf(format), format === 'bf16' ? PEAK_TARGET : null);
  }
  return cells;
}

function expertCells(format: string): KernelCell[] {
  const experts = (tokens: number, limit: KernelCell['limit'], target: number | null): KernelCell => ({
    name: `experts/${format}/tokens-${tokens}`,
    kind: 'experts',
    parameters: { format, hidden: 1024, width: 512, experts: 64, top: 8, tokens },
    limit,
    target,
  });
  return [
    experts(1, 'read', READ_TARGET),
    experts(32, 'read', READ_TARGET),
    experts(512, unitsOf(format), format === 'bf16' ? PEAK_TARGET : null),
  ];
}

function attentionCells(): KernelCell[] {
  const attention = (
    name: string,
    dim: number,
    batch: { rows: number; sequences: number; context: number },
  ): KernelCell => ({
    name: `attention/${name}`,
    kind: 'attention',
    parameters: { heads: 16, 'kv-heads': 2, 'head-dim': dim, ...batch },
    limit: batch.rows > 1 ? 'bf16' : 'read',
    target: batch.rows > 1 ? null : KV_TARGET,
  });
  const deep = { rows: 1, sequences: 1, context: 8192 };
  return [
    attention('hybrid-depth-8192', 256, deep),
    attention('twin-depth-8192', 128, deep),
    attention('hybrid-16-sequences-depth-1024', 256, { rows: 1, sequences: 16, context: 1024 }),
    attention('hybrid-prefill-512', 256, { rows: 512, sequences: 1, context: 0 }),
    attention('hybrid-prefill-512-depth-8192', 256, { rows: 512, sequences: 1, context: 8192 }),
  ];
}

function deltaCells(): KernelCell[] {
  const recurrent = (sequences: number): KernelCell => ({
    name: `delta/recurrent-${sequences}`,
    kind: 'delta',
    parameters: { rows: 1, sequences, mode: 'recurrent' },
    limit: 'read',
    target: null,
  });
  const chunked = { rows: 512, sequences: 1, mode: 'chunked' };
  return [
    recurrent(1),
    recurrent(16),
    recurrent(32),
    { name: 'delta/chunked-512', kind: 'delta', parameters: chunked, limit: 'fma', target: null },
  ];
}
