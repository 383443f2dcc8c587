import { POINT_AXIS, pointValue } from '../points.ts';
import type { BenchServeResult } from '../result.ts';
import type { PointResult } from '../statistics/point-statistics.ts';
import type { Chart, ChartAxis, ChartSeries } from './chart.ts';
import { milliseconds, percent, short } from './format.ts';
import { cdfChart } from './load-charts.ts';
import { rampColour, RUN_COLOURS } from './style.ts';

/** Colour of a run among those that are compared. */
export function runColour(index: number): string {
  return RUN_COLOURS[index % RUN_COLOURS.length] as string;
}

type Value = (point: PointResult) => number | null;

function curve(run: BenchServeResult, index: number, name: string, value: Value, dashed: boolean): ChartSeries {
  const points = run.points
    .flatMap((point): [number, number][] => {
      const y = value(point);
      return y === null ? [] : [[pointValue(point.point), y]];
    })
    .toSorted(([a], [b]) => a - b);
  return { name, colour: runColour(index), mark: 'marked', points, dashed };
}

function curves(runs: readonly BenchServeResult[], values: Readonly<Record<string, Value>>): ChartSeries[] {
  return runs.flatMap((run, index) =>
    Object.entries(values).map(([suffix, value], at) => {
      const name = runs.length === 1 ? suffix : `${run.label} ${suffix}`.trim();
      return curve(run, index, name, value, at > 0);
    }),
  );
}

/** Latency, throughput and goodput over the loads of a sweep. */
export function sweepCharts(runs: readonly BenchServeResult[]): Chart[] {
  const kind = runs[0]?.points[0]?.point.kind ?? 'rate';
  const values = runs.flatMap(({ points }) => points.map(({ point }) => pointValue(point)));
  const wide = Math.max(...values) / Math.min(...values) > 8;
  const x: ChartAxis = { title: POINT_AXIS[kind], scale: wide ? 'log' : 'linear', format: short };
  const ms = { title: 'milliseconds', scale: 'log', format: milliseconds } as const;
  const slo = runs[0]?.slo ?? null;
  const bound = (value: number | undefined): Chart['limits'] =>
    value === undefined ? [] : [{ value, name: 'objective', axis: 'y' }];
  const charts: Chart[] = [
    {
      title: 'Time to first token',
      note: 'solid: median, dashed: 99th percentile',
      x,
      y: ms,
      series: curves(runs, { p50: ({ ttftMs }) => ttftMs.p50, p99: ({ ttftMs }) => ttftMs.p99 }),
      limits: bound(slo?.ttft) ?? [],
    },
    {
      title: 'Time per output token',
      note: 'solid: median, dashed: 99th percentile',
      x,
      y: ms,
      series: curves(runs, { p50: ({ tpotMs }) => tpotMs.p50, p99: ({ tpotMs }) => tpotMs.p99 }),
      limits: bound(slo?.tpot) ?? [],
    },
    {
      title: 'Throughput',
      x,
      y: { title: 'output tokens/s', scale: 'linear' },
      series: curves(runs, { '': (point) => point.outputTokensPerSecond }),
    },
    {
      title: 'Latency against throughput',
      note: 'each dot is a load; lower and further right is better',
      ...againstThroughput(runs),
    },
  ];
  if (slo !== null)
    charts.push(
      {
        title: 'Within the objectives',
        x,
        y: { title: 'share of requests', scale: 'linear', max: 1, format: percent },
        series: curves(runs, { '': ({ attainment }) => attainment }),
      },
      {
        title: 'Goodput',
        note: 'requests within the objectives, beside all that succeeded (dashed)',
        x,
        y: { title: 'requests/s', scale: 'linear' },
        series: curves(runs, {
          good: ({ goodputPerSecond }) => goodputPerSecond,
          all: ({ requestsPerSecond }) => requestsPerSecond,
        }),
      },
    );
  return runs.length === 1 ? [...charts, ...distributions(runs[0] as BenchServeResult)] : charts;
}

function againstThroughput(runs: readonly BenchServeResult[]): Pick<Chart, 'x' | 'y' | 'series'> {
  return {
    x: { title: 'output tokens/s', scale: 'linear' },
    y: { title: 'TPOT p50, milliseconds', scale: 'linear', format: milliseconds },
    series: runs.map((run, index) => ({
      name: run.label,
      colour: runColour(index),
      mark: 'marked',
      points: run.points.flatMap(({ outputTokensPerSecond, tpotMs }): [number, number][] =>
        tpotMs.p50 === null ? [] : [[outputTokensPerSecond, tpotMs.p50]],
      ),
    })),
  };
}

/** How the distributions move with the load. */
function distributions({ points, slo }: BenchServeResult): Chart[] {
  const shown = points.map((point, index) => ({ name: point.label, colour: rampColour(index, points.length), point }));
  return [
    cdfChart('Time to first token by load', 'ttftMs', shown, slo?.ttft),
    cdfChart('Time per output token by load', 'tpotMs', shown, slo?.tpot),
  ];
}
