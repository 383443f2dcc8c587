/** Entry '@guildhall/bench/calibrate': measures clusters on this machine, for the simulator to be held against. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, type Sample, sumOf } from '@guildhall/test/harness';
import { cpuMsOf, machineCpuMs } from './cpu.ts';

export {
  measureServing,
  type DecodeMeasurement,
  type MemoryMeasurement,
  type PromptMeasurement,
  type ServingLoad,
  type ServingMeasurement,
  type ServingSetup,
} from './serving-rig.ts';
export { Bandwidth } from '../bandwidth.ts';
export { ensureModel } from '../models/generate.ts';

export interface MeasureOptions {
  workers: number;
  /** Streams at a time, one measurement each. */
  streams: readonly number[];
  secondsEach: number;
  /** Told what is about to be measured. */
  onProgress: (label: string) => void;
}

/** What one cluster did with a number of streams. Times are milliseconds; CPU times are those of all threads. */
export interface Measurement {
  workers: number;
  streams: number;
  seconds: number;
  tokens: number;
  tokensPerSecond: number;
  interTokenMs: { p50: number; p99: number };
  steps: number;
  /** Of a decode step, and of a layer's rows from sending them to the last reply. */
  stepMs: number;
  layerMs: number;
  messages: number;
  /** (row, expert) pairs that workers computed. */
  rows: number;
  routerCpuMs: number;
  workerCpuMs: number;
  /** What workers say that they computed for. */
  workerComputeMs: number;
  clientCpuMs: number;
  /** Cores that other processes of the machine used meanwhile, on average. */
  otherCores: number;
}

const PROMPT_TOKENS = 16;
const MAX_TOKENS = 100_000;
/** Tokens of each stream before anything is measured. */
const WARM_TOKENS = 40;

/**
 * Starts Redis, a controller, workers and a router with the model `tiny` as processes of one native thread each, and
 * has streams generate. Everything is ended at the end.
 */
export async function measureCluster(options: MeasureOptions): Promise<Measurement[]> {
  const { workers, streams, onProgress } = options;
  onProgress(`starting ${workers} workers`);
  const cluster = await Cluster.start({
    workers,
    threads: 1,
    gateway: false,
    controllerArgs: ['--replicas', '1', '--max-replicas', '1', '--rebalance-ms', '0'],
    expertArgs: ['--core-leases', 'on'],
    routerArgs: ['--core-leases', 'on', '--max-running', '64'],
  });
  try {
    const measured: Measurement[] = [];
    for (const count of streams) {
      onProgress(`${workers} workers, ${count} streams`);
      measured.push(await measure(cluster, options, count));
    }
    return measured;
  } finally {
    await cluster.stop();
  }
}

async function measure(cluster: Cluster, options: MeasureOptions, count: number): Promise<Measurement> {
  const client = await cluster.routerClient(1);
  const calls = Array.from({ length: count }, (_, stream) =>
    client.start({
      promptIds: Array.from({ length: PROMPT_TOKENS }, (_id, i) => 5 + ((stream * 131 + i * 17) % 2900)),
      sampling: { temperature: 1, seed: BigInt(stream + 1) },
      stop: { maxTokens: MAX_TOKENS },
    }),
  );
  try {
    while (calls.some(({ answer }) => answer.tokenTimes.length < WARM_TOKENS)) {
      const failed = calls.find(({ answer }) => answer.error !== null);
      if (failed !== undefined) throw failed.answer.error as Error;
      await sleep(20);
    }
    const from = await look(cluster);
    await sleep(options.secondsEach * 1000);
    const to = await look(cluster);
    return summary(options.workers, from, to, calls);
  } finally {
    for (const call of calls) call.cancel();
    await Promise.all(calls.map(async ({ done }) => done));
  }
}

/** Counters of all processes at one moment. */
interface Look {
  at: number;
  clientCpuMs: number;
  routerCpuMs: number;
  workerCpuMs: number;
  machineCpuMs: number;
  router: Sample[];
  workers: Sample[];
}

async function look(cluster: Cluster): Promise<Look> {
  const router = cluster.router(1);
  const { user, system } = process.cpuUsage();
  const cpu = {
    at: performance.now(),
    clientCpuMs: (user + system) / 1000,
    routerCpuMs: cpuMsOf(router.pid),
    workerCpuMs: cluster.experts.reduce((sum, expert) => sum + cpuMsOf(expert.pid), 0),
    machineCpuMs: machineCpuMs(),
  };
  const workers = await Promise.all(cluster.experts.map(async (expert) => cluster.samples(expert)));
  return { ...cpu, router: await cluster.samples(router), workers: workers.flat() };
}

function summary(workers: number, from: Look, to: Look, calls: readonly { answer: { tokenTimes: number[] } }[]) {
  const of = (page: 'router' | 'workers', name: string, labels = ''): number =>
    sumOf(to[page], name, labels) - sumOf(from[page], name, labels);
  const decode = 'lane="decode"';
  const gaps = calls.flatMap(({ answer: { tokenTimes } }) =>
    tokenTimes.flatMap((at, i) => (i > 0 && at > from.at && at <= to.at ? [at - (tokenTimes[i - 1] ?? at)] : [])),
  );
  gaps.sort((a, b) => a - b);
  const gapAt = (share: number): number => gaps[Math.floor(share * gaps.length)] ?? NaN;
  const seconds = (to.at - from.at) / 1000;
  const steps = of('router', 'guildhall_step_seconds_count', decode);
  const routerCpuMs = to.routerCpuMs - from.routerCpuMs;
  const workerCpuMs = to.workerCpuMs - from.workerCpuMs;
  const clientCpuMs = to.clientCpuMs - from.clientCpuMs;
  const ours = routerCpuMs + workerCpuMs + clientCpuMs;
  const layers = of('router', 'guildhall_dispatch_seconds_count', decode);
  return {
    workers,
    streams: calls.length,
    seconds,
    tokens: gaps.length,
    tokensPerSecond: gaps.length / seconds,
    interTokenMs: { p50: gapAt(0.5), p99: gapAt(0.99) },
    steps,
    stepMs: (1000 * of('router', 'guildhall_step_seconds_sum', decode)) / steps,
    layerMs: (1000 * of('router', 'guildhall_dispatch_seconds_sum', decode)) / layers,
    messages: of('router', 'guildhall_dispatch_messages_total'),
    rows: of('router', 'guildhall_expert_rows_total'),
    routerCpuMs,
    workerCpuMs,
    workerComputeMs: 1000 * of('workers', 'guildhall_expert_compute_seconds_sum', decode),
    clientCpuMs,
    otherCores: Math.max(0, (to.machineCpuMs - from.machineCpuMs - ours) / (to.at - from.at)),
  };
}
