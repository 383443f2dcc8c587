import type { Signals } from '../signals.ts';
import type { Demand } from '../view.ts';

/** Follows whether anybody wants the model. */
export class DemandTracker {
  #lastWantedMs: number | null = null;
  #zeroSinceMs: number | null = null;

  /** The demand now. Nobody has asked for anything only where gateways say so: without one it is not known. */
  observe({ gateways, routers }: Signals, atMs: number): Demand {
    const held = gateways.reduce((sum, gateway) => sum + gateway.held, 0);
    const inGateways = gateways.reduce((sum, gateway) => sum + gateway.running, 0);
    const inRouters = routers.reduce((sum, router) => sum + router.running + router.waiting, 0);
    // Requests that come and go between two reports leave a trace in what was computed of late.
    const computed = routers.some(
      ({ computedTokensPerSecond, offeredTokensPerSecond }) =>
        (computedTokensPerSecond ?? 0) > 0 || (offeredTokensPerSecond ?? 0) > 0,
    );
    const wanted = held > 0 || inGateways > 0 || inRouters > 0 || computed;
    if (wanted || gateways.length === 0) this.#lastWantedMs = null;
    else this.#lastWantedMs ??= atMs;
    if (wanted || gateways.length + routers.length === 0) this.#zeroSinceMs = null;
    else this.#zeroSinceMs ??= atMs;
    const idleMs = this.#lastWantedMs === null ? (wanted ? 0 : null) : atMs - this.#lastWantedMs;
    return { held, inGateways, inRouters, idleMs };
  }

  /** How long all counters of routers and gateways have been at zero, ms; 0 where they are not, or nobody tells. */
  zeroMs(atMs: number): number {
    return this.#zeroSinceMs === null ? 0 : atMs - this.#zeroSinceMs;
  }
}
