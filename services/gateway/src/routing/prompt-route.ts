import type { Clock, Metrics, PageName } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import {
  chooseByCost,
  chooseRouter,
  type Reuse,
  type RoutingMode,
  type Score,
  scoreRouters,
  trusted,
} from './choose-router.ts';
import type { PrefixHolding, PrefixLookup } from './prefix-lookup.ts';
import { UNMEASURED_MS_PER_TOKEN } from './prefill-backlog.ts';
import { namePages, reusablePages } from './prompt-names.ts';
import type { PageClass, Reservation, RouterHandle } from './router-handle.ts';
import type { RouterPool, RouterQuery } from './router-pool.ts';
import type { RoutingTrace } from './routing-trace.ts';

/**
 * Why a router was chosen: `kv` weighed what routers hold of the prompt, `load` found that nobody holds any (or does
 * not look), `only` had one candidate; `away` and `slow` fell back to load because the directory gave no answer.
 */
export type RoutingReason = 'kv' | 'load' | 'round-robin' | 'only' | 'away' | 'slow';

/** One choice of a router, and what is known of the others. */
export interface RoutingDecision {
  handle: RouterHandle;
  /** Counts the call as load of the router; the caller must release it. */
  reservation: Reservation;
  reason: RoutingReason;
  promptTokens: number;
  /** Another router that holds more of the prompt than the chosen one. */
  holder: router.PrefixHolder | undefined;
  /** Of all candidates, as they were before the choice. */
  scores: readonly Score<RouterHandle>[];
  /** Time spent on the directory for this request, milliseconds; null when it was not asked. */
  lookupMs: number | null;
}

/** What routing asks beside the pool's query. */
export interface RouteQuery extends RouterQuery {
  /** Tokens that the choice has generated: another router has to compute them too. */
  generatedTokens: number;
  /** Routers that have died under the stream: nothing can be had from them. */
  lost: ReadonlySet<RouterHandle>;
}

export interface RoutingOptions {
  pool: RouterPool;
  /** Null where there is no directory. */
  lookup: PrefixLookup | null;
  mode: RoutingMode;
  clock: Clock;
  metrics: Metrics;
  /** In [0, 1). */
  random?: () => number;
}

/** A prompt as routing sees it. */
export interface RoutedPrompt {
  ids: readonly number[];
  salt: string;
  /** False where every token must be computed, as for log-probabilities of the prompt. */
  reusable: boolean;
}

/** Chooses routers for requests. */
export class Routing {
  readonly options: Required<RoutingOptions>;
  #turn = 0;

  constructor(options: RoutingOptions) {
    this.options = { random: Math.random, ...options };
  }

  get pool(): RouterPool {
    return this.options.pool;
  }

  /** The route of one prompt, to be shared by its choices. */
  route(prompt: RoutedPrompt, trace: RoutingTrace | null): PromptRoute {
    return new PromptRoute(this, prompt, trace);
  }

  /** The next candidate in turn. */
  nextInTurn(candidates: readonly RouterHandle[]): RouterHandle | null {
    const pool = trusted(candidates);
    this.#turn += 1;
    return pool[this.#turn % pool.length] ?? null;
  }
}

/** What the directory says of a prompt, by router. */
interface Found {
  /** Time that naming the pages and asking took, milliseconds. */
  lookupMs: number | null;
  failed: 'away' | 'slow' | null;
  /** Tokens from the prompt's beginning that a router can resume behind, by class of pages and router. */
  classes: ReadonlyMap<string, ReadonlyMap<string, Held>>;
}

interface Held {
  tokens: number;
  tier: string | null;
}

/** An answer of the directory is asked for again after so long, by a stream that needs another router. */
const FRESH_MS = 2000;
const HOLDS_NONE: Held = { tokens: 0, tier: null };
const NOTHING: Found = { lookupMs: null, failed: null, classes: new Map() };

/** Finds routers for the choices of one prompt. They share one lookup of the directory. */
export class PromptRoute {
  readonly #routing: Routing;
  readonly #prompt: RoutedPrompt;
  readonly #trace: RoutingTrace | null;
  readonly #names = new Map<string, Promise<readonly PageName[]>>();
  /** Routers that a choice of this prompt was sent to: they will have it cached for the next one. */
  readonly #placed = new Set<RouterHandle>();
  #found: Promise<Found> | null = null;
  #foundAtMs = 0;

