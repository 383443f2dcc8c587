import { type GuildhallError, noUsage, type UsageCounts } from '@guildhall/common';
import type { Caller } from '../caller.ts';
import type { QuotaGuard, QuotaTicket } from './quota-guard.ts';
import type { UsageEntry, UsageMeter } from './usage-meter.ts';

export interface AdmissionDeps {
  quotas: QuotaGuard;
  usage: UsageMeter;
  /** Most tokens of an answer that are taken from a quota in advance. */
  quotaOutputTokens: number;
}

/** Tokens of a request that is about to run. */
export interface Estimate {
  promptTokens: number;
  /** Of all choices, at most. */
  outputTokens: number;
}

/** One request's account: what it takes from quotas, and what it uses. Every request that computes something has one. */
export class Admission {
  readonly caller: Caller;
  readonly #deps: AdmissionDeps;
  readonly #ticket: QuotaTicket;
  #entry: UsageEntry | null = null;
  #read: () => UsageCounts = noUsage;

  constructor(deps: AdmissionDeps, caller: Caller) {
    this.caller = caller;
    this.#deps = deps;
    this.#ticket = deps.quotas.open(caller);
  }

  /** Headers that tell the caller of its quotas. */
  get headers(): Record<string, string> {
    return this.#ticket.headers;
  }

  /** Takes a request and a place among the caller's running ones. Throws `rate_limited`, `redis_unavailable`. */
  async enter(): Promise<void> {
    await this.#ticket.enter();
  }

  /**
   * Takes tokens from the quotas, and counts from now on what `read` says; it never says less than before. Throws `rate_limited`,
   * `redis_unavailable`.
   */
  async begin(estimate: Estimate, read: () => UsageCounts): Promise<void> {
    const output = Math.min(estimate.outputTokens, this.#deps.quotaOutputTokens);
    await this.#ticket.reserve(estimate.promptTokens, output);
    const { tenant, keyId } = this.caller;
    this.#read = read;
    this.#entry = this.#deps.usage.open({ tenant, keyId }, read);
  }

  /** The request is over, perhaps with an error. Gives back what it has not used; nobody needs to wait for that. */
  async close(error: GuildhallError | null): Promise<void> {
    this.#entry?.close();
    const { inputTokens, outputTokens } = this.#read();
    const unserved = this.#entry === null && error !== null && error.code !== 'cancelled';
    await this.#ticket.close(inputTokens + outputTokens, unserved);
  }
}
