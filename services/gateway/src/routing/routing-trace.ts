import type { RoutingDecision } from './prompt-route.ts';

/** Asks for the answer's `x-guildhall-routing` header. */
export const DEBUG_HEADER = 'x-guildhall-debug';
export const ROUTING_HEADER = 'x-guildhall-routing';

/** Routers and choices that the header lists; the rest is counted. */
const MAX_LISTED = 16;

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}

// A header holds printable ASCII; JSON can say everything else with escapes.
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Why a request went to its routers, for whoever asks with `x-guildhall-debug: routing`. */
export class RoutingTrace {
  #first: RoutingDecision | null = null;
  #routers: string[] = [];

  /** A trace if the header asks for one; null otherwise. */
  static of(header: string | readonly string[] | undefined): RoutingTrace | null {
    const words = [header ?? []].flat().flatMap((text) => text.split(','));
    return words.some((word) => word.trim() === 'routing') ? new RoutingTrace() : null;
  }

  /** A choice goes to a router, in the order of the decisions; resumed ones count again. */
  add(decision: RoutingDecision): void {
    this.#first ??= decision;
    this.#routers.push(decision.handle.id);
  }

  /** The response header; none before the first decision. */
  headers(): Record<string, string> {
    const first = this.#first;
    if (first === null) return {};
    const scores = first.scores.toSorted((a, b) => a.costMs - b.costMs);
    const value = {
      router: first.handle.id,
      reason: first.reason,
      prompt_tokens: first.promptTokens,
      lookup_ms: first.lookupMs === null ? null : rounded(first.lookupMs),
      holder: first.holder === undefined ? null : { router: first.holder.routerId, tokens: first.holder.tokens },
      routers: scores.slice(0, MAX_LISTED).map((score) => ({
        id: score.candidate.id,
        cached_tokens: score.cachedTokens,
        pull_tokens: score.pullTokens,
        ttft_ms: rounded(score.ttftMs),
        cost_ms: rounded(score.costMs),
        load: score.candidate.load,
      })),
      decisions: this.#routers.slice(0, MAX_LISTED),
      left_out: Math.max(0, scores.length - MAX_LISTED) + Math.max(0, this.#routers.length - MAX_LISTED),
    };
    return { [ROUTING_HEADER]: asciiJson(value) };
  }
}
