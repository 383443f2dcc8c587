import type { Scenario, SimGroup } from './scenario.ts';
import type { SimCluster, SimPod } from './sim-cluster.ts';

/** From a change among the workers until a new placement is held. */
const PLACES_MS = 5000;

interface SimWorker {
  pod: SimPod;
  group: SimGroup;
}

/**
 * Which simulated worker holds which expert. A change among those that take work gives a new placement, which is held a while
 * later; a worker that drains keeps what it has until it is deleted.
 */
export class SimExperts {
  readonly pairs: number;
  /** Time for which an expert had no ready holder though no pod was lost by accident, ms. */
  uncoveredMs = 0;
  readonly #scenario: Scenario;
  #holdings = new Map<string, Set<number>>();
  #placedFor = '';
  #pending: { key: string; atMs: number } | null = null;
  #covered = false;
  #excusedUntilMs = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.pairs = scenario.layers * scenario.experts;
  }

  holdings(pod: string): ReadonlySet<number> {
    return this.#holdings.get(pod) ?? new Set();
  }

  /** Experts that workers of a group can load. */
  reach({ share }: SimGroup): number[] {
    const { layers, experts } = this.#scenario;
    const { from, count } = share ?? { from: 0, count: experts };
    return Array.from({ length: layers * count }, (_, at) => Math.floor(at / count) * experts + from + (at % count));
  }

  /** Share of the rows that goes to a (layer, expert) pair. */
  popularity(pair: number, atMs: number): number {
    const { experts, layers, popularity } = this.#scenario;
    return (popularity === null ? 1 / experts : (popularity(atMs)[pair % experts] ?? 0)) / layers;
  }

  /** Holders of each pair among those that routers send to. */
  holders(cluster: SimCluster): Map<number, string[]> {
    const serving = this.#serving(cluster);
    const holders = new Map<number, string[]>();
    for (const { pod } of serving)
      for (const pair of this.holdings(pod.name)) holders.set(pair, [...(holders.get(pair) ?? []), pod.name]);
    return holders;
  }

  /** Whether everything is held by ready pods other than these. */
  heldWithout(cluster: SimCluster, gone: ReadonlySet<string>): boolean {
    const held = new Set<number>();
    for (const { pod } of this.#ready(cluster))
      if (!gone.has(pod.name)) for (const pair of this.holdings(pod.name)) held.add(pair);
    return held.size === this.pairs;
  }

  /** Accidents uncover experts: until others have loaded them it is nobody's fault. */
  excuse(untilMs: number): void {
    this.#excusedUntilMs = untilMs;
  }

  tick(cluster: SimCluster, nowMs: number, dtMs: number, awake: boolean): void {
    const alive = new Set(this.#ready(cluster).map(({ pod }) => pod.name));
    for (const name of this.#holdings.keys()) if (!alive.has(name)) this.#holdings.delete(name);
    const key = this.#serving(cluster)
      .map(({ pod }) => pod.name)
      .join();
    if (key !== this.#placedFor && this.#pending?.key !== key) this.#pending = { key, atMs: nowMs + PLACES_MS };
    if (this.#pending !== null && nowMs >= this.#pending.atMs) {
      this.#place(cluster, nowMs);
      this.#placedFor = this.#pending.key;
      this.#pending = null;
    }
    const covered = this.heldWithout(cluster, new Set());
    if (!awake) this.#covered = false;
    else if (covered) this.#covered = true;
    else if (this.#covered && nowMs > this.#excusedUntilMs) this.uncoveredMs += dtMs;
  }

  #ready(cluster: SimCluster): SimWorker[] {
    return this.#scenario.groups.flatMap((group) =>
      cluster
        .find(group.name)
        .pods.filter(({ readyMs, endsMs }) => readyMs !== null && endsMs === null)
        .map((pod) => ({ pod, group })),
    );
  }

  #serving(cluster: SimCluster): SimWorker[] {
    const { draining } = cluster;
    return this.#ready(cluster).filter(({ pod }) => !draining.has(pod.name));
  }

  /** Each pair to the least loaded worker that can load it, then copies of what is most asked for while there is room. */
  #place(cluster: SimCluster, nowMs: number): void {
    const workers = this.#serving(cluster).map(({ pod, group }) => ({
      name: pod.name,
      can: new Set(this.reach(group)),
      left: group.slots,
      load: 0,
      held: new Set<number>(),
    }));
    const pairs = Array.from({ length: this.pairs }, (_, pair) => ({
      pair,
      share: this.popularity(pair, nowMs),
      copies: 0,
    }));
    pairs.sort((a, b) => b.share - a.share || a.pair - b.pair);
    const give = (one: (typeof pairs)[number]): boolean => {
      const able = workers.filter(({ can, left, held }) => left > 0 && can.has(one.pair) && !held.has(one.pair));
      const [best] = able.sort((a, b) => a.load - b.load || (a.name < b.name ? -1 : 1));
      if (best === undefined) return false;
      best.left -= 1;
      best.load += one.share / (one.copies + 1);
      best.held.add(one.pair);
      one.copies += 1;
      return true;
    };
    for (const one of pairs) give(one);
    for (let any = true; any;) {
      any = false;
      for (const one of pairs) any = give(one) || any;
    }
    const next = new Map(workers.map(({ name, held }) => [name, held]));
    // What drains keeps what it has; what cannot be placed elsewhere stays where it is.
    for (const [name, held] of this.#holdings) if (!next.has(name)) next.set(name, held);
    this.#holdings = next;
  }
}
