import { readFileSync } from 'node:fs';
import { fail } from '@guildhall/common';
import type { BenchServeSettings } from './settings.ts';
import type { PointResult } from './statistics/point-statistics.ts';
import type { Slo } from './statistics/slo.ts';

/** What `--json` prints and `--save` keeps. */
export interface BenchServeResult {
  schema: 1;
  suite: 'bench-serve';
  label: string;
  startedAt: string;
  /** True when it was stopped before its limits. */
  partial: boolean;
  /** Version of the tool. */
  version: string;
  target: { url: string; api: string; model: string };
  workload: string;
  /** How lengths were made to fit the server's tokenizer. */
  tokensPerWord: { value: number; measured: boolean };
  settings: Omit<BenchServeSettings, 'headers' | 'url' | 'api' | 'model' | 'label' | 'extraBody'> & {
    extraBody: Record<string, unknown>;
  };
  slo: Slo | null;
  points: PointResult[];
}

/** Reads a file that `--save` wrote. Throws `config_invalid`. */
export function readResult(file: string): BenchServeResult {
  const field = '--compare';
  let value: Partial<BenchServeResult>;
  try {
    value = JSON.parse(readFileSync(file, 'utf8')) as Partial<BenchServeResult>;
  } catch {
    throw fail('config_invalid', `${field}: ${file} cannot be read as JSON`, { field });
  }
  if (value?.suite !== 'bench-serve' || value.schema !== 1 || !Array.isArray(value.points))
    throw fail('config_invalid', `${field}: ${file} is no result of \`guildhall bench serve --save\``, { field });
  return value as BenchServeResult;
}

/**
 * The highest load at which at least this share of the requests met the objectives, over a sweep; null without objectives or
 * where no point did.
 */
export function highestGoodPoint(points: readonly PointResult[], share: number): PointResult | null {
  const good = points.filter(({ attainment }) => attainment !== null && attainment >= share);
  return good.reduce<PointResult | null>(
    (best, each) => (best === null || each.requestsPerSecond > best.requestsPerSecond ? each : best),
    null,
  );
}
