import type { Assignment } from '@guildhall/controller/placement';
import { type BarChart, renderBarChart } from '../charts/bar-chart.ts';
import { type ChartSeries, renderLineChart } from '../charts/line-chart.ts';
import { makeRow } from '../report.ts';
import type { BenchContext, BenchOptions, Suite } from '../suite.ts';
import { type GateTrace, part, tokensOf } from './gate-trace.ts';
import { recordedTrace } from './recorded.ts';
import { type Cluster, type Outcome, ours, plainEplb, replay, roundRobin } from './subjects.ts';
import { zipfTrace } from './zipf.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** Traffic that is planned with, further traffic of the same kind, and traffic of another kind, in two parts too. */
interface Traffic {
  name: string;
  seen: GateTrace;
  held: GateTrace;
  shifted: GateTrace;
  shiftedHeld: GateTrace;
}

/** Placements by our planner, plain EPLB and round-robin, replayed on traffic that they were not planned with. */
export const placementSuite: Suite = {
  name: 'placement',
  about: 'our planner beside plain EPLB and round-robin on recorded and synthetic gate traces, 2 to 512 workers',
  async run(context) {
    const curves: Point[] = [];
    const jobs = jobsOf(context);
    for (const [i, { traffic, cluster }] of jobs.entries()) {
      const group = groupOf(traffic().name, cluster);
      context.progress.update(group, i / jobs.length);
      if (!METRICS.some(({ name }) => context.wants(`${group}/${name}`))) continue;
      curves.push(compare(context, group, traffic(), cluster));
    }
    await addCharts(context, curves);
  },
};

interface Job {
  traffic: () => Traffic;
  cluster: Cluster;
}

function groupOf(traffic: string, { numWorkers }: Cluster): string {
  return `placement/${traffic}/${numWorkers}-workers`;
}

function jobsOf({ options }: BenchContext): Job[] {
  const tiny = once(() => recordedTraffic(options.root));
  const numLayers = layersOf(options);
  const zipf = once(() => zipfTraffic(numLayers));
  return [
    ...[2, 4, 8].map((numWorkers) => ({ traffic: tiny, cluster: tinyCluster(numWorkers) })),
    ...[4, 8, 16, 32, 64, 128, 256, 512].map((numWorkers) => ({ traffic: zipf, cluster: largeCluster(numWorkers) })),
  ];
}

/** Layers of the large shape; they differ in their random numbers only, so that fewer tell nearly the same. */
function layersOf({ size }: BenchOptions): number {
  return size === 'bench' ? 60 : 20;
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | null = null;
  return () => (made ??= { value: make() }).value;
}

/** Chat is planned with and replayed; then the traffic becomes recall of pairs. */
function recordedTraffic(root: string): Traffic {
  return {
    name: 'tiny',
    ...halves(recordedTrace(root, 'chat'), 2 / 3),
    ...shiftOf(recordedTrace(root, 'recall'), 2 / 3),
  };
}

function zipfTraffic(numLayers: number): Traffic {
  const shape = { seed: 1, numLayers, numExperts: 512, topK: 10, tokens: 6144, exponent: 1, topics: 16, together: 0.5 };
  const name = '397b-zipf';
  return {
    name,
    ...halves(zipfTrace({ ...shape, turn: 0 }), 2 / 3),
    ...shiftOf(zipfTrace({ ...shape, turn: 1 }), 2 / 3),
  };
}

function halves(trace: GateTrace, share: number): { seen: GateTrace; held: GateTrace } {
  const cut = Math.floor(tokensOf(trace) * share);
  return { seen: part(trace, 0, cut), held: part(trace, cut, tokensOf(trace)) };
}

function shiftOf(trace: GateTrace, share: number): { shifted: GateTrace; shiftedHeld: GateTrace } {
  const { seen, held } = halves(trace, share);
  return { shifted: seen, shiftedHeld: held };
}

/** The tiny model on small CPU workers behind gRPC on one machine. */
function tinyCluster(numWorkers: number): Cluster {
  return {
    numWorkers,
    replicas: numWorkers * Math.ceil(20 / numWorkers),
    expertBytes: 3 * 256 * 128 * 2,
    usPerRow: 2,
    usPerMessage: 40,
    batchTokens: 32,
    weights: { threshold: 0.1, usPerExtraWorker: 5, usPerMovedMib: 0.01 },
  };
}

/**
 * The 397B shape: FP8 experts, a fifth more memory than one copy takes, 256 tokens a step, rows of 8 KiB that take
 * 180 µs over a link of 100 Gbit/s for each worker that all tokens visit.
 */
function largeCluster(numWorkers: number): Cluster {
  return {
    numWorkers,
    replicas: numWorkers * Math.ceil(640 / numWorkers),
    expertBytes: 3 * 4096 * 1024,
    usPerRow: 1,
    usPerMessage: 50,
    batchTokens: 256,
    weights: { threshold: 0.1, usPerExtraWorker: 180, usPerMovedMib: 0.02 },
  };
}

interface Contest {
  ours: Outcome;
  /** Our plan when workers per token are worth nothing. */
  even: Outcome;
  eplb: Outcome;
  roundRobin: Outcome;
  /** After the traffic has changed and each has planned again. */
  oursShifted: Outcome;
  eplbShifted: Outcome;
  /** What is in force when nothing is done. */
  stale: Outcome;
}

interface Point {
  traffic: string;
  cluster: Cluster;
  contest: Contest;
}

