import { Command, Option } from 'commander';
import { addUsage, fail, HOUR_MS, noUsage, systemClock, type UsageCounts, type UsageRow } from '@guildhall/common';
import { type AccountFlags, addAccountOptions, withAccounts } from '../stack/account-target.ts';
import { since } from './events.ts';
import { table } from './key-report.ts';

const GROUPS = ['tenant', 'key', 'hour', 'none'] as const;
type Group = (typeof GROUPS)[number];

interface UsageFlags extends AccountFlags {
  since: number;
  until?: number;
  key?: string;
  tenant?: string;
  by: Group;
  json: boolean;
}

/** What was used under one name. */
interface UsageLine extends UsageCounts {
  tenant?: string;
  key?: string;
  hour?: string;
}

/** `guildhall usage`: what keys and tenants have used. */
export function usageCommand(): Command {
  const command = new Command('usage').description(
    'show what keys and tenants have used: requests, tokens, expert time',
  );
  return addAccountOptions(command)
    .option('--since <time>', 'from this hour on: 90m, 12h, 7d ago, or 2027-01-31T12:00:00Z (default: 24h)', since)
    .option('--until <time>', 'before this hour, written in the same way (default: with the running one)', since)
    .option('--key <id>', 'only this key')
    .option('--tenant <name>', 'only this tenant')
    .addOption(new Option('--by <what>', 'one line for each').choices(GROUPS).default('key'))
    .option('--json', 'print one JSON object per line', false)
    .action(async (flags: UsageFlags) => {
      const [from, to] = range(flags);
      const rows = await withAccounts(flags, (accounts) => accounts.usage.read(from, to));
      const lines = groupUsage(
        rows.filter((row) => isWanted(row, flags)),
        flags.by,
      );
      if (flags.json) for (const line of lines) process.stdout.write(`${JSON.stringify(asJson(line))}\n`);
      else if (lines.length === 0) process.stderr.write('nothing was used\n');
      else for (const text of asTable(lines)) process.stdout.write(`${text}\n`);
    });
}

/** Hours since the Unix epoch: from the first to the one before the last. */
function range({ since: fromMs, until }: UsageFlags): [number, number] {
  const nowMs = systemClock.nowMs();
  const from = Math.floor((fromMs ?? nowMs - 24 * HOUR_MS) / HOUR_MS);
  const to = until === undefined ? Math.floor(nowMs / HOUR_MS) + 1 : Math.ceil(until / HOUR_MS);
  if (from < to) return [from, to];
  throw fail('config_invalid', '--since: must be before --until');
}

function isWanted(row: UsageRow, { key, tenant }: UsageFlags): boolean {
  return (key === undefined || row.keyId === key) && (tenant === undefined || row.tenant === tenant);
}

/** Adds rows up by what they are to be told apart by; the hours in order, others by their output, the largest first. */
export function groupUsage(rows: readonly UsageRow[], by: Group): UsageLine[] {
  const lines = new Map<string, UsageLine>();
  for (const row of rows) {
    const name = nameOf(row, by);
    const id = JSON.stringify(name);
    const line = lines.get(id) ?? { ...name, ...noUsage() };
    addUsage(line, row);
    lines.set(id, line);
  }
  const all = [...lines.values()];
  if (by === 'hour') return all.toSorted((a, b) => (a.hour ?? '').localeCompare(b.hour ?? ''));
  return all.toSorted((a, b) => b.outputTokens - a.outputTokens);
}

function nameOf(row: UsageRow, by: Group): Pick<UsageLine, 'tenant' | 'key' | 'hour'> {
  if (by === 'tenant') return { tenant: row.tenant };
  if (by === 'key') return { tenant: row.tenant, key: row.keyId };
  return by === 'hour' ? { hour: new Date(row.hour * HOUR_MS).toISOString() } : {};
}

function asJson({ tenant, key, hour, ...counts }: UsageLine): Record<string, unknown> {
  return {
    ...(hour === undefined ? {} : { hour }),
    ...(tenant === undefined ? {} : { tenant }),
    ...(key === undefined ? {} : { key }),
    requests: counts.requests,
    input_tokens: counts.inputTokens,
    input_cached_tokens: counts.cachedTokens,
    output_tokens: counts.outputTokens,
    reasoning_tokens: counts.reasoningTokens,
    expert_ms: counts.expertMicros / 1000,
  };
}

function asTable(lines: readonly UsageLine[]): string[] {
  const names = (['hour', 'tenant', 'key'] as const).filter((name) => lines[0]?.[name] !== undefined);
  const head = [
    ...names.map((name) => name.toUpperCase()),
    'REQUESTS',
    'INPUT',
    'CACHED',
    'OUTPUT',
    'REASONING',
    'EXPERT MS',
  ];
  const rows = lines.map((line) => [
    ...names.map((name) => (line[name] === '' ? '-' : (line[name] ?? ''))),
    ...[line.requests, line.inputTokens, line.cachedTokens, line.outputTokens, line.reasoningTokens].map(String),
    String(Math.round(line.expertMicros / 1000)),
  ]);
  return table([head, ...rows]);
}
