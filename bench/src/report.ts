/** Rows of a report and the arithmetic behind them. */

/** The machine that figures belong to. */
export interface Machine {
  cpu: string;
  cores: number;
  threads: number;
  memoryGiB: number;
  kernel: string;
  node: string;
}

/** One figure. Extra fields explain it; the ones that tools rely on come first. */
export interface BenchRow {
  /** Path-like and unique in a report, for instance `qwen35moe/bf16/decode-1`. */
  name: string;
  /** Median of the runs; null where it could not be measured, then `note` says why. */
  value: number | null;
  unit: string;
  /** Half the distance between the extremes of the runs, relative to the median. */
  spread: number;
  /** The peer's median in the same unit; null without a peer. */
  peer: number | null;
  /** Larger is better: value / peer for rates, peer / value for times, limit / value for an "at most". */
  ratio: number | null;
  /** Share of the measured ceiling that is used. */
  limitShare: number | null;
  /** The least ratio that is acceptable; null where there is none. */
  target: number | null;
  /** Whether ratio or limit share reach what they must; null without a target. */
  met: boolean | null;
  /** Which of the two did. */
  metBy: 'ratio' | 'limit' | null;
  /** The least limit share that also meets the target; null where it does not count. */
  limitTarget: number | null;
  /** A ratio worth more effort, and whether it is reached. */
  stretch: number | null;
  stretchMet: boolean | null;
  /** Timed runs. */
  runs: number;
  peerName: string | null;
  peerSpread: number | null;
  /** Median of the ratios of runs that were timed next to one another. */
  pairedRatio: number | null;
  /** The ceiling: what it is, in which unit, its median, and the value in that unit. */
  limit: { name: string; unit: string; value: number; used: number } | null;
  note: string | null;
}

/** What is known of a figure before ratios are taken. */
export interface RowInput {
  name: string;
  unit: string;
  /** One value per run. */
  values: readonly number[];
  /** Whether a larger value is better; times are 'less'. */
  better?: 'more' | 'less';
  peer?: { name: string; values: readonly number[] } | null;
  limit?: {
    name: string;
    unit: string;
    /** What the work used in each run, in the ceiling's unit. */
    used: readonly number[];
    /** The ceiling around each run. */
    ceilings: readonly number[];
  } | null;
  target?: number | null;
  limitTarget?: number | null;
  stretch?: number | null;
  note?: string | null;
}

/** Middle value; the mean of the two middle ones for an even count. NaN without values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

/** Half the distance between the extremes, relative to the median; 0 for fewer than two values. */
export function spreadOf(values: readonly number[]): number {
  const middle = median(values);
  if (values.length < 2 || middle === 0) return 0;
  return (Math.max(...values) - Math.min(...values)) / 2 / Math.abs(middle);
}

/** Larger-is-better ratio of a value to a peer's. */
export function ratioOf(value: number, peer: number, better: 'more' | 'less'): number {
  return better === 'more' ? value / peer : peer / value;
}

/** Builds a row: medians, spreads, ratio, share of the ceiling, and whether the target is met. */
export function makeRow(input: RowInput): BenchRow {
  const { name, unit, values, better = 'more', peer = null, limit = null } = input;
  const { target = null, limitTarget = null, stretch = null, note = null } = input;
  const value = median(values);
  const hasPeer = peer !== null && peer.values.length > 0;
  const peerValue = hasPeer ? median(peer.values) : null;
  const ratio = peerValue === null ? null : ratioOf(value, peerValue, better);
  const limitShare = limit === null ? null : median(limit.used.map((used, i) => used / (limit.ceilings[i] ?? NaN)));
  const byRatio = target !== null && ratio !== null && ratio >= target;
  const byLimit = limitTarget !== null && limitShare !== null && limitShare >= limitTarget;
  return {
    name,
    value,
    unit,
    spread: spreadOf(values),
    peer: peerValue,
    ratio,
    limitShare,
    target,
    met: target === null && limitTarget === null ? null : byRatio || byLimit,
    metBy: byRatio ? 'ratio' : byLimit ? 'limit' : null,
    limitTarget,
    stretch,
    stretchMet: stretch === null ? null : ratio !== null && ratio >= stretch,
    runs: values.length,
    peerName: hasPeer ? peer.name : null,
    peerSpread: hasPeer ? spreadOf(peer.values) : null,
    pairedRatio: hasPeer ? pairedRatio(values, peer.values, better) : null,
    limit:
      limit === null
        ? null
        : { name: limit.name, unit: limit.unit, value: median(limit.ceilings), used: median(limit.used) },
    note,
  };
}

function pairedRatio(values: readonly number[], peers: readonly number[], better: 'more' | 'less'): number | null {
  const pairs = values.slice(0, peers.length).map((value, i) => ratioOf(value, peers[i] ?? NaN, better));
  return pairs.length === 0 ? null : median(pairs);
}

/** A row for something that could not be measured; its target counts as missed. */
export function missingRow(
  input: { name: string; unit: string; target?: number | null; stretch?: number | null },
  why: string,
): BenchRow {
  const { name, unit, target = null, stretch = null } = input;
  return {
    name,
    value: null,
    unit,
    spread: 0,
    peer: null,
    ratio: null,
    limitShare: null,
    target,
    met: target === null ? null : false,
    metBy: null,
    limitTarget: null,
    stretch,
    stretchMet: stretch === null ? null : false,
    runs: 0,
    peerName: null,
    peerSpread: null,
    pairedRatio: null,
    limit: null,
    note: why,
  };
}
