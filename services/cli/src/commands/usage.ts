import { Command } from 'commander';
import { fail, HOUR_MS, systemClock, type UsageRow } from '@guildhall/common';
import { type AccountFlags, addAccountOptions, withAccounts } from '../stack/account-target.ts';
import { since } from './events.ts';
import { groupUsage, USAGE_PARTS, usageCsv, usageJson, type UsagePart, usageTable } from './usage-report.ts';

interface UsageFlags extends AccountFlags {
  since: number;
  until?: number;
  key?: string;
  tenant?: string;
  by: UsagePart[];
  json: boolean;
  csv: boolean;
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
    .option('--by <what>', `one line for each of ${USAGE_PARTS.join(', ')}, several with commas, or none`, parts, [
      'key',
    ])
    .option('--json', 'print one JSON object per line', false)
    .option('--csv', 'print comma-separated values with a header', false)
    .action(async (flags: UsageFlags) => {
      if (flags.json && flags.csv) throw fail('config_invalid', '--json and --csv exclude each other');
      const [from, to] = range(flags);
      const rows = await withAccounts(flags, (accounts) => accounts.usage.read(from, to));
      const lines = groupUsage(
        rows.filter((row) => isWanted(row, flags)),
        flags.by,
      );
      if (flags.json) print(usageJson(lines));
      else if (flags.csv) print(usageCsv(lines, flags.by));
      else if (lines.length === 0) process.stderr.write('nothing was used\n');
      else print(usageTable(lines));
    });
}

function print(lines: readonly string[]): void {
  for (const line of lines) process.stdout.write(`${line}\n`);
}

/** Reads `--by`. Throws `config_invalid`. */
function parts(value: string): UsagePart[] {
  if (value === 'none') return [];
  return value.split(',').map((name) => {
    const part = USAGE_PARTS.find((one) => one === name);
    if (part !== undefined) return part;
    throw fail('config_invalid', `--by: '${name}' is none of ${USAGE_PARTS.join(', ')} and none`);
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
