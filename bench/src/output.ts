import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchRow, Machine } from './report.ts';

export const SCHEMA = 1;

/** A whole report. */
export interface Report {
  schema: typeof SCHEMA;
  suite: string;
  machine: Machine;
  commit: string;
  rows: BenchRow[];
}

function number(value: number | null, unit = ''): string {
  if (value === null) return '-';
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}${unit}`;
}

function percent(value: number | null): string {
  return value === null ? '-' : `${(value * 100).toFixed(0)} %`;
}

function verdict(row: BenchRow): string {
  if (row.met === null) return '';
  if (!row.met) return 'no';
  const stretch = row.stretchMet === true ? ', stretch' : '';
  return row.metBy === 'limit' ? 'yes, by limit' : `yes${stretch}`;
}

const HEADINGS = ['row', 'value', 'unit', '±', 'peer', 'ratio', 'target', 'of limit', 'met', 'note'];

function cells(row: BenchRow): string[] {
  const target = row.target === null ? '' : `${number(row.target)}×`;
  const least = row.limitTarget === null ? '' : percent(row.limitTarget);
  return [
    row.name,
    number(row.value),
    row.unit,
    row.value === null ? '-' : percent(row.spread),
    number(row.peer),
    row.ratio === null ? '-' : `${row.ratio.toFixed(2)}×`,
    [target, least].filter((part) => part !== '').join(' or ') || '-',
    percent(row.limitShare),
    verdict(row),
    row.note ?? '',
  ];
}

/** The report as a markdown table under the machine's name. */
export function markdown(report: Report): string {
  const lines = [HEADINGS, HEADINGS.map(() => '---'), ...report.rows.map(cells)];
  return `${title(report)}\n\n${lines.map((line) => `| ${line.join(' | ')} |`).join('\n')}\n`;
}

/** The report as aligned text. */
export function text(report: Report): string {
  const lines = [HEADINGS, ...report.rows.map(cells)];
  const widths = HEADINGS.map((_, c) => Math.max(...lines.map((line) => line[c]?.length ?? 0)));
  const aligned = lines.map((line) =>
    line
      .map((cell, c) => (c === 0 || c === 2 || c >= 8 ? cell.padEnd(widths[c] ?? 0) : cell.padStart(widths[c] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  return `${title(report)}\n${aligned.join('\n')}\n`;
}

function title({ suite, machine, commit }: Report): string {
  const { cpu, cores, threads, memoryGiB, kernel, node } = machine;
  return `${suite}: ${cpu}, ${cores} cores, ${threads} threads, ${memoryGiB} GiB, Linux ${kernel}, ${node}, commit ${commit}`;
}

/** Keeps a report as JSON and markdown in a folder. @returns the path without extension. */
export function save(report: Report, folder: string, date: string): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${date}-${report.suite}`);
  writeFileSync(`${path}.json`, `${JSON.stringify(report, null, 1)}\n`);
  writeFileSync(`${path}.md`, markdown(report));
  return path;
}
