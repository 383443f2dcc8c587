import type { Clock } from '@guildhall/common';
import type { StepCostModel } from '../../scheduler/budget.ts';

/** Weight of the newest measurement. */
const NEWEST = 0.3;
/** After this time half of what was measured is forgotten: a network that was slow once is tried again. */
const HALF_LIFE_MS = 120_000;
/** Smaller transfers say nothing about the rate. */
const LEAST_BYTES = 64 << 10;
/** Holders that are remembered; the one not seen for longest goes first. */
const MAX_HOLDERS = 256;

interface Estimate {
  msPerByte: number;
  latencyMs: number;
  atMs: number;
}

export interface PullRatesOptions {
  clock: Clock;
  /** Rate of a holder before anything was measured, bytes a second. */
  bytesPerSecond: number;
  /** Time to its first bytes before anything was measured, milliseconds. */
  latencyMs: number;
}

/** How fast pages come from each other router, learnt from each transfer, and how fast they are put into the pool. */
export class PullRates {
  readonly #clock: Clock;
  readonly #guess: { msPerByte: number; latencyMs: number };
  readonly #holders = new Map<string, Estimate>();
  #importMsPerByte: number | null = null;

  constructor(options: PullRatesOptions) {
    this.#clock = options.clock;
    this.#guess = { msPerByte: 1000 / options.bytesPerSecond, latencyMs: options.latencyMs };
  }

  /** Expected milliseconds to pull `bytes` from a holder. */
  pullMs(holder: string, bytes: number): number {
    const { msPerByte, latencyMs } = this.#current(holder);
    return latencyMs + msPerByte * bytes;
  }

  /** Expected milliseconds to put `bytes` into the pool; 0 until measured. */
  importMs(bytes: number): number {
    return (this.#importMsPerByte ?? 0) * bytes;
  }

  /** A transfer brought `bytes` in `ms`, the first of them after `latencyMs`. */
  observe(holder: string, transfer: { bytes: number; latencyMs: number; ms: number }): void {
    const before = this.#current(holder);
    const { bytes, latencyMs, ms } = transfer;
    const msPerByte = bytes < LEAST_BYTES ? before.msPerByte : Math.max(0, ms - latencyMs) / bytes;
    this.#holders.delete(holder);
    this.#holders.set(holder, {
      msPerByte: mix(before.msPerByte, msPerByte),
      latencyMs: mix(before.latencyMs, latencyMs),
      atMs: this.#clock.monotonicMs(),
    });
    const oldest = this.#holders.keys().next().value;
    if (this.#holders.size > MAX_HOLDERS && oldest !== undefined) this.#holders.delete(oldest);
  }

  /** Putting `bytes` into the pool took `ms`. */
  observeImport(bytes: number, ms: number): void {
    if (bytes < LEAST_BYTES) return;
    const msPerByte = ms / bytes;
    this.#importMsPerByte = this.#importMsPerByte === null ? msPerByte : mix(this.#importMsPerByte, msPerByte);
  }

  /** What is known of a holder, drawn towards the first guess as it grows old. */
  #current(holder: string): { msPerByte: number; latencyMs: number } {
    const learnt = this.#holders.get(holder);
    if (learnt === undefined) return this.#guess;
    const kept = 0.5 ** ((this.#clock.monotonicMs() - learnt.atMs) / HALF_LIFE_MS);
    return {
      msPerByte: kept * learnt.msPerByte + (1 - kept) * this.#guess.msPerByte,
      latencyMs: kept * learnt.latencyMs + (1 - kept) * this.#guess.latencyMs,
    };
  }
}

function mix(before: number, newest: number): number {
  return before + NEWEST * (newest - before);
}

/** Expected milliseconds of the prefill steps over tokens [from, to), in chunks of `chunkTokens`. */
export function prefillMs(
  cost: Pick<StepCostModel, 'predict' | 'marginal'>,
  span: { from: number; to: number; chunkTokens: number },
): number {
  const tokens = Math.max(0, span.to - span.from);
  if (tokens === 0) return 0;
  const steps = Math.ceil(tokens / span.chunkTokens);
  const work = { tokens, depthTokens: tokens * (span.from + tokens / 2) };
  return cost.predict(work) + (steps - 1) * (cost.predict(work) - cost.marginal(work));
}
