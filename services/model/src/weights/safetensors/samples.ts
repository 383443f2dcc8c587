const SAMPLES = 64;
/** Bytes of one sample of a checkpoint's fingerprint. */
export const SAMPLE_BYTES = 1024;

/** Where the samples of a file of `size` bytes begin. */
export function sampleOffsets(size: number): number[] {
  const last = Math.max(size - SAMPLE_BYTES, 0);
  const offsets = Array.from({ length: SAMPLES }, (_, i) => Math.floor((last * i) / (SAMPLES - 1)));
  return [...new Set(offsets)];
}
