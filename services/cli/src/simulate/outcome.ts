import type { DispatchCounts } from './cluster/dispatcher.ts';
import type { SimThread } from './kernel/host.ts';
import { mean, quantile } from './kernel/statistics.ts';
import type { Simulation } from './simulation.ts';

/** Busy times and bytes up to a moment. */
export interface Usage {
  atMs: number;
  workerBusyMs: number[];
  workerBytes: number[];
  loopBusyMs: number[];
  computeBusyMs: number[];
  routerBytes: number[];
  routerWireMs: number[];
  workerWireMs: number[];
}

/** What a simulation found, over its measured time. */
export interface Outcome {
  workers: number;
  routers: number;
  streams: number;
  measuredMs: number;
  tokens: number;
  tokensPerSecond: number;
  ttftMs: { p50: number; p99: number };
  interTokenMs: { p50: number; p99: number };
  /** Through the cards of all routers, and through those of all workers, for each token generated. */
  routerBytesPerToken: number;
  workerBytesPerToken: number;
  workersPerToken: number;
  /** Shares of the time in which they were busy. */
  workerUse: { mean: number; most: number };
  routerLoopUse: number;
  routerComputeUse: number;
  /** The busier direction of the routers' cards, mean. */
  routerLinkUse: number;
  workerLinkUse: number;
  /** Messages to workers, second ones included, and the share of second ones for stragglers. */
  calls: number;
  hedgeShare: number;
  hedgesWon: number;
  /** Calls made again, by reason. */
  retries: Record<string, number>;
  /** Longest time from a call that failed to the last row of its layer; 0 when none did. */
  longestFailoverMs: number;
  /** (row, expert) pairs that were dispatched, those whose result came, and results that were taken twice. */
  wantedRows: number;
  rows: number;
  rowsTwice: number;
  requestsFinished: number;
  streamsDropped: number;
  events: number;
}

/** Busy times and bytes of a simulation up to now. */
export function usageOf({ clock, workers, routers }: Simulation): Usage {
  const busy = (thread: SimThread): number => thread.busyMs;
  return {
    atMs: clock.monotonicMs(),
    workerBusyMs: workers.map(({ thread }) => busy(thread)),
    workerBytes: workers.map(({ nic }) => nic.bytes),
    loopBusyMs: routers.map(({ loop }) => busy(loop)),
    computeBusyMs: routers.map(({ compute }) => busy(compute)),
    routerBytes: routers.map(({ nic }) => nic.bytes),
    routerWireMs: routers.map(({ nic }) => Math.max(nic.sent.busyMs, nic.received.busyMs)),
    workerWireMs: workers.map(({ nic }) => Math.max(nic.sent.busyMs, nic.received.busyMs)),
  };
}

/** What happened since `from`. */
export function outcomeOf(simulation: Simulation, from: Usage): Outcome {
  const { recorder, workers, routers, options, clock } = simulation;
  const to = usageOf(simulation);
  const measuredMs = to.atMs - from.atMs;
  const counts = sumCounts(routers.map(({ dispatcher }) => dispatcher.counts));
  const shares = (after: number[], before: number[]): number[] =>
    after.map((value, i) => (value - (before[i] ?? 0)) / measuredMs);
  const bytes = (after: number[], before: number[]): number =>
    after.reduce((sum, value, i) => sum + value - (before[i] ?? 0), 0) / Math.max(1, recorder.tokens);
  const use = shares(to.workerBusyMs, from.workerBusyMs);
  return {
    workers: workers.length,
    routers: routers.length,
    streams: options.workload.streams * routers.length,
    measuredMs,
    tokens: recorder.tokens,
    tokensPerSecond: (recorder.tokens * 1000) / measuredMs,
    ttftMs: { p50: quantile(recorder.firstMs, 0.5), p99: quantile(recorder.firstMs, 0.99) },
    interTokenMs: { p50: quantile(recorder.betweenMs, 0.5), p99: quantile(recorder.betweenMs, 0.99) },
    routerBytesPerToken: bytes(to.routerBytes, from.routerBytes),
    workerBytesPerToken: bytes(to.workerBytes, from.workerBytes),
    workersPerToken: counts.workersTouched / Math.max(1, counts.tokenLayers),
    workerUse: { mean: mean(use), most: Math.max(...use) },
    routerLoopUse: mean(shares(to.loopBusyMs, from.loopBusyMs)),
    routerComputeUse: mean(shares(to.computeBusyMs, from.computeBusyMs)),
    routerLinkUse: mean(shares(to.routerWireMs, from.routerWireMs)),
    workerLinkUse: mean(shares(to.workerWireMs, from.workerWireMs)),
    calls: counts.calls,
    hedgeShare: counts.hedges / Math.max(1, counts.calls - counts.hedges),
    hedgesWon: counts.hedgesWon,
    retries: Object.fromEntries(counts.retries),
    longestFailoverMs: Math.max(0, ...counts.failoverMs),
    wantedRows: counts.wanted,
    rows: counts.filled,
    rowsTwice: counts.twice,
    requestsFinished: recorder.finished,
    streamsDropped: recorder.failed,
    events: clock.numEvents,
  };
}

function sumCounts(list: readonly DispatchCounts[]): DispatchCounts {
  const sum = (of: (counts: DispatchCounts) => number): number => list.reduce((total, one) => total + of(one), 0);
  const retries = new Map<string, number>();
  for (const one of list) {
    for (const [reason, count] of one.retries) retries.set(reason, (retries.get(reason) ?? 0) + count);
  }
  return {
    wanted: sum((one) => one.wanted),
    filled: sum((one) => one.filled),
    twice: sum((one) => one.twice),
    calls: sum((one) => one.calls),
    hedges: sum((one) => one.hedges),
    hedgesDenied: sum((one) => one.hedgesDenied),
    hedgesWon: sum((one) => one.hedgesWon),
    unwanted: sum((one) => one.unwanted),
    retries,
    workersTouched: sum((one) => one.workersTouched),
    tokenLayers: sum((one) => one.tokenLayers),
    failoverMs: list.flatMap((one) => one.failoverMs),
  };
}
