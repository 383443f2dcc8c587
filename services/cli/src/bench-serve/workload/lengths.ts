import { fail } from '@guildhall/common';
import type { Random } from '../../simulate/kernel/random.ts';

/** A distribution of lengths in tokens; values are whole and within [min, max]. */
export interface Lengths {
  readonly kind: 'fixed' | 'uniform' | 'lognormal';
  /** Mean of the distribution before it is clipped. */
  readonly mean: number;
  /** Deviation of the logarithm, for log-normal ones. */
  readonly sigma: number;
  readonly min: number;
  readonly max: number;
}

const LONGEST = 10_000_000;

/**
 * Lengths of conversations that people shared: the means are those of the vLLM paper (Kwon et al. 2023, figure 11: 161 and 338
 * tokens), log-normal with deviations that give a tail like theirs.
 */
export const SHAREGPT = {
  prompt: 'lognormal:161,1.1,4,2048',
  output: 'lognormal:338,0.9,4,2048',
} as const;

function numbersOf(text: string, field: string, spec: string): number[] {
  const numbers = text.split(',').map(Number);
  if (numbers.some((number) => !Number.isFinite(number) || number < 0)) throw badSpec(field, spec);
  return numbers;
}

function badSpec(field: string, spec: string): Error {
  return fail(
    'config_invalid',
    `${field}: '${spec}' is no distribution of lengths; write 256, fixed:256, uniform:64,512 or lognormal:MEAN,SIGMA[,MIN,MAX]`,
    { field },
  );
}

/** Reads `256`, `fixed:256`, `uniform:64,512` or `lognormal:MEAN,SIGMA[,MIN,MAX]`. Throws `config_invalid`. */
export function parseLengths(spec: string, field: string): Lengths {
  const [kind, rest] = spec.includes(':')
    ? [spec.slice(0, spec.indexOf(':')), spec.slice(spec.indexOf(':') + 1)]
    : ['fixed', spec];
  const [a = 0, b = 0, c = 1, d = LONGEST, ...more] = numbersOf(rest, field, spec);
  const lengths = lengthsOf(kind, rest.split(',').length, [a, b, c, d]);
  const valid = lengths !== null && more.length === 0;
  if (!valid || lengths.min < 1 || lengths.max < lengths.min || lengths.max > LONGEST) throw badSpec(field, spec);
  return lengths;
}

function lengthsOf(
  kind: string | undefined,
  count: number,
  [a, b, c, d]: [number, number, number, number],
): Lengths | null {
  if (kind === 'fixed' && count === 1 && Number.isInteger(a)) return { kind, mean: a, sigma: 0, min: a, max: a };
  if (kind === 'uniform' && count === 2 && Number.isInteger(a) && Number.isInteger(b))
    return { kind, mean: (a + b) / 2, sigma: 0, min: a, max: b };
  if (kind === 'lognormal' && (count === 2 || count === 4) && a >= 1)
    return { kind, mean: a, sigma: b, min: c, max: d };
  return null;
}

/** One length. */
export function drawLength(random: Random, { kind, mean, sigma, min, max }: Lengths): number {
  const drawn =
    kind === 'uniform' ? min + random.below(max - min + 1) : kind === 'fixed' ? mean : random.logNormal(mean, sigma);
  return Math.min(max, Math.max(min, Math.round(drawn)));
}
