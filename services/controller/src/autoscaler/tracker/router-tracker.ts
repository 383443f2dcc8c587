import type { WorkloadPod } from '../../k8s/types.ts';
import type { RouterSignal } from '../signals.ts';
import type { Level, RouterLoad } from '../view.ts';
import { HALF_LIFE_MS } from './group-tracker.ts';
import { Series } from './series.ts';

/** A queue in front of a router that computes nothing for so long is no sign of load. */
const STUCK_MS = 60_000;
/** Latencies older than this say nothing of the present. */
const STALE_MS = 60_000;
/** Waiting sequences count as running ones up to this many times. */
const MOST_WAITING = 4;
/** More than this is no forecast, but a burst. */
const MOST_PRESSURE = 4;
/** Requests become fewer when their number of late is below this share of the number of a longer time. */
const DRAINS_SHARE = 0.97;
const LATELY_MS = 5000;
const LONGER_MS = 20_000;
/** The time between tokens while nothing holds them up is followed down fast and up slowly. */
const FREE_DOWN_MS = 15_000;
const FREE_UP_MS = 1_800_000;

export interface RouterFacts {
  atMs: number;
  pods: readonly WorkloadPod[];
  routers: ReadonlyMap<string, RouterSignal>;
  warmUpMs: number;
  windowMs: number;
}

/** Follows the load of the routers. */
export class RouterTracker {
  readonly #kv = new Series(HALF_LIFE_MS);
  readonly #prefill = new Series(HALF_LIFE_MS);
  readonly #waiting = new Series(HALF_LIFE_MS);
  readonly #ttft = new Series(HALF_LIFE_MS);
  readonly #itl = new Series(HALF_LIFE_MS);
  readonly #pressure = new Series(HALF_LIFE_MS);
  readonly #inSystem = new Series(LATELY_MS);
  readonly #inSystemSlow = new Series(LONGER_MS);
  /** Time between tokens while nothing holds them up, ms; null before it was measured. */
  #freeMs: number | null = null;
  #kvWhenFree: number | null = null;
  readonly #stuckSince = new Map<string, number>();
  #running = 0;
  #steps: number | null = null;
  #atMs = 0;