  constructor(routing: Routing, prompt: RoutedPrompt, trace: RoutingTrace | null) {
    this.#routing = routing;
    this.#prompt = prompt;
    this.#trace = trace;
  }

  /** A router for a choice, or null. Waits for the directory, at most for its deadline. */
  async pick(query: RouteQuery): Promise<RoutingDecision | null> {
    const { pool, mode } = this.#routing.options;
    if (pool.candidates(query).length === 0) return null;
    const found = mode === 'kv' ? await this.#lookUp(pool.candidates(query)) : NOTHING;
    // Routers may have come and gone meanwhile.
    const candidates = pool.candidates(query);
    const total = this.#prompt.ids.length + query.generatedTokens;
    const scores = scoreRouters(candidates, total, (handle) => this.#reuse(handle, found, query.lost));
    const chosen = this.#choose(scores, found);
    if (chosen === null) return null;
    const { score, reason } = chosen;
    const handle = score.candidate;
    this.#placed.add(handle);
    const decision: RoutingDecision = {
      handle,
      reservation: handle.reserve(Math.max(0, total - score.cachedTokens - score.pullTokens)),
      reason,
      promptTokens: this.#prompt.ids.length,
      holder: this.#holderFor(handle, found, query.lost),
      scores,
      lookupMs: found.lookupMs,
    };
    this.#record(decision, score);
    return decision;
  }

  /** The router did not take the prompt, or is gone: nothing of it is to be expected there. */
  forget(handle: RouterHandle): void {
    this.#placed.delete(handle);
  }

  #choose(
    scores: readonly Score<RouterHandle>[],
    found: Found,
  ): { score: Score<RouterHandle>; reason: RoutingReason } | null {
    const { mode, random } = this.#routing.options;
    const candidates = scores.map((score) => score.candidate);
    const byLoad = found.failed !== null || mode === 'load';
    const handle =
      mode === 'round-robin'
        ? this.#routing.nextInTurn(candidates)
        : byLoad
          ? chooseRouter(candidates, random)
          : (chooseByCost(scores, random)?.candidate ?? null);
    const score = scores.find((one) => one.candidate === handle);
    if (score === undefined) return null;
    if (scores.length === 1) return { score, reason: 'only' };
    if (mode !== 'kv') return { score, reason: mode };
    if (found.failed !== null) return { score, reason: found.failed };
    const weighed = scores.some((one) => one.cachedTokens > 0 || one.pullTokens > 0);
    return { score, reason: weighed ? 'kv' : 'load' };
  }

  #record(decision: RoutingDecision, score: Score<RouterHandle>): void {
    const { metrics } = this.#routing.options;
    this.#trace?.add(decision);
    metrics.count('guildhall_routing_decisions_total', { reason: decision.reason });
    metrics.count('guildhall_routing_cached_tokens_total', { source: 'own' }, score.cachedTokens);
    metrics.count('guildhall_routing_cached_tokens_total', { source: 'peer' }, score.pullTokens);
    metrics.observe('guildhall_routing_predicted_ttft_seconds', score.ttftMs / 1000);
  }

