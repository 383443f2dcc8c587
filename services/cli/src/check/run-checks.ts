import { type Clock, errorMessage, fail } from '@guildhall/common';
import type { ClusterSnapshot } from '../stack/cluster-view.ts';
import { type CompletionFacts, servedModels, streamedCompletion } from './completion.ts';
import { type CoverageFacts, coverageOf, coverageProblem } from './coverage.ts';

export interface CheckOptions {
  /** Address of the gateway, without /v1. */
  url: string;
  apiKey: string | null;
  /** Served name; null takes the first. */
  model: string | null;
  /** A look at the cluster through Redis; null where only the API is checked. */
  snapshot: (() => ClusterSnapshot) | null;
  /** For everything together. */
  timeoutMs: number;
  clock: Clock;
  /** Told once for each reason to wait. */
  onWait: (check: string, reason: string) => void;
}

/** One check and what it found. */
export interface CheckResult {
  name: 'ready' | 'completion' | 'coverage';
  ok: boolean;
  /** One sentence for people. */
  found: string;
  /** Milliseconds until it was so, or was given up. */
  ms: number;
  facts: CompletionFacts | CoverageFacts | null;
}

interface Attempt {
  found: string;
  facts: CheckResult['facts'];
}

const RETRY_MS = 500;

/**
 * Checks a running cluster as a client would: it is ready, it answers a streamed completion, and, with a look through Redis,
 * every expert has a live worker. Each is tried until it holds or the time is over; the first that does not ends the rest.
 */
export async function runChecks(options: CheckOptions): Promise<CheckResult[]> {
  const endMs = options.clock.monotonicMs() + options.timeoutMs;
  const { snapshot } = options;
  const checks: [CheckResult['name'], (signal: AbortSignal) => Promise<Attempt>][] = [
    ['ready', (signal) => checkReady(options, signal)],
    ['completion', (signal) => checkCompletion(options, signal)],
    ...(snapshot === null
      ? []
      : [['coverage', () => checkCoverage(snapshot)] as [CheckResult['name'], () => Promise<Attempt>]]),
  ];
  const results: CheckResult[] = [];
  for (const [name, check] of checks) {
    const result = await untilOk(name, check, endMs, options);
    results.push(result);
    if (!result.ok) break;
  }
  return results;
}

async function untilOk(
  name: CheckResult['name'],
  check: (signal: AbortSignal) => Promise<Attempt>,
  endMs: number,
  { clock, onWait }: CheckOptions,
): Promise<CheckResult> {
  const begunMs = clock.monotonicMs();
  let said = '';
  for (;;) {
    const left = Math.max(1, endMs - clock.monotonicMs());
    const limit = new AbortController();
    const timer = clock.setTimer(left, () =>
      limit.abort(fail('deadline_exceeded', 'no answer in the time that was left')),
    );
    let reason: string;
    try {
      const { found, facts } = await check(limit.signal);
      return { name, ok: true, found, ms: Math.round(clock.monotonicMs() - begunMs), facts };
    } catch (err) {
      // What was wrong before says more than that there was no time to try it again.
      reason = limit.signal.aborted && said !== '' ? said : causeOf(err);
    } finally {
      timer.cancel();
    }
    if (reason !== said) onWait(name, reason);
    said = reason;
    const ms = Math.round(clock.monotonicMs() - begunMs);
    if (clock.monotonicMs() + RETRY_MS >= endMs) return { name, ok: false, found: reason, ms, facts: null };
    await clock.sleep(RETRY_MS);
  }
}

/** The reason behind `fetch failed`. */
function causeOf(err: unknown): string {
  const cause = err instanceof Error && err.cause instanceof Error ? err.cause : null;
  return cause === null ? errorMessage(err) : `${errorMessage(err)}: ${cause.message}`;
}

async function checkReady({ url }: CheckOptions, signal: AbortSignal): Promise<Attempt> {
  const response = await fetch(`${url}/ready`, { signal });
  const text = (await response.text()).slice(0, 300);
  if (!response.ok) throw fail('not_ready', `/ready answered ${response.status}: ${text}`);
  return { found: 'the gateway has a router that takes requests', facts: null };
}

async function checkCompletion(options: CheckOptions, signal: AbortSignal): Promise<Attempt> {
  const target = { url: options.url, apiKey: options.apiKey, signal };
  const [first = ''] = await servedModels(target);
  const facts = await streamedCompletion(target, options.model ?? first);
  const { model, completionTokens, finishReason } = facts;
  return { found: `${model} streamed ${completionTokens} tokens and ended by "${finishReason}"`, facts };
}

async function checkCoverage(snapshot: () => ClusterSnapshot): Promise<Attempt> {
  const facts = coverageOf(snapshot());
  const problem = coverageProblem(facts);
  if (problem !== null) throw fail('not_ready', problem);
  const found =
    facts.experts === 0
      ? `experts are in the process of ${facts.localRouters} routers`
      : `epoch ${facts.epoch}: ${facts.experts} experts on ${facts.workers} live workers`;
  return Promise.resolve({ found, facts });
}
