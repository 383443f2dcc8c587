import { fail } from '@guildhall/common';

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