  /** The last token that can be reused, in whole pages of a class. */
  #reusableTokens({ pageTokens }: PageClass): number {
    return this.#prompt.reusable ? reusablePages(this.#prompt.ids.length, pageTokens) * pageTokens : 0;
  }

  #reuse(handle: RouterHandle, found: Found, lost: ReadonlySet<RouterHandle>): Reuse {
    const own = heldBy(handle, found);
    const placed = this.#placed.has(handle);
    const cachedTokens = placed ? this.#reusableTokens(handle.pageClass) : own.tokens;
    const most = this.#bestPeer(handle, found, lost)?.tokens ?? 0;
    return { cachedTokens, tier: placed ? 'device' : own.tier, pullTokens: Math.max(0, most - cachedTokens) };
  }

  /** The router beside `handle` that holds most of the prompt in a form that `handle` can use. */
  #bestPeer(
    handle: RouterHandle,
    found: Found,
    lost: ReadonlySet<RouterHandle>,
  ): { peer: RouterHandle; tokens: number } | null {
    const key = classKey(handle.pageClass);
    const peers = this.#routing.pool.all
      .filter((peer) => peer !== handle && !peer.suspect && !lost.has(peer) && classKey(peer.pageClass) === key)
      .map((peer) => ({ peer, tokens: heldBy(peer, found).tokens }))
      .filter(({ tokens }) => tokens > 0);
    return peers.toSorted((a, b) => b.tokens - a.tokens || a.peer.load - b.peer.load)[0] ?? null;
  }

  #holderFor(handle: RouterHandle, found: Found, lost: ReadonlySet<RouterHandle>): router.PrefixHolder | undefined {
    const best = this.#bestPeer(handle, found, lost);
    // What the directory knows counts, not what another choice is about to compute: that may fail.
    if (best === null || best.tokens < heldBy(handle, found).tokens + handle.pageClass.pageTokens) return undefined;
    return { routerId: best.peer.id, address: best.peer.address, tokens: best.tokens };
  }

  async #lookUp(candidates: readonly RouterHandle[]): Promise<Found> {
    const nowMs = this.#routing.options.clock.monotonicMs();
    if (this.#found === null || nowMs - this.#foundAtMs > FRESH_MS) {
      this.#foundAtMs = nowMs;
      this.#found = this.#ask(candidates);
    }
    return this.#found;
  }

  async #ask(candidates: readonly RouterHandle[]): Promise<Found> {
    const { lookup, pool, clock } = this.#routing.options;
    // With one router there is nothing to choose and nobody to pull from.
    const pointless = pool.all.length < 2 && this.#trace === null;
    const askers = candidates.filter((handle) => this.#reusableTokens(handle.pageClass) > 0);
    if (lookup === null || pointless || askers.length === 0) return NOTHING;
    const startedMs = clock.monotonicMs();
    const byClass = new Map(askers.map((handle) => [classKey(handle.pageClass), handle]));
    const answers = await Promise.all(
      [...byClass].map(async ([key, handle]) => ({ key, ...(await this.#askClass(lookup, handle)) })),
    );
    return {
      lookupMs: clock.monotonicMs() - startedMs,
      failed: answers.find((answer) => answer.failed !== null)?.failed ?? null,
      classes: new Map(answers.map((answer) => [answer.key, answer.held])),
    };
  }

  /** Asks for the pages as routers of one class name them. */
  async #askClass(
    lookup: PrefixLookup,
    handle: RouterHandle,
  ): Promise<{ failed: Found['failed']; held: ReadonlyMap<string, Held> }> {
    const { pageClass, stateless } = handle;
    const worthMs = this.#reusableTokens(pageClass) * (handle.prefillMsPerToken || UNMEASURED_MS_PER_TOKEN);
    const result = await lookup.find({ names: await this.#namesOf(pageClass), stateless, worthMs });
    if ('failed' in result) return { failed: result.failed, held: new Map() };
    const most = this.#reusableTokens(pageClass);
    const heldOf = ({ resumePages, resumeTier }: PrefixHolding): Held => ({
      tokens: Math.min(most, resumePages * pageClass.pageTokens),
      tier: resumeTier,
    });
    return { failed: null, held: new Map(result.holdings.map((holding) => [holding.router, heldOf(holding)])) };
  }

  #namesOf(pageClass: PageClass): Promise<readonly PageName[]> {
    const key = classKey(pageClass);
    let names = this.#names.get(key);
    if (names === undefined) {
      const { ids, salt } = this.#prompt;
      names = namePages({ ...pageClass, salt, adapter: '' }, ids);
      this.#names.set(key, names);
    }
    return names;
  }
}

function classKey({ fingerprint, numericsId, pageTokens }: PageClass): string {
  return `${fingerprint}\n${numericsId}\n${pageTokens}`;
}

function heldBy(handle: RouterHandle, found: Found): Held {
  return found.classes.get(classKey(handle.pageClass))?.get(handle.id) ?? HOLDS_NONE;
}
