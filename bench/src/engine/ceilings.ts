import { makeRow } from '../report.ts';
import type { BenchContext } from '../suite.ts';

const PEAKS = [
  ['fma', 'GFLOP/s'],
  ['bf16', 'GFLOP/s'],
  ['vnni', 'GOP/s'],
] as const;

/** Rows of the machine's ceilings with one and with all threads. */
export function addCeilings({ options, bandwidth, wants, add, progress }: BenchContext): void {
  const counts = [...new Set([1, options.threads])];
  const repeat = (probe: () => number): number[] => Array.from({ length: options.runs }, probe);
  for (const threads of counts) {
    const name = `ceiling/read-${threads}`;
    if (!wants(name)) continue;
    progress.update(name, 0);
    add(makeRow({ name, unit: 'GB/s', values: repeat(() => bandwidth.read(threads)) }));
  }
  for (const [kind, unit] of PEAKS) {
    for (const threads of counts) {
      const name = `ceiling/${kind}-${threads}`;
      if (!wants(name) || bandwidth.peak(kind, 1) === null) continue;
      progress.update(name, 0);
      add(makeRow({ name, unit, values: repeat(() => bandwidth.peak(kind, threads) ?? NaN) }));
    }
  }
}
