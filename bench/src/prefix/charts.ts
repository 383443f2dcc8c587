import { type Bar, type BarChart, renderBarChart } from '../charts/bar-chart.ts';
import type { BenchRow } from '../report.ts';
import type { BenchContext } from '../suite.ts';

/** How a row's last part is called in a picture. */
const LABELS: Record<string, string> = {
  cold: 'computed',
  hit: 'same router',
  'http-hit': 'by HTTP',
  pull: 'other router',
  host: 'host memory',
  disk: 'disk',
  off: 'no cache',
  one: 'one router',
  'round-robin': 'two, in turn',
  'kv-aware': 'two, KV-aware',
};

function subtitle({ machine, options }: Pick<BenchContext, 'machine' | 'options'>): string {
  const size = options.size === 'small' ? '; small sizes, whose figures mean nothing' : '';
  return `${machine.cpu}, ${machine.cores} cores, ${machine.threads} threads${size}`;
}

function barsOf(rows: readonly BenchRow[], pattern: RegExp): Bar[] {
  return rows.flatMap(({ name, value }) => {
    const { series, what } = pattern.exec(name)?.groups ?? {};
    if (series === undefined || what === undefined || value === null) return [];
    return [{ category: LABELS[what] ?? what, series, value }];
  });
}

/** First tokens of shared prefixes, and what a trace got, as far as there are rows for them. */
export function chartsOf(
  rows: readonly BenchRow[],
  context: Pick<BenchContext, 'machine' | 'options'>,
): Map<string, BarChart> {
  const charts = new Map<string, BarChart>();
  const first = barsOf(rows, /^prefix\/(?<series>.+)\/ttft\/(?<what>[^/]+)$/).filter(({ value }) => value > 0);
  if (first.length > 0) {
    charts.set('ttft.png', {
      title: 'Time to the first token of a shared prefix',
      subtitle: subtitle(context),
      y: { title: 'milliseconds', scale: 'log10' },
      bars: first,
    });
  }
  const goodput = [
    ...barsOf(rows, /^prefix\/(?<series>.+)\/trace\/(?<what>[^/]+)\/goodput$/).map((bar) => as(bar, 'within targets')),
    ...barsOf(rows, /^prefix\/(?<series>.+)\/trace\/(?<what>[^/]+)\/output$/).map((bar) => as(bar, 'all')),
  ];
  if (goodput.length > 0) {
    charts.set('goodput.png', {
      title: 'Answers to a trace of many users',
      subtitle: subtitle(context),
      y: { title: 'tokens per second', scale: 'linear' },
      bars: goodput,
    });
  }
  return charts;
}

function as(bar: Bar, what: string): Bar {
  return { ...bar, series: `${bar.series}, ${what}` };
}

/** Puts the pictures beside the report. */
export async function attachCharts(context: BenchContext): Promise<void> {
  for (const [name, chart] of chartsOf(context.rows(), context)) context.attach(name, await renderBarChart(chart));
}
