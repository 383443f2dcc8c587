import { fail } from '@guildhall/common';

/** Times that an objective may bound. `gap` is the longest time between two pieces of an answer. */
export const SLO_KEYS = ['ttft', 'tpot', 'e2e', 'gap'] as const;
export type SloKey = (typeof SLO_KEYS)[number];

/** Upper bounds in milliseconds; a request is good when it meets all of them. */
export type Slo = Partial<Record<SloKey, number>>;

/** Reads `ttft:500,tpot:50`. Throws `config_invalid`. */
export function parseSlo(text: string): Slo {
  const slo: Slo = {};
  for (const part of text.split(',')) {
    const [key = '', value = '', ...more] = part.trim().split(':');
    const bound = Number(value);
    const known = SLO_KEYS.find((name) => name === key);
    if (known === undefined || value === '' || more.length > 0 || !(bound > 0) || !Number.isFinite(bound))
      throw fail(
        'config_invalid',
        `--slo: '${part}' is no objective; write ttft:500,tpot:50 with ${SLO_KEYS.join(', ')} in milliseconds`,
        {
          field: '--slo',
        },
      );
    slo[known] = bound;
  }
  return slo;
}

/** Whether times meet the objectives; one that a request does not have (a single token has no TPOT) is met. */
export function meets(slo: Slo, times: Readonly<Record<SloKey, number | null>>): boolean {
  return SLO_KEYS.every((key) => {
    const bound = slo[key];
    const time = times[key];
    return bound === undefined || time === null || time <= bound;
  });
}
