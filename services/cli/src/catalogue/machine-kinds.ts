import type { WeightFormat } from '@guildhall/native';

/** What computes in a machine. */
export type Accelerator = 'cuda' | 'none';

/** A kind of machine by its data sheet. Rates are peaks; what is reached of them stands in `REACHED`. */
export interface MachineKind {
  name: string;
  accelerator: Accelerator;
  /** Memory that holds weights and pages: of one card, or of the machine. */
  memoryBytes: number;
  bytesPerSecond: number;
  /** Dense operations a second in BF16. */
  flopsPerSecond: number;
  /** Cores of the host for each card, or of the machine. */
  cores: number;
  /** Where the figures come from. */
  source: string;
}

const GB = 1e9;
const TB = 1e12;
const TERA = 1e12;

/** Data sheets. Cards count alone: a server with eight of them is eight of these with an eighth of its network each. */
export const MACHINE_KINDS: readonly MachineKind[] = [
  {
    name: 'h100',
    accelerator: 'cuda',
    memoryBytes: 80 * GB,
    bytesPerSecond: 3.35 * TB,
    flopsPerSecond: 989 * TERA,
    cores: 16,
    source: 'NVIDIA H100 data sheet, SXM5: 80 GB HBM3, 3.35 TB/s, 989 TFLOPS BF16 dense',
  },
  {
    name: 'h200',
    accelerator: 'cuda',
    memoryBytes: 141 * GB,
    bytesPerSecond: 4.8 * TB,
    flopsPerSecond: 989 * TERA,
    cores: 16,
    source: 'NVIDIA H200 data sheet, SXM: 141 GB HBM3e, 4.8 TB/s, 989 TFLOPS BF16 dense',
  },
  {
    name: 'b200',
    accelerator: 'cuda',
    memoryBytes: 180 * GB,
    bytesPerSecond: 8 * TB,
    flopsPerSecond: 2250 * TERA,
    cores: 16,
    source: 'NVIDIA HGX B200 data sheet, one of eight: 180 GB HBM3e, 8 TB/s, 2,250 TFLOPS BF16 dense',
  },
  {
    name: 'a100',
    accelerator: 'cuda',
    memoryBytes: 80 * GB,
    bytesPerSecond: 2.039 * TB,
    flopsPerSecond: 312 * TERA,
    cores: 16,
    source: 'NVIDIA A100 data sheet, SXM 80 GB: 2,039 GB/s, 312 TFLOPS BF16 dense',
  },
  {
    name: 'l40s',
    accelerator: 'cuda',
    memoryBytes: 48 * GB,
    bytesPerSecond: 864 * GB,
    flopsPerSecond: 362 * TERA,
    cores: 16,
    source: 'NVIDIA L40S data sheet: 48 GB GDDR6, 864 GB/s, 362 TFLOPS BF16 dense',
  },
  {
    name: 'l4',
    accelerator: 'cuda',
    memoryBytes: 24 * GB,
    bytesPerSecond: 300 * GB,
    flopsPerSecond: 121 * TERA,
    cores: 8,
    source: 'NVIDIA L4 data sheet: 24 GB GDDR6, 300 GB/s, 121 TFLOPS BF16 dense',
  },
  {
    name: 'cpu-12ch',
    accelerator: 'none',
    memoryBytes: 384 * GB,
    bytesPerSecond: 460.8 * GB,
    flopsPerSecond: 6.4 * TERA,
    cores: 64,
    source: 'AMD EPYC 9554 product page: 12 channels of DDR5-4800, 64 cores; 100 GFLOPS of AVX-512 BF16 a core assumed',
  },
  {
    name: 'cpu-8ch',
    accelerator: 'none',
    memoryBytes: 256 * GB,
    bytesPerSecond: 307.2 * GB,
    flopsPerSecond: 3.2 * TERA,
    cores: 32,
    source:
      'Intel Xeon, 4th generation: 8 channels of DDR5-4800; 32 cores with 100 GFLOPS of AVX-512 BF16 each assumed',
  },
  {
    name: 'laptop',
    accelerator: 'none',
    memoryBytes: 32 * GB,
    bytesPerSecond: 89.6 * GB,
    flopsPerSecond: 0.4 * TERA,
    cores: 8,
    source: 'two channels of DDR5-5600; 8 cores with 50 GFLOPS of AVX2 each assumed',
  },
];

/** Part of the peaks that is reached: 2.5 of an H100's 3.35 TB/s and 400 of its 989 TFLOPS. Assumed for cards. */
export const REACHED: Readonly<Record<Accelerator, { bandwidth: number; flops: number }>> = {
  cuda: { bandwidth: 0.75, flops: 0.4 },
  // bench/results/*-kernels.md: products of one row read at the speed of memory, those of 512 rows reach 70 to 90 %.
  none: { bandwidth: 0.75, flops: 0.75 },
};

/**
 * Operations a second of the formats relative to BF16. CPU: rates of 512 rows in bench/results/*-kernels.md (850, 730,
 * 1,330 and 1,180 giga-operations a second), F32 by the width of its lanes. Cards: weights are widened to BF16.
 */
export const FORMAT_SPEED: Readonly<Record<Accelerator, Readonly<Record<WeightFormat, number>>>> = {
  cuda: { f32: 0.5, bf16: 1, fp8: 1, q8: 1, q4: 1 },
  none: { f32: 0.5, bf16: 1, fp8: 0.86, q8: 1.56, q4: 1.39 },
};

/** A kind by its name. Null for a name that is none. */
export function machineKind(name: string): MachineKind | null {
  return MACHINE_KINDS.find((kind) => kind.name === name) ?? null;
}
