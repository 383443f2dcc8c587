import { Command } from 'commander';
import { type Accounts, fail, type KeyRecord, type NewKey, systemClock, TENANT_NAME } from '@guildhall/common';
import { type AccountFlags, addAccountOptions, withAccounts } from '../stack/account-target.ts';
import { keyLines, keyJson } from './key-report.ts';
import { durationMs, limitValue, orNull, priorityValue } from './key-values.ts';

/** Flags of what a key may do; undefined for one that was not given. */
interface KeyFlags extends AccountFlags {
  name?: string;
  tenant?: string;
  requestsPerMinute?: number | 'none';
  tokensPerMinute?: number | 'none';
  concurrency?: number | 'none';
  priority?: number;
  priorityCap?: number | 'none';
  model?: string[];
  anyModel?: boolean;
  expires?: number | 'none';
  json: boolean;
}

/** `guildhall keys`: API keys, which are kept as hashes in the cluster's Redis. */
export function keysCommand(): Command {
  const command = new Command('keys').description('make, list, change and revoke API keys');
  command.addCommand(createCommand());
  command.addCommand(listCommand());
  command.addCommand(showCommand());
  command.addCommand(changeCommand());
  command.addCommand(revokeCommand());
  return command;
}

function addKeyOptions(command: Command): Command {
  const models = (value: string, all: string[] | undefined): string[] => [...(all ?? []), value];
  return addAccountOptions(command)
    .option('--name <text>', 'what it is for')
    .option(
      '--tenant <name>',
      'whose it is; keys of a tenant share its quotas and its turns (default: its own)',
      tenant,
    )
    .option('--requests-per-minute <n>', 'quota; none for no limit', limitValue)
    .option('--tokens-per-minute <n>', 'quota of prompts and answers together; none for no limit', limitValue)
    .option('--concurrency <n>', 'requests at a time; none for no limit', limitValue)
    .option('--priority <n>', 'of its requests, -100 to 100; smaller is more urgent', priorityValue)
    .option('--priority-cap <n>', 'the most urgent priority that its requests may ask for; none for none', capValue)
    .option('--model <name>', 'only this model; repeat for more', models)
    .option('--expires <when>', 'such as 12h, 30d, 2027-01-31T12:00:00Z or never', expiry);
}

function createCommand(): Command {
  return addKeyOptions(new Command('create').description('make a key; it is shown once and never again'))
    .option('--like <id>', 'with the settings of another key, but for those that are given')
    .option('--json', 'print one JSON object', false)
    .action(async (flags: KeyFlags & { like?: string }) => {
      await withAccounts(flags, async (accounts) => {
        const like = flags.like === undefined ? null : await readKey(accounts, flags.like);
        const { key, record } = await accounts.keys.create(newKey(flags, like), systemClock.nowMs());
        if (flags.json) return print({ key, ...keyJson(record) });
        process.stdout.write(`${key}\n`);
        process.stderr.write(`Key ${record.id} of tenant ${record.tenant}. Keep it: it is not shown again.\n`);
      });
    });
}

function listCommand(): Command {
  return addAccountOptions(new Command('list').description('list the keys'))
    .option('--tenant <name>', 'only those of this tenant', tenant)
    .option('--all', 'with those that were revoked in the last 30 days', false)
    .option('--json', 'print one JSON object per line', false)
    .action(async (flags: AccountFlags & { tenant?: string; all: boolean; json: boolean }) => {
      const records = await withAccounts(flags, (accounts) => accounts.keys.list());
      const chosen = records.filter(
        (record) =>
          (flags.all || record.revokedAtMs === null) && (flags.tenant === undefined || record.tenant === flags.tenant),
      );
      if (flags.json) for (const record of chosen) print(keyJson(record));
      else if (chosen.length === 0) process.stderr.write('no keys\n');
      else for (const line of keyLines(chosen, systemClock.nowMs())) process.stdout.write(`${line}\n`);
    });
}

function showCommand(): Command {
  return addAccountOptions(new Command('show').description('show what a key may do').argument('<id>', 'id of the key'))
    .option('--json', 'print one JSON object', false)
    .action(async (id: string, flags: AccountFlags & { json: boolean }) => {
      tell(await withAccounts(flags, (accounts) => readKey(accounts, id)), flags.json);
    });
}

