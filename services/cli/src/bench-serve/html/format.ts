/** A number in at most four digits, with k and M. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6)}M`;
  if (size >= 1e4) return `${trim(value / 1e3)}k`;
  return trim(value);
}

function trim(value: number): string {
  const size = Math.abs(value);
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return String(Number(value.toFixed(digits)));
}

/** Milliseconds with their unit, seconds from ten of them on. */
export function milliseconds(value: number | null): string {
  if (value === null) return '–';
  return value >= 10_000 ? `${short(value / 1000)} s` : `${short(value)} ms`;
}

export function percent(value: number | null): string {
  return value === null ? '–' : `${Number((value * 100).toFixed(1))} %`;
}