function contestOf({ seen, held, shifted, shiftedHeld }: Traffic, cluster: Cluster): Contest {
  const byLoad = { ...cluster, weights: { ...cluster.weights, usPerExtraWorker: 0 } };
  const planned = ours(cluster, seen, null);
  const eplbPlanned = plainEplb(cluster, seen);
  const after = (assignment: Assignment, current: Assignment): Outcome =>
    replay(cluster, shiftedHeld, assignment, current);
  return {
    ours: replay(cluster, held, planned, null),
    even: replay(cluster, held, ours(byLoad, seen, null), null),
    eplb: replay(cluster, held, eplbPlanned, null),
    roundRobin: replay(cluster, held, roundRobin(cluster, held), null),
    oursShifted: after(ours(cluster, shifted, planned), planned),
    eplbShifted: after(plainEplb(cluster, shifted), eplbPlanned),
    stale: after(planned, planned),
  };
}

interface Metric {
  name: string;
  unit: string;
  digits: number;
  of: (contest: Contest) => { value: number; eplb: number; others: Record<string, number> };
}

const METRICS: readonly Metric[] = [
  {
    name: 'time',
    unit: 'ms/step',
    digits: 2,
    of: (c) => ({
      value: c.ours.timeUs / 1e3,
      eplb: c.eplb.timeUs / 1e3,
      others: { 'round-robin': c.roundRobin.timeUs / 1e3 },
    }),
  },
  {
    name: 'workers-per-token',
    unit: 'workers',
    digits: 2,
    of: (c) => ({
      value: c.ours.workersPerToken,
      eplb: c.eplb.workersPerToken,
      others: { 'round-robin': c.roundRobin.workersPerToken },
    }),
  },
  {
    name: 'slowest',
    unit: 'ms/step',
    digits: 2,
    of: (c) => ({
      value: c.ours.replayedUs / 1e3,
      eplb: c.eplb.replayedUs / 1e3,
      others: { 'round-robin': c.roundRobin.replayedUs / 1e3, 'planned for it alone': c.even.replayedUs / 1e3 },
    }),
  },
  {
    name: 'imbalance',
    unit: 'max/mean',
    digits: 3,
    of: (c) => ({
      value: c.ours.imbalance,
      eplb: c.eplb.imbalance,
      others: { 'round-robin': c.roundRobin.imbalance, 'planned for it alone': c.even.imbalance },
    }),
  },
  {
    name: 'shift/time',
    unit: 'ms/step',
    digits: 2,
    of: (c) => ({
      value: c.oursShifted.timeUs / 1e3,
      eplb: c.eplbShifted.timeUs / 1e3,
      others: { 'before moving': c.stale.timeUs / 1e3 },
    }),
  },
  {
    name: 'shift/moved',
    unit: 'MiB',
    digits: 1,
    of: (c) => ({ value: c.oursShifted.bytesMoved / MIB, eplb: c.eplbShifted.bytesMoved / MIB, others: {} }),
  },
];

function compare(context: BenchContext, group: string, traffic: Traffic, cluster: Cluster): Point {
  const contest = contestOf(traffic, cluster);
  for (const { name, unit, digits, of } of METRICS) {
    const { value, eplb, others } = of(contest);
    const note = Object.entries(others).map(([who, figure]) => `${who}: ${figure.toFixed(digits)}`);
    // Nothing moved is no base of a ratio.
    const peer = value > 0 ? { name: 'plain EPLB', values: [eplb] } : null;
    if (peer === null) note.push(`plain EPLB: ${eplb.toFixed(digits)}`);
    context.add(
      makeRow({ name: `${group}/${name}`, unit, values: [value], better: 'less', peer, note: note.join('; ') || null }),
    );
  }
  return { traffic: traffic.name, cluster, contest };
}

async function addCharts(context: BenchContext, points: readonly Point[]): Promise<void> {
  const large = points.filter(({ traffic }) => traffic !== 'tiny');
  if (large.length > 1) {
    const layers = layersOf(context.options);
    const x = { title: 'workers', scale: 'log2', ticks: large.map(({ cluster }) => cluster.numWorkers) } as const;
    const curve = (name: string, of: (contest: Contest) => number): ChartSeries => ({
      name,
      points: large.map(({ cluster, contest }) => ({ x: cluster.numWorkers, y: of(contest) })),
    });
    const subtitle = `512 experts, top 10, ${layers} layers, 256 tokens a step; traffic that was not planned with`;
    const time = await renderLineChart({
      title: 'Step time: slowest worker and wire, by prediction',
      subtitle,
      x,
      y: { title: 'ms', scale: 'linear', fromZero: true },
      series: [
        curve('ours', ({ ours: one }) => one.timeUs / 1e3),
        curve('plain EPLB', ({ eplb }) => eplb.timeUs / 1e3),
        curve('round-robin', ({ roundRobin: one }) => one.timeUs / 1e3),
      ],
    });
    context.attach('time.png', time);
    const workers = await renderLineChart({
      title: 'Distinct workers of one token in a layer',
      subtitle,
      x,
      y: { title: 'workers', scale: 'linear', fromZero: true },
      series: [
        curve('ours', ({ ours: one }) => one.workersPerToken),
        curve('plain EPLB', ({ eplb }) => eplb.workersPerToken),
        curve('round-robin', ({ roundRobin: one }) => one.workersPerToken),
      ],
    });
    context.attach('workers.png', workers);
    context.attach('moved.png', await renderBarChart(movedChart(large, subtitle)));
  }
}

function movedChart(points: readonly Point[], subtitle: string): BarChart {
  return {
    title: 'Weights that move when the traffic changes',
    subtitle,
    y: { title: 'GiB', scale: 'linear' },
    bars: points.flatMap(({ cluster, contest }) => [
      { category: String(cluster.numWorkers), series: 'ours', value: contest.oursShifted.bytesMoved / GIB },
      { category: String(cluster.numWorkers), series: 'plain EPLB', value: contest.eplbShifted.bytesMoved / GIB },
    ]),
  };
}
