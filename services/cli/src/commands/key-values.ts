import { fail, LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, systemClock, TENANT_NAME } from '@guildhall/common';

const MAX_LIMIT = 1_000_000_000;
const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Reads a quota: a whole number from 1, or `none` for no limit. Throws `config_invalid`. */
export function limitValue(value: string): number | 'none' {
  if (value === 'none') return value;
  const limit = /^\d{1,10}$/.test(value) ? Number(value) : 0;
  if (limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw fail('config_invalid', `'${value}' is no quota: a whole number from 1 to ${MAX_LIMIT}, or none`);
}

/** Reads a priority. Throws `config_invalid`. */
export function priorityValue(value: string): number {
  const priority = /^-?\d{1,3}$/.test(value) ? Number(value) : Number.NaN;
  if (priority >= -100 && priority <= 100) return priority;
  throw fail('config_invalid', `'${value}' is no priority: a whole number from -100 (most urgent) to 100`);
}

/** `none` as the record has it; the parser of the command line knows no null. */
export function orNull(value: number | 'none' | undefined): number | null | undefined {
  return value === 'none' ? null : value;
}

/** Milliseconds of `90m`, `12h` or `30d`; null for anything else. */
export function durationMs(value: string): number | null {
  const match = /^(\d{1,6})([mhd])$/.exec(value);
  return match === null ? null : Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0);
}

/** A label as the command line gives it; an empty value takes the label away. */
export type LabelChange = readonly [name: string, value: string];

/** Reads `NAME=VALUE` and puts it behind those before. Throws `config_invalid`. */
export function labelValue(text: string, all: readonly LabelChange[] | undefined): LabelChange[] {
  const at = text.indexOf('=');
  const [name, value] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
  if (LABEL_NAME.test(name) && value.length <= MAX_LABEL_VALUE) return [...(all ?? []), [name, value]];
  throw fail(
    'config_invalid',
    `--label: expected NAME=VALUE, a name of up to 63 letters, digits and _ . - /, a value of up to ${MAX_LABEL_VALUE} characters`,
  );
}

/** Labels after changes. Throws `config_invalid` for too many. */
export function changedLabels(labels: Record<string, string>, changes: readonly LabelChange[]): Record<string, string> {
  const next = Object.fromEntries([...Object.entries(labels), ...changes].filter(([, value]) => value !== ''));
  for (const [name, value] of changes) if (value === '') delete next[name];
  if (Object.keys(next).length <= MAX_LABELS) return next;
  throw fail('config_invalid', `--label: a key has at most ${MAX_LABELS} labels`);
}

/** Reads the name of a tenant. Throws `config_invalid`. */
export function tenantValue(value: string): string {
  if (TENANT_NAME.test(value)) return value;
  throw fail('config_invalid', `--tenant: expected 1 to 63 letters, digits, dots, dashes or underscores`);
}

/** Reads a bound of priorities. Throws `config_invalid`. */
export function capValue(value: string): number | 'none' {
  return value === 'none' ? value : priorityValue(value);
}

/** Reads the time at which a key ends, ms since the Unix epoch, or `never`. Throws `config_invalid`, for times gone by too. */
export function expiryValue(value: string): number | 'none' {
  if (value === 'never') return 'none';
  const nowMs = systemClock.nowMs();
  const ms = durationMs(value);
  const atMs = ms === null ? Date.parse(/^\d{4}-\d\d-\d\d/.test(value) ? value : '') : nowMs + ms;
  if (!Number.isFinite(atMs))
    throw fail('config_invalid', `--expires: '${value}' is no time: 12h, 30d, 2027-01-31T12:00:00Z or never`);
  if (atMs <= nowMs) throw fail('config_invalid', `--expires: ${value} is in the past`);
  return atMs;
}

/** Reads how long a replaced key goes on: `12h`, `7d`, or `0m` for not at all. Throws `config_invalid`. */
export function graceValue(value: string): number {
  const ms = durationMs(value);
  if (ms !== null) return ms;
  throw fail('config_invalid', `--grace: '${value}' is no time: 30m, 12h, 7d, or 0m to revoke it at once`);
}
