import { formatTable } from '../ui/table.ts';
import { explainKind } from './client/errors.ts';
import { type BenchServeResult, highestGoodPoint } from './result.ts';
import type { DistributionSummary } from './statistics/distribution.ts';
import type { PointResult } from './statistics/point-statistics.ts';

/** Share of requests that must meet the objectives for a load to count as carried. */
export const CARRIED = 0.9;
/** A client that is later than this at p99 tells of itself, not of the server. */
const LATE_MS = 10;

function ms(value: number | null): string {
  return value === null ? '-' : value >= 1000 ? value.toFixed(0) : value.toFixed(value >= 100 ? 1 : 2);
}

function percent(value: number | null): string {
  return value === null ? '-' : `${(value * 100).toFixed(1)} %`;
}

/** One row for each point. */
function overview(points: readonly PointResult[]): string {
  const headings = [
    'load',
    'ok',
    'failed',
    'requests/s',
    'output tokens/s',
    'goodput/s',
    'within SLO',
    'TTFT p50',
    'p99',
    'TPOT p50',
    'p99',
    'ITL p99',
  ];
  const rows = points.map((point) => [
    point.label,
    point.requests.succeeded,
    point.requests.failed,
    point.requestsPerSecond.toFixed(2),
    point.outputTokensPerSecond.toFixed(1),
    point.goodputPerSecond?.toFixed(2) ?? '-',
    percent(point.attainment),
    ms(point.ttftMs.p50),
    ms(point.ttftMs.p99),
    ms(point.tpotMs.p50),
    ms(point.tpotMs.p99),
    ms(point.itlMs.p99),
  ]);
  return formatTable(headings, rows);
}

/** All percentiles of one point. */
function percentiles({ ttftMs, itlMs, tpotMs, e2eMs }: PointResult): string {
  const row = (name: string, d: DistributionSummary): string[] => [
    name,
    ...[d.mean, d.p50, d.p90, d.p95, d.p99, d.max].map(ms),
  ];
  return formatTable(
    ['milliseconds', 'mean', 'p50', 'p90', 'p95', 'p99', 'max'],
    [
      row('time to first token', ttftMs),
      row('between pieces (ITL)', itlMs),
      row('per output token (TPOT)', tpotMs),
      row('whole answer', e2eMs),
    ],
  );
}

function errorLines(points: readonly PointResult[]): string[] {
  return points.flatMap(({ label, errors }) =>
    errors.map(
      ({ kind, count, examples }) => `${label}: ${count} × ${kind}, ${explainKind(kind)}: ${examples[0] ?? ''}`,
    ),
  );
}

/** What a reader should know before believing the figures. */
export function caveats(result: BenchServeResult): string[] {
  const notes: string[] = [];
  if (result.partial) notes.push('stopped early: the last load was not measured to its end');
  if (!result.tokensPerWord.measured)
    notes.push(
      'the server gives no usage: one word counts as one token of a prompt, one piece of text as one of an answer',
    );
  const perChunk = Math.max(...result.points.map(({ tokens }) => tokens.perChunk ?? 1));
  if (perChunk > 1.2)
    notes.push(
      `up to ${perChunk.toFixed(1)} tokens come in a piece on average: ITL is between pieces, not between tokens`,
    );
  const late = Math.max(...result.points.map(({ lateMs }) => lateMs.p99 ?? 0));
  if (late > LATE_MS)
    notes.push(
      `this client sent requests up to ${ms(late)} ms late (p99), for want of CPU time or because of --max-in-flight; ` +
        'the wait is part of the times',
    );
  return notes;
}

/** A result for people. */
export function asText(result: BenchServeResult): string {
  const { target, points, slo } = result;
  const [only] = points;
  const best = points.length > 1 && slo !== null ? highestGoodPoint(points, CARRIED) : null;
  const bounds =
    slo === null
      ? ''
      : Object.entries(slo)
          .map(([key, value]) => `${key} ≤ ${value} ms`)
          .join(', ');
  return `${[
    `${target.model} at ${target.url} (${target.api}); ${result.workload}`,
    ...(slo === null ? [] : [`objectives: ${bounds}`]),
    '',
    overview(points),
    ...(points.length === 1 && only !== undefined ? ['', percentiles(only)] : []),
    ...(best === null ? [] : ['', `highest load with ${percent(CARRIED)} within the objectives: ${best.label}`]),
    ...errorLines(points).map((line) => `error: ${line}`),
    ...caveats(result).map((note) => `note: ${note}`),
  ].join('\n')}\n`;
}

/** Two or more results beside each other, point by point. */
export function comparisonText(results: readonly BenchServeResult[]): string {
  const [base] = results;
  const change = (value: number, of: number | undefined): string =>
    of === undefined || of === 0 ? '-' : `${value >= of ? '+' : ''}${((value / of - 1) * 100).toFixed(1)} %`;
  const rows = results.flatMap((result, index) =>
    result.points.map((point) => {
      const same = index === 0 ? undefined : base?.points.find(({ label }) => label === point.label);
      return [
        result.label,
        point.label,
        point.outputTokensPerSecond.toFixed(1),
        index === 0 ? '' : change(point.outputTokensPerSecond, same?.outputTokensPerSecond),
        ms(point.ttftMs.p50),
        index === 0 ? '' : change(point.ttftMs.p50 ?? 0, same?.ttftMs.p50 ?? undefined),
        ms(point.ttftMs.p99),
        ms(point.tpotMs.p50),
        index === 0 ? '' : change(point.tpotMs.p50 ?? 0, same?.tpotMs.p50 ?? undefined),
        percent(point.attainment),
        point.requests.failed,
      ];
    }),
  );
  const headings = [
    'run',
    'load',
    'output tokens/s',
    '',
    'TTFT p50',
    '',
    'TTFT p99',
    'TPOT p50',
    '',
    'within SLO',
    'failed',
  ];
  return `${formatTable(headings, rows)}\n`;
}
