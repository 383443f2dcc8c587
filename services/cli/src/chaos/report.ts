import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Machine, SCHEMA } from '@guildhall/bench';
import { benchHarness } from '../bench-harness.ts';
import { ROOT } from '../stack/state-dir.ts';
import { formatTable } from '../ui/table.ts';
import type { ChaosRow } from './measure.ts';

/** The envelope of the bench harness around rows of faults. */
export interface ChaosReport {
  schema: typeof SCHEMA;
  suite: 'chaos';
  machine: Machine;
  commit: string;
  /** Streams at a time, the seed of their requests, and how long faults last which end. */
  load: { streams: number; seed: number; seconds: number };
  rows: ChaosRow[];
}

/** Rows with what machine and commit they are of. */
export async function reportOf(rows: ChaosRow[], load: ChaosReport['load']): Promise<ChaosReport> {
  const { commitOf, machineOf, SCHEMA } = await benchHarness();
  return { schema: SCHEMA, suite: 'chaos', machine: machineOf(1), commit: commitOf(ROOT), load, rows };
}

/** True when no stream was dropped, no token was wrong, and every expert got its replicas back. */
export function isClean(row: ChaosRow): boolean {
  return row.streamsDropped === 0 && row.wrongTokens === 0 && row.recoveryMs !== null;
}

/** One line about a fault. */
export function lineOf(row: ChaosRow): string {
  const { fault, streams, streamsDropped, wrongTokens, longestPauseMs, recoveryMs, note } = row;
  const redundancy = recoveryMs === null ? 'no full redundancy' : `full redundancy after ${recoveryMs} ms`;
  const facts = `${streams} streams, ${streamsDropped} dropped, ${wrongTokens} wrong tokens, longest pause ${longestPauseMs} ms`;
  return `${fault}: ${streams === 0 ? 'not measured' : `${facts}, ${redundancy}`}${note === null ? '' : ` (${note})`}`;
}

const HEADINGS = [
  'fault',
  'streams',
  'dropped',
  'wrong tokens',
  'longest pause ms',
  'usual ms',
  'next token ms',
  'lasted ms',
  'recovery ms',
  'note',
];

function cells(row: ChaosRow): (string | number)[] {
  return [
    row.fault,
    row.streams,
    row.streamsDropped,
    row.wrongTokens,
    row.longestPauseMs,
    row.usualPauseMs,
    row.nextTokenMs,
    row.lastedMs,
    row.recoveryMs ?? '-',
    row.note ?? '',
  ];
}

/** The rows as an aligned table. */
export function tableOf(rows: readonly ChaosRow[]): string {
  return formatTable(HEADINGS, rows.map(cells));
}

/** The rows as a markdown table. */
export function markdownOf(rows: readonly ChaosRow[]): string {
  const lines = [HEADINGS, HEADINGS.map(() => '---'), ...rows.map(cells)];
  return `${lines.map((line) => `| ${line.join(' | ')} |`).join('\n')}\n`;
}

/** Writes a report as JSON, as a markdown table and, with its pauses, as a picture, under one name. */
export async function saveReport(report: ChaosReport, name: string): Promise<void> {
  const path = name.replace(/\.json$/, '');
  const { machine, load, commit } = report;
  const title = `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}, ${machine.node}; ${load.streams} streams, seed ${load.seed}; commit ${commit}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.json`, `${JSON.stringify(report, null, 1)}\n`);
  writeFileSync(`${path}.md`, `${title}\n\n${markdownOf(report.rows)}`);
  writeFileSync(`${path}.png`, await pausesPng(report));
}

/** The longest pause of each fault beside the usual one. Zeros of a logarithmic axis are drawn as one millisecond. */
async function pausesPng({ rows, machine, load }: ChaosReport): Promise<Buffer> {
  const { renderBarChart } = await benchHarness();
  const bar = (row: ChaosRow, series: string, value: number) => ({
    category: row.fault,
    series,
    value: Math.max(1, value),
  });
  return await renderBarChart({
    title: 'Longest pause between two tokens of a stream',
    subtitle: `${load.streams} streams, 4 workers, 2 replicas of each expert; ${machine.cpu}, ${machine.cores} cores`,
    width: 70 * Math.max(6, rows.length),
    y: { title: 'milliseconds', scale: 'log10' },
    slanted: true,
    bars: rows.flatMap((row) => [
      bar(row, 'before the fault', row.usualPauseMs),
      bar(row, 'from the fault on', row.longestPauseMs),
    ]),
  });
}
