import { fail } from '@guildhall/common';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.4 GiB` and so on: a size for people. */
export function formatBytes(bytes: number): string {
  let value = Math.max(bytes, 0);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${UNITS[unit]}`;
}

/** Bytes of `512MiB`, `8GiB` and so on. Throws `config_invalid`. */
export function parseBytes(value: string): number {
  const [, digits, unit] = /^(\d{1,9})\s?([KMGT]?i?B)$/i.exec(value) ?? [];
  const power = 'BKMGT'.indexOf((unit ?? '').charAt(0).toUpperCase());
  if (digits === undefined || power < 0)
    throw fail('config_invalid', `'${value}' is not a size such as 512MiB or 8GiB`);
  return Number(digits) * 1024 ** power;
}