  /** Takes one evaluation; returns the ready pods that do not tell, and those whose queue does not move. */
  observe({ atMs, pods, routers, warmUpMs, windowMs }: RouterFacts): { missing: string[]; stuck: string[] } {
    this.#atMs = atMs;
    const known = pods.flatMap(({ name }) => routers.get(name) ?? []).filter(({ kvUsage }) => kvUsage !== null);
    const told = new Set(known.map(({ id }) => id));
    const missing = pods
      .filter(({ name, readyMs }) => !told.has(name) && readyMs !== null && atMs - readyMs >= warmUpMs)
      .map(({ name }) => name);
    const stuck = this.#stuck(known, atMs);
    if (known.length === 0) return { missing, stuck };
    const live = known.filter(({ id }) => !stuck.includes(id));
    const scale = pods.length / known.length;
    const sum = (of: (router: RouterSignal) => number): number =>
      live.reduce((total, one) => total + of(one), 0) * scale;
    const rate = meanRate(live);
    this.#kv.add(atMs, sum(kvOf), windowMs);
    this.#prefill.add(
      atMs,
      sum((one) => one.pendingPrefillTokens * (one.prefillMsPerToken || rate)),
      windowMs,
    );
    this.#waiting.add(
      atMs,
      sum((one) => one.waiting),
      windowMs,
    );
    this.#running = sum((one) => one.running);
    this.#latencies(live, windowMs);
    this.#rates(live, windowMs);
    return { missing, stuck };
  }

  #latencies(live: readonly RouterSignal[], windowMs: number): void {
    for (const [series, of] of [
      [this.#ttft, (one: RouterSignal) => one.ttftP95Ms],
      [this.#itl, (one: RouterSignal) => one.itlP95Ms],
    ] as const) {
      const known = live.flatMap((one) => {
        const value = of(one);
        return value === null ? [] : [{ value, weight: 1 + one.running }];
      });
      const weight = known.reduce((total, one) => total + one.weight, 0);
      if (weight === 0) continue;
      const value = known.reduce((total, one) => total + one.value * one.weight, 0) / weight;
      if (series === this.#itl) this.#followFree(value, Math.max(0, this.#atMs - series.atMs));
      series.add(this.#atMs, value, windowMs);
    }
  }

  #rates(live: readonly RouterSignal[], windowMs: number): void {
    const sum = (of: (router: RouterSignal) => number): number => live.reduce((total, one) => total + of(one), 0);
    const offered = sum((one) => one.offeredTokensPerSecond ?? 0);
    const computed = sum((one) => one.computedTokensPerSecond ?? 0);
    const inSystem = sum((one) => one.running + one.waiting);
    this.#inSystem.add(this.#atMs, inSystem, windowMs);
    this.#inSystemSlow.add(this.#atMs, inSystem, windowMs);
    if (computed > 0 && offered > 0)
      this.#pressure.add(this.#atMs, Math.min(MOST_PRESSURE, offered / computed), windowMs);
    const measured = live.filter(({ busy, decodeStepMs }) => busy !== null && decodeStepMs > 0);
    this.#steps =
      measured.length === 0
        ? null
        : measured.reduce((total, one) => total + ((one.busy ?? 0) * 1000) / one.decodeStepMs, 0);
    const running = sum((one) => one.running);
    const pages = sum((one) => one.kvUsage ?? 0);
    // Little's law: as many sequences are there as come in the time that one stays.
    this.#kvWhenFree =
      this.#freeMs === null || offered <= 0 || running < 1 ? null : ((pages / running) * offered * this.#freeMs) / 1000;
  }

  #followFree(itlMs: number, gapMs: number): void {
    const before = this.#freeMs ?? itlMs;
    const left = 2 ** (-gapMs / (itlMs < before ? FREE_DOWN_MS : FREE_UP_MS));
    this.#freeMs = before * left + itlMs * (1 - left);
  }

  #stuck(known: readonly RouterSignal[], atMs: number): string[] {
    const idle = new Set(known.filter(({ waiting, busy }) => waiting > 0 && busy === 0).map(({ id }) => id));
    for (const id of this.#stuckSince.keys()) if (!idle.has(id)) this.#stuckSince.delete(id);
    for (const id of idle) if (!this.#stuckSince.has(id)) this.#stuckSince.set(id, atMs);
    return [...this.#stuckSince].filter(([, sinceMs]) => atMs - sinceMs >= STUCK_MS).map(([id]) => id);
  }

  /** Null before a router has told. */
  get load(): RouterLoad | null {
    const kv = this.#kv.level;
    const prefillMs = this.#prefill.level;
    const waiting = this.#waiting.level;
    if (kv === null || prefillMs === null || waiting === null) return null;
    return {
      kv,
      prefillMs,
      waiting,
      running: this.#running,
      ttftMs: this.#fresh(this.#ttft),
      itlMs: this.#fresh(this.#itl),
      stepsPerSecond: this.#steps,
      kvWhenFree: this.#kvWhenFree,
      drains: this.#drains,
      pressure: this.#pressureNow,
    };
  }

  /** What waits and runs becomes less. */
  get #drains(): boolean {
    return (this.#inSystem.level?.now ?? 0) < DRAINS_SHARE * (this.#inSystemSlow.level?.now ?? 0);
  }

  /** A queue that becomes shorter needs no more than what arrives; one that does not needs what is computed at least. */
  get #pressureNow(): number {
    const ratio = this.#pressure.level?.now ?? 1;
    return this.#drains ? ratio : Math.max(1, ratio);
  }

  #fresh(series: Series): Level | null {
    return this.#atMs - series.atMs > STALE_MS ? null : series.level;
  }

  get watchedMs(): number {
    return this.#kv.spanMs;
  }
}

/** Pages that the router would need if nobody had to wait, as a share of its own. */
function kvOf({ kvUsage, running, waiting }: RouterSignal): number {
  return (kvUsage ?? 0) * Math.min(MOST_WAITING, (running + waiting) / Math.max(1, running) || 1);
}

/** What a prompt token takes, for routers that have not measured it; 0 where nobody has. */
function meanRate(routers: readonly RouterSignal[]): number {
  const known = routers.map((one) => one.prefillMsPerToken).filter((rate) => rate > 0);
  return known.length === 0 ? 0 : known.reduce((sum, rate) => sum + rate, 0) / known.length;
}
