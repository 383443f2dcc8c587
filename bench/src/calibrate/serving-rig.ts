import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, type RouterClient, type Sample, sumOf } from '@guildhall/test/harness';
import { cpuMsOf, machineCpuMs } from './cpu.ts';
import { residentBytes, type Resident } from './resident.ts';

/** A cluster to measure: a router and workers as processes of this machine, or a router with its experts. */
export interface ServingSetup {
  model: string;
  weights: 'f32' | 'bf16' | 'fp8' | 'q8' | 'q4';
  /** 0: experts in the router. */
  workers: number;
  threads: number;
  /** Of the router; sizes of its pools follow from them. */
  maxRunning: number;
  kvMemoryMib: number;
}

/** What is asked of it. */
export interface ServingLoad {
  /** Streams at a time that only generate. */
  streams: readonly number[];
  /** Prompts that are computed alone, tokens. */
  prompts: readonly number[];
  secondsEach: number;
  /** Largest token id. */
  vocab: number;
  onProgress: (label: string) => void;
}

/** So many streams that generate. Times are milliseconds, CPU times those of all threads, per decode step. */
export interface DecodeMeasurement {
  streams: number;
  tokensPerSecond: number;
  /** Mean time between two tokens of a stream. */
  itlMs: number;
  itlP99Ms: number;
  stepMs: number;
  /** Mean context of a stream meanwhile, tokens. */
  context: number;
  messages: number;
  rows: number;
  routerCpuMs: number;
  workerCpuMs: number;
  clientCpuMs: number;
  /** Cores that other processes of the machine used meanwhile, on average. */
  otherCores: number;
}

/** A prompt that comes alone. */
export interface PromptMeasurement {
  promptTokens: number;
  /** First tokens of each try, and their median. */
  ttftMs: number;
  tries: number[];
}

/** Memory of a process: what the native library accounts for by kind, and what the kernel says. */
export interface MemoryMeasurement {
  process: string;
  native: Record<string, number>;
  resident: Resident;
}

export interface ServingMeasurement {
  setup: ServingSetup;
  decode: DecodeMeasurement[];
  prompts: PromptMeasurement[];
  memory: MemoryMeasurement[];
}

const SHORT_PROMPT = 16;
const MAX_TOKENS = 100_000;
const WARM_TOKENS = 20;
const TRIES = 3;
const POLL_MS = 20;

/** Starts a cluster, measures it under each load and ends it. */
export async function measureServing(setup: ServingSetup, load: ServingLoad): Promise<ServingMeasurement> {
  load.onProgress(`starting ${nameOf(setup)}`);
  const cluster = await Cluster.start(clusterOptions(setup));
  try {
    const client = await cluster.routerClient(1);
    const prompts: PromptMeasurement[] = [];
    for (const promptTokens of load.prompts) {
      load.onProgress(`${nameOf(setup)}: a prompt of ${promptTokens}`);
      prompts.push(await measurePrompt(client, promptTokens, load.vocab));
    }
    const decode: DecodeMeasurement[] = [];
    for (const streams of load.streams) {
      load.onProgress(`${nameOf(setup)}: ${streams} streams`);
      decode.push(await measureDecode(cluster, client, streams, load));
    }
    return { setup, decode, prompts, memory: await memoryOf(cluster) };
  } finally {
    await cluster.stop();
  }
}

function nameOf({ model, weights, workers }: ServingSetup): string {
  const where = workers === 0 ? 'local experts' : `${workers} workers`;
  return `${model.split('/').at(-1)} in ${weights}, ${where}`;
}

function clusterOptions(setup: ServingSetup): Parameters<typeof Cluster.start>[0] {
  const { model, weights, workers, threads, maxRunning, kvMemoryMib } = setup;
  const leases = ['--core-leases', 'on'];
  const sizes = ['--max-running', `${maxRunning}`, '--kv-memory', `${kvMemoryMib}MiB`, '--prefix-cache', 'off'];
  return {
    model,
    weights,
    workers,
    threads,
    gateway: false,
    controllerArgs: ['--replicas', '1', '--max-replicas', '1', '--rebalance-ms', '0'],
    expertArgs: leases,
    routerArgs: [...leases, ...sizes, ...(workers === 0 ? ['--experts', 'local'] : [])],
  };
}

let salt = 0;

/** Ids that no earlier prompt begins with. */
function promptIds(count: number, vocab: number): number[] {
  salt += 1;
  return Array.from({ length: count }, (_, i) => 5 + ((salt * 7919 + i * 31) % (vocab - 5)));
}

