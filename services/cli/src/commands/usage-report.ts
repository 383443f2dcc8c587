import { addUsage, HOUR_MS, noUsage, type UsageCounts, type UsageRow } from '@guildhall/common';
import { table } from './key-report.ts';

/** What lines of a report may be told apart by. Hours and days are those of UTC. */
export const USAGE_PARTS = ['tenant', 'key', 'hour', 'day'] as const;
export type UsagePart = (typeof USAGE_PARTS)[number];

type Names = Partial<Record<UsagePart, string>>;

/** What was used under one name. */
export type UsageLine = UsageCounts & Names;

/** Order of the columns. */
const NAMES = ['day', 'hour', 'tenant', 'key'] as const;

/** Adds rows up by what they are to be told apart by: in the order of time, then by output, the largest first. */
export function groupUsage(rows: readonly UsageRow[], by: readonly UsagePart[]): UsageLine[] {
  const lines = new Map<string, UsageLine>();
  for (const row of rows) {
    const names = namesOf(row, by);
    const id = JSON.stringify(names);
    const line = lines.get(id) ?? { ...names, ...noUsage() };
    addUsage(line, row);
    lines.set(id, line);
  }
  const time = ({ day = '', hour = '' }: UsageLine): string => day + hour;
  return [...lines.values()].toSorted((a, b) => time(a).localeCompare(time(b)) || b.outputTokens - a.outputTokens);
}

function namesOf({ hour, tenant, keyId }: UsageRow, by: readonly UsagePart[]): Names {
  const time = new Date(hour * HOUR_MS).toISOString();
  return {
    ...(by.includes('day') ? { day: time.slice(0, 10) } : {}),
    ...(by.includes('hour') ? { hour: time } : {}),
    ...(by.includes('tenant') || by.includes('key') ? { tenant } : {}),
    ...(by.includes('key') ? { key: keyId } : {}),
  };
}

/** A line as `--json` and `--csv` have it. */
function fieldsOf(line: UsageLine): Record<string, string | number> {
  return {
    ...Object.fromEntries(NAMES.flatMap((name) => (line[name] === undefined ? [] : [[name, line[name]]]))),
    requests: line.requests,
    input_tokens: line.inputTokens,
    input_cached_tokens: line.cachedTokens,
    output_tokens: line.outputTokens,
    reasoning_tokens: line.reasoningTokens,
    expert_ms: line.expertMicros / 1000,
  };
}

/** One JSON object per line. */
export function usageJson(lines: readonly UsageLine[]): string[] {
  return lines.map((line) => JSON.stringify(fieldsOf(line)));
}

/** Lines of RFC 4180 with a header, which is there without any line as well. */
export function usageCsv(lines: readonly UsageLine[], by: readonly UsagePart[]): string[] {
  const head = Object.keys(
    fieldsOf({ ...namesOf({ hour: 0, tenant: '', keyId: '', ...noUsage() }, by), ...noUsage() }),
  );
  return [head.join(','), ...lines.map((line) => Object.values(fieldsOf(line)).map(csvCell).join(','))].map(
    (text) => `${text}\r`,
  );
}

function csvCell(value: string | number): string {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A table for people. */
export function usageTable(lines: readonly UsageLine[]): string[] {
  const names = NAMES.filter((name) => lines[0]?.[name] !== undefined);
  const counts = ['REQUESTS', 'INPUT', 'CACHED', 'OUTPUT', 'REASONING', 'EXPERT MS'];
  const rows = lines.map((line) => [
    ...names.map((name) => (line[name] === '' ? '-' : (line[name] ?? ''))),
    ...[line.requests, line.inputTokens, line.cachedTokens, line.outputTokens, line.reasoningTokens].map(String),
    String(Math.round(line.expertMicros / 1000)),
  ]);
  return table([[...names.map((name) => name.toUpperCase()), ...counts], ...rows]);
}
