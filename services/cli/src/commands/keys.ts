import { Command } from 'commander';
import { type Accounts, fail, type KeyRecord, type NewKey, systemClock } from '@guildhall/common';
import { type AccountFlags, addAccountOptions, withAccounts } from '../stack/account-target.ts';
import { keyLines, keyJson } from './key-report.ts';
import {
  capValue,
  changedLabels,
  expiryValue,
  graceValue,
  type LabelChange,
  labelValue,
  limitValue,
  orNull,
  priorityValue,
  tenantValue,
} from './key-values.ts';

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
  label?: LabelChange[];
  json: boolean;
}

/** `guildhall keys`: API keys, which are kept as hashes in the cluster's Redis. */
export function keysCommand(): Command {
  const command = new Command('keys').description('make, list, change, rotate and revoke API keys');
  command.addCommand(createCommand());
  command.addCommand(listCommand());
  command.addCommand(showCommand());
  command.addCommand(changeCommand());
  command.addCommand(rotateCommand());
  command.addCommand(revokeCommand());
  return command;
}

function addKeyOptions(command: Command): Command {
  const models = (value: string, all: string[] | undefined): string[] => [...(all ?? []), value];
  return addAccountOptions(command)
    .option('--name <text>', 'what it is for')
    .option('--label <name=value>', 'note about it, for lists; without a value it goes; repeat for more', labelValue)
    .option(
      '--tenant <name>',
      'whose it is; keys of a tenant share its quotas and its turns (default: its own)',
      tenantValue,
    )
    .option('--requests-per-minute <n>', 'quota; none for no limit', limitValue)
    .option('--tokens-per-minute <n>', 'quota of prompts and answers together; none for no limit', limitValue)
    .option('--concurrency <n>', 'requests at a time; none for no limit', limitValue)
    .option('--priority <n>', 'of its requests, -100 to 100; smaller is more urgent', priorityValue)
    .option('--priority-cap <n>', 'the most urgent priority that its requests may ask for; none for none', capValue)
    .option('--model <name>', 'only this model; repeat for more', models)
    .option('--expires <when>', 'such as 12h, 30d, 2027-01-31T12:00:00Z or never', expiryValue);
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
    .option('--tenant <name>', 'only those of this tenant', tenantValue)
    .option('--label <name=value>', 'only those with this label; repeat for more', labelValue)
    .option('--all', 'with those that were revoked in the last 30 days', false)
    .option('--json', 'print one JSON object per line', false)
    .action(async (flags: AccountFlags & { tenant?: string; label?: LabelChange[]; all: boolean; json: boolean }) => {
      const records = await withAccounts(flags, (accounts) => accounts.keys.list());
      const chosen = records.filter(
        (record) =>
          (flags.all || record.revokedAtMs === null) &&
          (flags.tenant === undefined || record.tenant === flags.tenant) &&
          (flags.label ?? []).every(([name, value]) => record.labels[name] === value),
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
      const { label } = flags;
      if (Object.keys(changes).length === 0 && label === undefined)
        throw fail('config_invalid', 'nothing to change: give at least one of the options that --help lists');
      const change = async (accounts: Accounts): Promise<KeyRecord> => {
        const labels = label && { labels: changedLabels((await readKey(accounts, id)).labels, label) };
        return accounts.keys.change(idOf(id), { ...changes, ...labels });
      };
      tell(await withAccounts(flags, change), flags.json);
    });
}

/** `guildhall keys rotate`: another secret for the same holder. */
function rotateCommand(): Command {
  return addAccountOptions(
    new Command('rotate')
      .description('make a key in the place of another one, with all of its settings; it is shown once')
      .argument('<id>', 'id of the key that is replaced'),
  )
    .option('--grace <time>', 'how long the old key goes on: 30m, 12h, 7d, or 0m to revoke it at once', graceValue)
    .option('--json', 'print one JSON object', false)
    .action(async (id: string, flags: AccountFlags & { grace?: number; json: boolean }) => {
      await withAccounts(flags, async (accounts) => {
        const nowMs = systemClock.nowMs();
        const old = await readKey(accounts, id);
        if (old.revokedAtMs !== null)
          throw fail('not_found', `key ${id} is revoked; make another one with keys create`);
        const { key, record } = await accounts.keys.create(
          { ...newKey({ ...flags }, old), ...lifetime(old, nowMs) },
          nowMs,
        );
        const ended = await endOf(accounts, old, nowMs + (flags.grace ?? GRACE_MS), nowMs);
        if (flags.json) return print({ key, ...keyJson(record), replaces: keyJson(ended) });
        const until = new Date(ended.expiresAtMs ?? nowMs).toISOString();
        process.stdout.write(`${key}\n`);
        process.stderr.write(
          `Key ${record.id} of tenant ${record.tenant}. Keep it: it is not shown again. Key ${id} ${
            ended.revokedAtMs === null ? `goes on until ${until}` : 'is revoked'
          }.\n`,
        );
      });
    });
}

/** A replaced key goes on for so long where nothing is said. */
const GRACE_MS = 86_400_000;

/** The new key is valid for as long as the old one was made to be. */
function lifetime({ createdAtMs, expiresAtMs }: KeyRecord, nowMs: number): Pick<NewKey, 'expiresAtMs'> {
  return { expiresAtMs: expiresAtMs === null ? null : nowMs + (expiresAtMs - createdAtMs) };
}

/** Ends the old key at a time, or at its own if that comes first. */
async function endOf(accounts: Accounts, old: KeyRecord, atMs: number, nowMs: number): Promise<KeyRecord> {
  if (atMs <= nowMs) return accounts.keys.revoke(old.id, nowMs);
  return accounts.keys.change(old.id, { expiresAtMs: Math.min(atMs, old.expiresAtMs ?? Infinity) });
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
function settingsOf(flags: Partial<KeyFlags>): Partial<Omit<NewKey, 'tenant'>> & { tenant?: string } {
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

function newKey(flags: Partial<KeyFlags>, like: KeyRecord | null): NewKey {
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
    labels: changedLabels(like?.labels ?? {}, flags.label ?? []),
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
    const text = textOf(value);
    process.stdout.write(`${`${name}:`.padEnd(21)} ${text}\n`);
  }
}

function textOf(value: ReturnType<typeof keyJson>[string]): string {
  if (value === null || value === undefined) return 'none';
  if (Array.isArray(value)) return value.join(', ');
  if (typeof value !== 'object') return String(value);
  const pairs = Object.entries(value).map(([name, text]) => `${name}=${text}`);
  return pairs.length === 0 ? 'none' : pairs.join(', ');
}

function print(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