async function measurePrompt(client: RouterClient, promptTokens: number, vocab: number): Promise<PromptMeasurement> {
  const tries: number[] = [];
  // The first one is not counted: buffers grow, code is compiled.
  for (let i = 0; i <= TRIES; i++) {
    const ids = promptIds(promptTokens, vocab);
    const { sentAt, tokenTimes } = await client.generate({ promptIds: ids, stop: { maxTokens: 1, ignoreEos: true } });
    if (i > 0) tries.push((tokenTimes[0] ?? NaN) - sentAt);
  }
  return { promptTokens, ttftMs: medianOf(tries), tries };
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

async function measureDecode(
  cluster: Cluster,
  client: RouterClient,
  streams: number,
  { secondsEach, vocab }: ServingLoad,
): Promise<DecodeMeasurement> {
  const calls = Array.from({ length: streams }, (_, stream) =>
    client.start({
      promptIds: promptIds(SHORT_PROMPT, vocab),
      sampling: { temperature: 1, seed: BigInt(stream + 1) },
      stop: { maxTokens: MAX_TOKENS, ignoreEos: true },
    }),
  );
  try {
    while (calls.some(({ answer }) => answer.tokenTimes.length < WARM_TOKENS)) {
      const failed = calls.find(({ answer }) => answer.error !== null);
      if (failed?.answer.error) throw failed.answer.error;
      await sleep(POLL_MS);
    }
    const from = await look(cluster);
    await sleep(secondsEach * 1000);
    const to = await look(cluster);
    return summary(from, to, calls);
  } finally {
    for (const call of calls) call.cancel();
    await Promise.all(calls.map(async ({ done }) => done));
  }
}

interface Look {
  at: number;
  routerCpuMs: number;
  workerCpuMs: number;
  clientCpuMs: number;
  machineCpuMs: number;
  router: Sample[];
}

async function look(cluster: Cluster): Promise<Look> {
  const router = cluster.router(1);
  const { user, system } = process.cpuUsage();
  return {
    at: performance.now(),
    routerCpuMs: cpuMsOf(router.pid),
    workerCpuMs: cluster.experts.reduce((sum, expert) => sum + cpuMsOf(expert.pid), 0),
    clientCpuMs: (user + system) / 1000,
    machineCpuMs: machineCpuMs(),
    router: await cluster.samples(router),
  };
}

function summary(from: Look, to: Look, calls: readonly { answer: { tokenTimes: number[] } }[]): DecodeMeasurement {
  const of = (name: string, labels = ''): number => sumOf(to.router, name, labels) - sumOf(from.router, name, labels);
  const gaps = calls.flatMap(({ answer: { tokenTimes } }) =>
    tokenTimes.flatMap((at, i) => (i > 0 && at > from.at && at <= to.at ? [at - (tokenTimes[i - 1] ?? at)] : [])),
  );
  gaps.sort((a, b) => a - b);
  const decode = 'lane="decode"';
  const spent = (of: (look: Look) => number): number => of(to) - of(from);
  const ours = spent(({ routerCpuMs, workerCpuMs, clientCpuMs }) => routerCpuMs + workerCpuMs + clientCpuMs);
  const steps = of('guildhall_step_seconds_count', decode);
  const before = calls.map(({ answer }) => answer.tokenTimes.filter((at) => at <= (from.at + to.at) / 2).length);
  return {
    streams: calls.length,
    tokensPerSecond: (1000 * gaps.length) / (to.at - from.at),
    itlMs: gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length,
    itlP99Ms: gaps[Math.floor(0.99 * gaps.length)] ?? NaN,
    stepMs: (1000 * of('guildhall_step_seconds_sum', decode)) / steps,
    context: SHORT_PROMPT + before.reduce((sum, count) => sum + count, 0) / calls.length,
    messages: of('guildhall_dispatch_messages_total') / steps,
    rows: of('guildhall_expert_rows_total') / steps,
    routerCpuMs: spent((look) => look.routerCpuMs) / steps,
    workerCpuMs: spent((look) => look.workerCpuMs) / steps,
    clientCpuMs: spent((look) => look.clientCpuMs) / steps,
    otherCores: Math.max(0, (spent((look) => look.machineCpuMs) - ours) / (to.at - from.at)),
  };
}

type Service = Cluster['experts'][number];

async function memoryOf(cluster: Cluster): Promise<MemoryMeasurement[]> {
  const named: [string, Service][] = [
    ...cluster.routers.map((process, i): [string, Service] => [`router-${i + 1}`, process]),
    ...cluster.experts.map((process, i): [string, Service] => [`expert-${i + 1}`, process]),
  ];
  return Promise.all(
    named.map(async ([process, service]) => {
      const samples = await cluster.samples(service);
      const kinds = ['weights', 'kv', 'states', 'buffers'];
      const native = kinds.map((kind) => [kind, sumOf(samples, 'guildhall_native_bytes', `kind="${kind}"`)] as const);
      return { process, native: Object.fromEntries(native), resident: residentBytes(service.pid) };
    }),
  );
}
