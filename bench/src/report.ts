import type { WeightFormat } from '@guildhall/native';

export interface BenchOptions {
  model: string;
  threads: number;
  weights: WeightFormat;
  /** Repetitions of each measurement. */
  runs: number;
}

export interface Machine {
  cpu: string;
  cores: number;
  threads: number;
  node: string;
}

/** One figure: the median of several runs, with half the distance between the extremes as its relative spread. */
export interface BenchRow {
  name: string;
  value: number;
  unit: string;
  spread: number;
  /** What it was compared with in the same run, if anything. */
  peer: string | null;
  /** Oriented so that larger is better; null without a peer. */
  ratio: number | null;
}

/** Median and spread of repeated measurements. */
export function summarize(name: string, unit: string, values: number[]): BenchRow {
  const sorted = [...values].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const spread = median === 0 ? 0 : ((sorted.at(-1) ?? 0) - (sorted[0] ?? 0)) / 2 / median;
  return { name, value: median, unit, spread, peer: null, ratio: null };
}
