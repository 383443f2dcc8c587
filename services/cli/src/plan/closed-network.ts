/** Something that serves one customer at a time. */
export interface Station {
  name: string;
  /** Time that one visit takes there alone, ms. */
  serviceMs: number;
  /** Part of it that counts as load, where a visit to a slowest one of several takes longer than the mean; ms. */
  loadMs: number;
  /** Customers that visit it in turn. */
  customers: number;
  /** Part of the station's time that is taken by something else. */
  taken: number;
}

/** How a cycle through all stations goes. */
export interface Cycle {
  /** Time of a round of one customer, ms. */
  ms: number;
  /** Time at each station, waiting and service, by name. */
  atMs: Record<string, number>;
  /** Load of each station, 0 to 1. */
  busy: Record<string, number>;
  /** The most loaded one. */
  bottleneck: string;
}

const ROUNDS = 200;
const PRECISE = 1e-4;
/** Part of a station's time that is left at least, whatever else takes. */
const LEAST_LEFT = 0.02;
/**
 * Part of the queue that an arriving customer waits for. Visits take nearly the same time each, so that customers fall
 * into step and wait less than random ones would, who see all of it.
 */
const SEEN = 0.5;

/**
 * Rounds of customers that visit every station once and are under way for `delayMs` in between: mean-value analysis of
 * a closed network by Schweitzer's approximation, with deterministic service. No station is ever used more than it can be:
 * a round takes at least customers x load at the busiest one.
 */
export function cycleOf(stations: readonly Station[], delayMs: number): Cycle {
  const used = stations.filter(({ loadMs, serviceMs }) => loadMs > 0 || serviceMs > 0);
  const slow = used.map(({ taken }) => 1 / Math.max(LEAST_LEFT, 1 - taken));
  const least = used.reduce((most, { customers, loadMs }, i) => Math.max(most, customers * loadMs * (slow[i] ?? 1)), 0);
  const atMs = used.map(({ serviceMs }, i) => serviceMs * (slow[i] ?? 1));
  let ms = delayMs + sum(atMs);
  for (let round = 0; round < ROUNDS; round++) {
    const before = ms;
    const cycle = Math.max(ms, least);
    for (const [i, { customers, loadMs, serviceMs }] of used.entries()) {
      // A visit of which nobody waits for the end still keeps others from the station.
      const stay = Math.min(Math.max(atMs[i] ?? 0, loadMs), cycle);
      const queued = (Math.max(0, customers - 1) * stay) / cycle;
      atMs[i] = (serviceMs + SEEN * queued * loadMs) * (slow[i] ?? 1);
    }
    ms = delayMs + sum(atMs);
    if (Math.abs(ms - before) < PRECISE * ms) break;
  }
  ms = Math.max(ms, least);
  const busy = used.map(({ customers, loadMs }, i) =>
    Math.min(1, (customers * loadMs * (slow[i] ?? 1)) / Math.max(ms, 1e-9)),
  );
  const named = (values: readonly number[]): Record<string, number> =>
    Object.fromEntries(used.map(({ name }, i) => [name, values[i] ?? 0]));
  const top = busy.indexOf(Math.max(...busy));
  return { ms, atMs: named(atMs), busy: named(busy), bottleneck: used[top]?.name ?? 'nothing' };
}

function sum(values: readonly number[]): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