function changeCommand(): Command {
  return addKeyOptions(
    new Command('change').description('change what a key may do, at once').argument('<id>', 'id of the key'),
  )
    .option('--any-model', 'every model again', false)
    .option('--json', 'print one JSON object', false)
    .action(async (id: string, flags: KeyFlags) => {
      const changes = settingsOf(flags);
      if (Object.keys(changes).length === 0)
        throw fail('config_invalid', 'nothing to change: give at least one of the options that --help lists');
      tell(await withAccounts(flags, (accounts) => accounts.keys.change(idOf(id), changes)), flags.json);
    });
}

function revokeCommand(): Command {
  return addAccountOptions(
    new Command('revoke')
      .description('revoke a key for good; requests that run go on to their end')
      .argument('<id>', 'id of the key'),
  )
    .option('--json', 'print one JSON object', false)
    .action(async (id: string, flags: AccountFlags & { json: boolean }) => {
      const record = await withAccounts(flags, (accounts) => accounts.keys.revoke(idOf(id), systemClock.nowMs()));
      if (flags.json) print(keyJson(record));
      else process.stdout.write(`Key ${record.id} of tenant ${record.tenant} is revoked.\n`);
    });
}

/** The settings that flags give. */
function settingsOf(flags: KeyFlags): Partial<Omit<NewKey, 'tenant'>> & { tenant?: string } {
  const models = flags.model ?? (flags.anyModel === true ? null : undefined);
  const given = {
    name: flags.name,
    tenant: flags.tenant,
    requestsPerMinute: orNull(flags.requestsPerMinute),
    tokensPerMinute: orNull(flags.tokensPerMinute),
    concurrency: orNull(flags.concurrency),
    priority: flags.priority,
    priorityCap: orNull(flags.priorityCap),
    models,
    expiresAtMs: orNull(flags.expires),
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function newKey(flags: KeyFlags, like: KeyRecord | null): NewKey {
  const base: NewKey = {
    name: like?.name ?? '',
    tenant: like?.tenant ?? null,
    requestsPerMinute: like?.requestsPerMinute ?? null,
    tokensPerMinute: like?.tokensPerMinute ?? null,
    concurrency: like?.concurrency ?? null,
    priority: like?.priority ?? 0,
    priorityCap: like?.priorityCap ?? null,
    models: like?.models ?? null,
    expiresAtMs: null,
  };
  return { ...base, ...settingsOf(flags) };
}

async function readKey(accounts: Accounts, id: string): Promise<KeyRecord> {
  const stored = await accounts.keys.read(idOf(id));
  if (stored === null)
    throw fail('not_found', `there is no key ${id}; \`guildhall keys list\` has those that there are`);
  return stored.record;
}

/** Throws `config_invalid` for what is no id, above all for a whole key, which is not repeated. */
function idOf(text: string): string {
  if (/^[0-9a-z]{12}$/.test(text)) return text;
  throw fail('config_invalid', 'that is no id of a key: it is the 12 letters and digits between gh_ and the next _');
}

function tell(record: KeyRecord, json: boolean): void {
  if (json) return print(keyJson(record));
  for (const [name, value] of Object.entries(keyJson(record))) {
    const text = Array.isArray(value) ? value.join(', ') : value === null ? 'none' : String(value);
    process.stdout.write(`${`${name}:`.padEnd(21)} ${text}\n`);
  }
}

function print(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function tenant(value: string): string {
  if (TENANT_NAME.test(value)) return value;
  throw fail('config_invalid', `--tenant: expected 1 to 63 letters, digits, dots, dashes or underscores`);
}

function capValue(value: string): number | 'none' {
  return value === 'none' ? value : priorityValue(value);
}

function expiry(value: string): number | 'none' {
  if (value === 'never') return 'none';
  const ms = durationMs(value);
  const atMs = ms === null ? Date.parse(/^\d{4}-\d\d-\d\d/.test(value) ? value : '') : systemClock.nowMs() + ms;
  if (!Number.isFinite(atMs))
    throw fail('config_invalid', `--expires: '${value}' is no time: 12h, 30d, 2027-01-31T12:00:00Z or never`);
  if (atMs <= systemClock.nowMs()) throw fail('config_invalid', `--expires: ${value} is in the past`);
  return atMs;
}
