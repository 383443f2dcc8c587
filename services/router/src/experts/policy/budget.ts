import type { HedgeBudget } from './types.ts';

export interface BudgetOptions {
  /** Second calls for each first one, 0 to 1. */
  share: number;
  /** Second calls that may be made at once after a while without. */
  burst?: number;
}

const BURST = 4;
/** Calls past their deadline that may be made beyond the share: few at once, as many as one dead worker leaves behind. */
const LATE_BURST = 8;
const LATE_SHARE = 0.01;

/** A bucket that every first call puts a share of a token in, and every second one takes a token from. */
export class TokenBudget implements HedgeBudget {
  readonly #share: number;
  readonly #burst: number;
  #tokens: number;
  #lateTokens = LATE_BURST;

  constructor({ share, burst = BURST }: BudgetOptions) {
    this.#share = share;
    this.#burst = share > 0 ? burst : 0;
    this.#tokens = this.#burst;
  }

  earned(): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + this.#share);
    this.#lateTokens = Math.min(LATE_BURST, this.#lateTokens + LATE_SHARE);
  }

  spend(calls = 1): boolean {
    if (this.#tokens < calls) return false;
    this.#tokens -= calls;
    return true;
  }

  spendLate(calls = 1): boolean {
    if (this.spend(calls)) return true;
    if (this.#lateTokens < calls) return false;
    this.#lateTokens -= calls;
    return true;
  }
}
