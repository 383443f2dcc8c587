import { mean } from './kernel/statistics.ts';
import type { Simulation } from './simulation.ts';

/** What a fault did, in bins of time from the moment at which measuring began. */
export interface Recovery {
  faultAtMs: number;
  before: { tokensPerSecond: number; longestGapMs: number };
  /** Least rate of a bin after the fault, as a share of the rate before. */
  lowestShare: number;
  /** Longest time between two tokens of a stream after the fault. */
  longestGapMs: number;
  /** From the fault to the first second whose rate is 95 % of that before; null when there was none. */
  steadyAfterMs: number | null;
  /** From the fault to the moment at which every expert had all its copies again; null when that did not happen. */
  redundantAfterMs: number | null;
  bytesLoaded: number;
  series: { atMs: number; tokensPerSecond: number; longestGapMs: number }[];
}

const STEADY_SHARE = 0.95;
const STEADY_MS = 1000;

/** What the first fault of a simulation did, or null when there was none. */
export function recoveryOf(simulation: Simulation): Recovery | null {
  const { recorder, controller, clock, options, measuredFromMs } = simulation;
  const [fault] = options.faults;
  if (fault === undefined) return null;
  const longest = recorder.longest.between(measuredFromMs, clock.monotonicMs());
  const series = recorder.series.between(measuredFromMs, clock.monotonicMs()).map(({ atMs, value }, i) => ({
    atMs: atMs - measuredFromMs,
    tokensPerSecond: (value * 1000) / options.binMs,
    longestGapMs: longest[i]?.value ?? 0,
  }));
  const before = series.filter(({ atMs }) => atMs + options.binMs <= fault.atMs);
  const after = series.filter(({ atMs }) => atMs >= fault.atMs);
  const rate = mean(before.map(({ tokensPerSecond }) => tokensPerSecond));
  const { completeAtMs } = controller;
  return {
    faultAtMs: fault.atMs,
    before: { tokensPerSecond: rate, longestGapMs: Math.max(0, ...before.map(({ longestGapMs }) => longestGapMs)) },
    lowestShare: Math.min(...after.map(({ tokensPerSecond }) => tokensPerSecond)) / rate,
    longestGapMs: Math.max(0, ...after.map(({ longestGapMs }) => longestGapMs)),
    steadyAfterMs: steadyAfter(after, rate, options.binMs, fault.atMs),
    redundantAfterMs: completeAtMs === null ? null : completeAtMs - measuredFromMs - fault.atMs,
    bytesLoaded: controller.bytesLoaded,
    series,
  };
}

function steadyAfter(after: Recovery['series'], rate: number, binMs: number, faultAtMs: number): number | null {
  const bins = Math.ceil(STEADY_MS / binMs);
  for (let from = 0; from + bins <= after.length; from++) {
    const second = after.slice(from, from + bins);
    if (mean(second.map(({ tokensPerSecond }) => tokensPerSecond)) < STEADY_SHARE * rate) continue;
    return (second[0]?.atMs ?? 0) - faultAtMs;
  }
  return null;
}
