import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LineChart } from '@guildhall/bench';
import { benchHarness } from '../bench-harness.ts';
import type { SweepRow } from './report.ts';

/** Charts of a sweep over worker counts, and of what faults did, by file name. */
export function chartsOf(rows: readonly SweepRow[], subtitle: string): Map<string, LineChart> {
  const charts = new Map<string, LineChart>();
  if (rows.length > 1) {
    charts.set(
      'rate',
      overWorkers(rows, subtitle, 'Generated tokens per second', 'tokens/s', 'log10', {
        'all routers': (row) => row.tokensPerSecond,
        'per router': (row) => row.tokensPerSecond / row.routers,
      }),
    );
    charts.set(
      'latency',
      overWorkers(rows, subtitle, 'Time between two tokens', 'milliseconds', 'linear', {
        p99: (row) => row.interTokenMs.p99,
        p50: (row) => row.interTokenMs.p50,
      }),
    );
    charts.set(
      'bytes',
      overWorkers(rows, subtitle, 'Bytes through routers’ cards', 'MB per token', 'linear', {
        'MB per token': (row) => row.routerBytesPerToken / 1e6,
      }),
    );
  }
  for (const { workers, recovery } of rows) {
    if (recovery === null) continue;
    const at = (ms: number): number => (ms - recovery.faultAtMs) / 1000;
    const x = { title: 'seconds from the fault', scale: 'linear' as const, fromZero: false };
    charts.set(`fault-${workers}-rate`, {
      title: `Tokens per second around a fault, ${workers} workers`,
      subtitle,
      x,
      y: { title: 'tokens/s', scale: 'linear' },
      series: [{ name: 'rate', points: recovery.series.map(({ atMs, tokensPerSecond: y }) => ({ x: at(atMs), y })) }],
    });
    charts.set(`fault-${workers}-gap`, {
      title: `Longest time between two tokens around a fault, ${workers} workers`,
      subtitle,
      x,
      y: { title: 'milliseconds', scale: 'linear' },
      series: [{ name: 'longest', points: recovery.series.map(({ atMs, longestGapMs: y }) => ({ x: at(atMs), y })) }],
    });
  }
  return charts;
}

function overWorkers(
  rows: readonly SweepRow[],
  subtitle: string,
  title: string,
  unit: string,
  scale: 'linear' | 'log10',
  of: Readonly<Record<string, (row: SweepRow) => number>>,
): LineChart {
  const series = Object.entries(of).map(([name, value]) => ({
    name,
    points: rows.map((row) => ({ x: row.workers, y: value(row) })).filter(({ y }) => Number.isFinite(y)),
  }));
  const ticks = rows.map(({ workers }) => workers);
  return { title, subtitle, x: { title: 'workers', scale: 'log2', ticks }, y: { title: unit, scale }, series };
}

/** Writes charts as PNG into a folder, which is made; returns the files' names. */
export async function writeCharts(
  charts: ReadonlyMap<string, LineChart>,
  folder: string,
  stem: string,
): Promise<string[]> {
  const { renderLineChart } = await benchHarness();
  mkdirSync(folder, { recursive: true });
  const names: string[] = [];
  for (const [name, chart] of charts) {
    const file = `${stem}-${name}.png`;
    writeFileSync(join(folder, file), await renderLineChart(chart));
    names.push(file);
  }
  return names;
}
