import { fail } from '@guildhall/common';

const DECIMAL: Readonly<Record<string, number>> = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
const BINARY: Readonly<Record<string, number>> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };

/** Bytes of a payload on a line of so many bits: Ethernet, IP and TCP headers take 6 % at 1,500 bytes a frame. */
export const PAYLOAD_SHARE = 0.94;

/** Bytes of `80GiB` or `80GB`. @throws config_invalid naming `what`. */
export function bytesOf(what: string, text: string): number {
  return quantity(what, text, /^([\d.]+)\s?(Ki|Mi|Gi|Ti|k|M|G|T)?B$/, 'a size such as 80GiB');
}

/** Bytes a second of `2.5TB/s`. @throws config_invalid naming `what`. */
export function byteRateOf(what: string, text: string): number {
  return quantity(what, text, /^([\d.]+)\s?(k|M|G|T)?B\/s$/, 'a rate such as 2.5TB/s');
}

/** Operations a second of `400TFLOPS`. @throws config_invalid naming `what`. */
export function flopsOf(what: string, text: string): number {
  return quantity(what, text, /^([\d.]+)\s?(M|G|T)?FLOPS$/i, 'a rate such as 400TFLOPS');
}

/** Payload bytes a second of a link of `25Gbit`. @throws config_invalid naming `what`. */
export function linkOf(what: string, text: string): number {
  return (quantity(what, text, /^([\d.]+)\s?(M|G|T)?bit(?:\/s)?$/, 'a link such as 25Gbit') / 8) * PAYLOAD_SHARE;
}

/** Milliseconds of `500ms` or `2s`. @throws config_invalid naming `what`. */
export function durationOf(what: string, text: string): number {
  const [, digits = '', unit = ''] = /^([\d.]+)\s?(ms|s)$/.exec(text) ?? [];
  const value = Number(digits);
  if (digits !== '' && value > 0) return unit === 's' ? value * 1000 : value;
  throw fail('config_invalid', `${what} '${text}' is not a time such as 500ms or 2s`, { field: what });
}

function quantity(what: string, text: string, pattern: RegExp, example: string): number {
  const [, digits = '', unit = ''] = pattern.exec(text.trim()) ?? [];
  const value = Number(digits) * (BINARY[unit] ?? DECIMAL[unit] ?? DECIMAL[unit.toUpperCase()] ?? NaN);
  if (digits !== '' && Number.isFinite(value) && value > 0) return value;
  throw fail('config_invalid', `${what} '${text}' is not ${example}`, { field: what });
}
