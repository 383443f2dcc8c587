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
const PRECISE = 1e-6;
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
  const slow = ({ taken }: Station): number => 1 / Math.max(0.02, 1 - taken);
  let atMs = used.map((station) => station.serviceMs * slow(station));
  let ms = delayMs + sum(atMs);
  const least = Math.max(0, ...used.map((station) => station.customers * station.loadMs * slow(station)));
  for (let round = 0; round < ROUNDS; round++) {
    const before = ms;
    const cycle = Math.max(ms, least);
    atMs = used.map((station, i) => {
      const others = Math.max(0, station.customers - 1);
      // A visit of which nobody waits for the end still keeps others from the station.
      const queued = (others * Math.min(Math.max(atMs[i] ?? 0, station.loadMs), cycle)) / cycle;
      return (station.serviceMs + SEEN * queued * station.loadMs) * slow(station);
    });
    ms = delayMs + sum(atMs);
    if (Math.abs(ms - before) < PRECISE * ms) break;
  }
  ms = Math.max(ms, least);
  const busy = used.map((station) =>
    Math.min(1, (station.customers * station.loadMs * slow(station)) / Math.max(ms, 1e-9)),
  );
  const top = busy.indexOf(Math.max(...busy));
  return {
    ms,
    atMs: Object.fromEntries(used.map(({ name }, i) => [name, atMs[i] ?? 0])),
    busy: Object.fromEntries(used.map(({ name }, i) => [name, busy[i] ?? 0])),
    bottleneck: used[top]?.name ?? 'nothing',
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
