import type { Scenario } from './scenario.ts';
import type { SimClock } from './sim-clock.ts';
import type { SimCluster } from './sim-cluster.ts';
import type { SimExperts } from './sim-experts.ts';

/** Time constants of what members report: means of ten seconds, of thirty for tokens. */
const REPORT_MS = 10_000;
const TOKENS_MS = 30_000;

/** What a worker reports. */
export interface WorkerFigures {
  busy: number;
  rows: number;
}

/**
 * Requests as a fluid: they arrive, wait for a place in a router, generate tokens at a pace that the slowest worker sets, and
 * leave. A request that arrives while nobody serves is held, and goes on when somebody does.
 */
export class SimTraffic {
  held = 0;
  waiting = 0;
  running = 0;
  /** Streams that ended because there was nobody to go on with them. */
  dropped = 0;
  served = 0;
  itlMs: number;
  ttftMs = 0;
  /** Share of the asked tokens that were computed in the last tick. */
  share = 1;
  offered = 0;
  computed = 0;
  readonly figures = new Map<string, WorkerFigures>();
  readonly #scenario: Scenario;
  readonly #clock: SimClock;

  constructor(scenario: Scenario, clock: SimClock) {
    this.#scenario = scenario;
    this.#clock = clock;
    this.itlMs = scenario.tokenMs;
  }

  tick(cluster: SimCluster, experts: SimExperts, dtMs: number): void {
    const { load, tokens, tokenMs, routers } = this.#scenario;
    const routersUp = cluster.serving('router').length;
    const covered = experts.heldWithout(cluster, new Set());
    const arrived = (load(this.#clock.elapsedMs) * dtMs) / 1000;
    if (routersUp === 0) {
      // Streams move to another router when theirs goes; with the last one they end.
      this.dropped += this.running + this.waiting;
      this.running = 0;
      this.waiting = 0;
      this.held += arrived;
    } else {
      this.waiting += arrived + this.held;
      this.held = 0;
    }
    const places = routersUp * routers.sequences;
    const admitted = Math.max(0, Math.min(this.waiting, places - this.running));
    this.waiting -= admitted;
    this.running += admitted;
    const wanted = covered && routersUp > 0 ? (this.running * 1000) / tokenMs : 0;
    this.share = this.#compute(cluster, experts, wanted, dtMs);
    const done = Math.min(this.running, (wanted * this.share * dtMs) / 1000 / tokens);
    this.running -= done;
    if (this.running < 1e-6) this.running = 0;
    this.served += done;
    this.#latencies(wanted, done, dtMs);
    this.offered = mean(this.offered, (arrived * tokens * 1000) / dtMs, dtMs, TOKENS_MS);
    this.computed = mean(this.computed, wanted * this.share, dtMs, TOKENS_MS);
  }

  #latencies(wanted: number, done: number, dtMs: number): void {
    const { tokenMs } = this.#scenario;
    const busiest = Math.max(0, ...[...this.figures.values()].map(({ busy }) => busy));
    if (wanted > 0) this.itlMs = (tokenMs / Math.max(this.share, 0.05)) * (1 + (0.3 * busiest) / (1.1 - busiest));
    const rate = done / dtMs;
    this.ttftMs = 200 + (this.waiting > 0.5 && rate > 0 ? this.waiting / rate : 0);
  }

  /** Has the workers compute; returns the share of the wanted tokens that the slowest of them lets through. */
  #compute(cluster: SimCluster, experts: SimExperts, wanted: number, dtMs: number): number {
    const { topK, layers, warmUp, groups } = this.#scenario;
    const nowMs = this.#clock.nowMs();
    const asked = new Map<string, number>();
    for (const [pair, holders] of experts.holders(cluster))
      for (const name of holders)
        asked.set(
          name,
          (asked.get(name) ?? 0) +
            (wanted * topK * layers * experts.popularity(pair, this.#clock.elapsedMs)) / holders.length,
        );
    let share = 1;
    const speeds = new Map<string, number>();
    for (const { name, rowsPerSecond } of groups)
      for (const pod of cluster.find(name).pods) {
        if (pod.readyMs === null || pod.endsMs !== null) continue;
        const speed = rowsPerSecond * (nowMs - pod.readyMs < warmUp.forMs ? warmUp.speed : 1);
        speeds.set(pod.name, speed);
        const rows = asked.get(pod.name) ?? 0;
        if (rows > speed) share = Math.min(share, speed / rows);
      }
    for (const name of this.figures.keys()) if (!speeds.has(name)) this.figures.delete(name);
    for (const [name, speed] of speeds) {
      const rows = (asked.get(name) ?? 0) * share;
      const before = this.figures.get(name) ?? { busy: 0, rows: 0 };
      this.figures.set(name, {
        busy: mean(before.busy, Math.min(1, rows / speed), dtMs, REPORT_MS),
        rows: mean(before.rows, rows, dtMs, REPORT_MS),
      });
    }
    return share;
  }
}

function mean(before: number, value: number, dtMs: number, windowMs: number): number {
  const left = Math.exp(-dtMs / windowMs);
  const now = before * left + value * (1 - left);
  return now < 1e-3 ? 0 : now;
}
