import { fail } from '@guildhall/common';

const UNIT_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `90s`, `30m`, `24h` or `7d`. Throws `config_invalid`. */
export function durationMs(value: string): number {
  const [, digits, unit] = /^(\d{1,6})([smhd])$/.exec(value) ?? [];
  const unitMs = UNIT_MS[unit ?? ''];
  if (unitMs === undefined || Number(digits) < 1)
    throw fail('config_invalid', `'${value}' is not a time such as 90s, 30m, 24h or 7d`);
  return Number(digits) * unitMs;
}
