import type { PointResult } from '../statistics/point-statistics.ts';
import type { Slo } from '../statistics/slo.ts';
import type { Chart, ChartSeries } from './chart.ts';
import { milliseconds, percent, short } from './format.ts';

/** One load of one run as the charts show it. */
export interface ShownPoint {
  name: string;
  colour: string;
  point: PointResult;
}

/** Buckets in which a median over time is drawn. */
const MEDIAN_BINS = 24;
const FEWEST_FOR_MEDIAN = 60;

type Times = 'ttftMs' | 'itlMs' | 'tpotMs' | 'e2eMs';

/** A cumulative distribution of each. */
export function cdfChart(title: string, times: Times, shown: readonly ShownPoint[], bound?: number): Chart {
  return {
    title,
    note: 'share of all values that are not larger',
    x: { title: 'milliseconds', scale: 'log', format: milliseconds },
    y: { title: 'share', scale: 'linear', max: 1, format: percent },
    series: shown.map(({ name, colour, point }) => ({ name, colour, mark: 'line', points: point[times].cdf })),
    limits: bound === undefined ? [] : [{ value: bound, name: 'objective', axis: 'x' }],
  };
}

/** The four distributions of a load. */
export function cdfCharts(shown: readonly ShownPoint[], slo: Slo | null): Chart[] {
  return [
    cdfChart('Time to first token', 'ttftMs', shown, slo?.ttft),
    cdfChart('Time per output token (TPOT)', 'tpotMs', shown, slo?.tpot),
    cdfChart('Between two pieces of an answer (ITL)', 'itlMs', shown, slo?.gap),
    cdfChart('Whole answer', 'e2eMs', shown, slo?.e2e),
  ];
}

const SECONDS = {
  title: 'seconds from the beginning',
  scale: 'linear',
  format: (value: number) => `${short(value)} s`,
} as const;

/** First tokens over time, as dots, with a median where there are many. */
export function ttftOverTime(shown: readonly ShownPoint[], slo: Slo | null): Chart {
  const dots = shown.map(({ name, colour, point }): ChartSeries => ({
    name,
    colour,
    mark: 'dots',
    points: point.samples.map(([atS, ttft]) => [atS, ttft]),
  }));
  const medians = shown.flatMap(({ name, colour, point }): ChartSeries[] => {
    const points = mediansOf(point.samples.map(([atS, ttft]) => [atS, ttft] as const));
    return points.length === 0 ? [] : [{ name: `${name}, median`, colour, mark: 'line', points }];
  });
  const limits = slo?.ttft === undefined ? [] : [{ value: slo.ttft, name: 'objective', axis: 'y' as const }];
  const y = { title: 'milliseconds', scale: 'log', format: milliseconds } as const;
  return {
    title: 'Time to first token over time',
    note: 'each dot is a request, at the time when it was due',
    x: SECONDS,
    y,
    series: [...dots, ...medians],
    limits,
  };
}

function mediansOf(points: readonly (readonly [number, number])[]): [number, number][] {
  if (points.length < FEWEST_FOR_MEDIAN) return [];
  const last = points.at(-1)?.[0] ?? 0;
  const width = last / MEDIAN_BINS || 1;
  const bins = Array.from({ length: MEDIAN_BINS }, (): number[] => []);
  for (const [x, y] of points) bins[Math.min(MEDIAN_BINS - 1, Math.floor(x / width))]?.push(y);
  return bins.flatMap((values, index): [number, number][] => {
    const middle = values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
    return middle === undefined ? [] : [[(index + 0.5) * width, middle]];
  });
}

/** A count per bin as a rate over time. */
function rate(point: PointResult, of: 'tokens' | 'finished' | 'failed', scale = 1): [number, number][] {
  const { widthS } = point.series;
  return point.series[of].map((count, index) => [(index + 0.5) * widthS, (count * scale) / widthS]);
}

/** Output tokens a second over time. Pieces are told apart in time; each counts for as many tokens as the mean one. */
export function tokensOverTime(shown: readonly ShownPoint[]): Chart {
  const mark = shown.length === 1 ? ('area' as const) : ('line' as const);
  return {
    title: 'Output tokens per second',
    x: SECONDS,
    y: { title: 'tokens/s', scale: 'linear' },
    series: shown.map(({ name, colour, point }) => ({
      name,
      colour,
      mark,
      points: rate(point, 'tokens', point.tokens.perChunk ?? 1),
    })),
  };
}

/** Requests under way over time, and what failed. */
export function inFlightOverTime(shown: readonly ShownPoint[]): Chart {
  const series = shown.flatMap(({ name, colour, point }): ChartSeries[] => {
    const { widthS, inFlight } = point.series;
    const level: ChartSeries = {
      name,
      colour,
      mark: 'steps',
      points: inFlight.map((count, index) => [index * widthS, count]),
    };
    if (point.requests.failed === 0) return [level];
    return [
      level,
      { name: `${name}, failed per second`, colour: 'var(--bad)', mark: 'line', points: rate(point, 'failed') },
    ];
  });
  return {
    title: 'Requests under way',
    note: 'the most at once within each span of time',
    x: SECONDS,
    y: { title: 'requests', scale: 'linear' },
    series,
  };
}

/** First tokens by length of the prompt. */
export function ttftByLength(shown: readonly ShownPoint[]): Chart {
  const series = shown.map(({ name, colour, point }): ChartSeries => ({
    name,
    colour,
    mark: 'dots',
    points: point.samples.map(([, ttft, , prompt]) => [prompt, ttft]),
  }));
  return {
    title: 'Time to first token by length of the prompt',
    x: { title: 'prompt tokens', scale: 'linear' },
    y: { title: 'milliseconds', scale: 'log', format: milliseconds },
    series,
  };
}
