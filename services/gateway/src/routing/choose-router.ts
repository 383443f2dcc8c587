import { UNMEASURED_MS_PER_TOKEN } from './prefill-backlog.ts';

/** How requests find their router: by cached prefix against load, by load alone, or in turn (for measurements). */
export const ROUTING_MODES = ['kv', 'load', 'round-robin'] as const;
export type RoutingMode = (typeof ROUTING_MODES)[number];

/** A router as the choice sees it. */
export interface Candidate {
  /** Requests that it runs or holds waiting, as far as is known here. */
  load: number;
  /** It failed a moment ago. */
  suspect: boolean;
}

/** A router whose time until a first token can be predicted. */
export interface PricedCandidate extends Candidate {
  /** Prompt tokens that it has yet to compute for others. */
  pendingPrefillTokens: number;
  /** Its measured rates, milliseconds; 0 while it has not measured. */
  prefillMsPerToken: number;
  decodeStepMs: number;
}

/** What a prompt costs in one router. */
export interface Score<T> {
  candidate: T;
  /** Tokens of the prompt that need not be computed there. */
  cachedTokens: number;
  /** Further tokens that another router holds and this one may pull. */
  pullTokens: number;
  /** Predicted time to compute, pull or bring back what the device lacks, milliseconds. */
  ownMs: number;
  /** Predicted time until the first token, milliseconds: `ownMs` behind what waits there already. */
  ttftMs: number;
  /** What decides: the time until the first token, and the work once more for those who will wait behind it. */
  costMs: number;
}

/** A pulled token costs less than a computed one and more than a cached one; the rate of the link is the router's to know. */
export const PULL_SHARE = 0.3;
/** Part of a decode step by which each running request holds a prompt up: they share their steps. */
export const LOAD_SHARE = 0.5;
/** What a cached token costs where it must be brought back from, as a share of computing it. */
export const TIER_SHARE: Readonly<Record<string, number>> = { device: 0, host: 0.01, disk: 0.05 };
/** Costs this near to the least are no reason to prefer a router: predictions are not that exact. */
export const NEAR_SHARE = 0.05;
const NEAR_MS = 0.5;
/** Rates of a router that has measured nothing, where no other one has either. */
const DEFAULT_DECODE_MS = 10;

/** Candidates that have not failed a moment ago, or all of them when there is no such. */
export function trusted<T extends Candidate>(candidates: readonly T[]): readonly T[] {
  const pool = candidates.filter((candidate) => !candidate.suspect);
  return pool.length > 0 ? pool : candidates;
}

/**
 * Power of two choices: the less loaded of two candidates drawn at random, so that many gateways that see the same
 * loads don't all run to the same router. Suspects are taken only when there is nobody else. Null when there is no
 * candidate. `random` returns a number in [0, 1).
 */
export function chooseRouter<T extends Candidate>(candidates: readonly T[], random: () => number): T | null {
  const pool = trusted(candidates);
  const first = pool[Math.floor(random() * pool.length)];
  if (first === undefined || pool.length === 1) return first ?? null;
  const rest = pool.filter((candidate) => candidate !== first);
  const second = rest[Math.floor(random() * rest.length)];
  return second !== undefined && second.load < first.load ? second : first;
}

function meanRate(rates: readonly number[], fallback: number): number {
  const known = rates.filter((rate) => rate > 0);
  return known.length === 0 ? fallback : known.reduce((sum, rate) => sum + rate, 0) / known.length;
}

/** What a router has of a prompt. */
export interface Reuse {
  cachedTokens: number;
  /** Slowest tier of those. */
  tier: string | null;
  /** Tokens that it may pull beyond those. */
  pullTokens: number;
}

/**
 * Predicts each candidate's time until the first token of a prompt. A router without rates of its own is taken to be
 * like the others.
 * @param promptTokens tokens that a router without any cache would compute.
 * @param reuseOf how many of them a candidate need not compute.
 */
export function scoreRouters<T extends PricedCandidate>(
  candidates: readonly T[],
  promptTokens: number,
  reuseOf: (candidate: T) => Reuse,
): Score<T>[] {
  const prefillMs = meanRate(
    candidates.map((candidate) => candidate.prefillMsPerToken),
    UNMEASURED_MS_PER_TOKEN,
  );
  const decodeMs = meanRate(
    candidates.map((candidate) => candidate.decodeStepMs),
    DEFAULT_DECODE_MS,
  );
  return candidates.map((candidate) => {
    const { cachedTokens, tier, pullTokens } = reuseOf(candidate);
    const perToken = candidate.prefillMsPerToken > 0 ? candidate.prefillMsPerToken : prefillMs;
    const perStep = candidate.decodeStepMs > 0 ? candidate.decodeStepMs : decodeMs;
    const computed = Math.max(0, promptTokens - cachedTokens - pullTokens);
    const restored = cachedTokens * (TIER_SHARE[tier ?? 'device'] ?? 0) + pullTokens * PULL_SHARE;
    const ownMs = (computed + restored) * perToken;
    const ttftMs = candidate.pendingPrefillTokens * perToken + ownMs + LOAD_SHARE * candidate.load * perStep;
    return { candidate, cachedTokens, pullTokens, ownMs, ttftMs, costMs: ttftMs + ownMs };
  });
}

/**
 * The cheapest candidate. Among those about as cheap the least loaded, then one drawn at random, so that gateways that
 * see the same reports don't all run to the same router. Null when there is no candidate.
 */
export function chooseByCost<T extends PricedCandidate>(
  scores: readonly Score<T>[],
  random: () => number,
): Score<T> | null {
  const pool = new Set(trusted(scores.map((score) => score.candidate)));
  const open = scores.filter((score) => pool.has(score.candidate));
  const least = Math.min(...open.map((score) => score.costMs));
  const cheap = open.filter((score) => score.costMs <= least * (1 + NEAR_SHARE) + NEAR_MS);
  const leastLoad = Math.min(...cheap.map((score) => score.candidate.load));
  const equals = cheap.filter((score) => score.candidate.load === leastLoad);
  return equals[Math.floor(random() * equals.length)] ?? null;
}
