import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, promptIds, ShortStreams, timedCompletion } from '@guildhall/test/harness';
import { makeRow } from '../report.ts';
import type { BenchContext } from '../suite.ts';

const STREAMS = 2;
/** Share of its undisturbed rate that a stream keeps beside a long prompt, and of its p99 (inverse). */
const RATE_TARGET = 0.5;
const P99_TARGET = 0.25;
const SETTLE_MS = 1500;

/** Rates and p99 of each window, alone and beside. */
interface Windows {
  rates: number[];
  ratesAlone: number[];
  p99: number[];
  p99Alone: number[];
}

/** Streams through the HTTP API beside a prompt of `tiny` that computes all the while, with experts in both places. */
export async function measureBeside(context: BenchContext): Promise<void> {
  const { size } = context.options;
  const tokens = size === 'bench' ? 131_072 : 16_384;
  for (const experts of ['local', 'remote'] as const) {
    const group = `longcontext/tiny/beside-${tokens / 1024}K/${experts}`;
    if (!context.wants(`${group}/rate`) && !context.wants(`${group}/p99`)) continue;
    context.progress.update(`${group}: streams`, 0);
    const windows = await measure(experts, tokens, context.options);
    context.add(
      makeRow({
        name: `${group}/rate`,
        unit: 'tokens/s',
        values: windows.rates,
        peer: { name: 'the same streams alone', values: windows.ratesAlone },
        target: RATE_TARGET,
        note: `${STREAMS} HTTP streams while a prompt of ${tokens} tokens is in prefill`,
      }),
    );
    context.add(
      makeRow({
        name: `${group}/p99`,
        unit: 'ms',
        better: 'less',
        values: windows.p99,
        peer: { name: 'the same streams alone', values: windows.p99Alone },
        target: P99_TARGET,
        note: 'time between two tokens of a stream',
      }),
    );
  }
}

/** Windows alone and beside in turn: the prompt is cancelled after each, and begins a new one for the next. */
async function measure(
  experts: 'local' | 'remote',
  tokens: number,
  { threads, runs, size }: BenchContext['options'],
): Promise<Windows> {
  const local = experts === 'local';
  const windowMs = size === 'bench' ? 10_000 : 2500;
  const cluster = await Cluster.start({
    weights: 'bf16',
    workers: local ? 0 : 2,
    threads,
    gatewayArgs: ['--request-timeout-ms=0'],
    routerArgs: [`--num-pages=${tokens / 64 + 256}`, ...(local ? ['--experts=local'] : [])],
  });
  const windows: Windows = { rates: [], ratesAlone: [], p99: [], p99Alone: [] };
  try {
    const streams = new ShortStreams(cluster, STREAMS);
    await sleep(SETTLE_MS);
    for (let run = 0; run < runs; run++) {
      const alone = await streams.during(windowMs);
      const abort = new AbortController();
      const prompt = timedCompletion(cluster, promptIds(tokens, 7 + run), 1, abort.signal).then(
        () => true,
        () => false,
      );
      const beside = await streams.during(windowMs);
      abort.abort();
      // One that ended before its window would make the figure too good.
      if (await prompt) throw new Error(`a prompt of ${tokens} tokens was done within ${windowMs} ms`);
      windows.ratesAlone.push(alone.rate);
      windows.rates.push(beside.rate);
      windows.p99Alone.push(alone.p99);
      windows.p99.push(beside.p99);
      await sleep(SETTLE_MS);
    }
    await streams.stop();
  } finally {
    await cluster.stop();
  }
  return windows;
}
