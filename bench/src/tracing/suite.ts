import { createServer } from 'node:http';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { makeRow } from '../report.ts';
import { runStreams } from '../serving/streams.ts';
import { ServedStack } from '../serving/stack.ts';
import type { BenchContext, Suite } from '../suite.ts';

const STREAMS = 8;
const PROMPT_TOKENS = 64;
const MAX_TOKENS = 120;
const TINY_VOCAB = 1000;
/** Share of the time without a collector that a step may take with one and the default ratios. */
const TARGET = 0.98;

/** How the requests of a round are traced. */
interface Mode {
  name: string;
  note: string;
  /** Which stack answers: one without a collector, or one with. */
  stack: 'off' | 'default' | 'every-step';
  /** The caller's decision; null leaves it to the ratio. */
  sampled: boolean | null;
  target: number | null;
}

const MODES: readonly Mode[] = [
  { name: 'off', note: 'no collector', stack: 'off', sampled: null, target: null },
  { name: 'unsampled', note: 'a collector, no request traced', stack: 'default', sampled: false, target: TARGET },
  { name: 'default', note: 'a collector, 1 % of requests traced', stack: 'default', sampled: null, target: TARGET },
  { name: 'traced', note: 'every request traced, 2 % of steps', stack: 'default', sampled: true, target: null },
  { name: 'every-step', note: 'every request and step traced', stack: 'every-step', sampled: true, target: null },
];

/** The tiny model in two workers, so that a step is as short, and a span as dear beside it, as it ever gets. */
export const tracingSuite: Suite = {
  name: 'tracing',
  about: 'time of a decode step without a collector, with one, and with requests traced; two workers, the tiny model',
  async run(context) {
    if (MODES.every(({ name }) => !context.wants(`tracing/step-${name}`))) return;
    const collector = await discardingCollector();
    const stacks = new Map<string, ServedStack>();
    try {
      for (const { stack } of MODES)
        if (!stacks.has(stack)) stacks.set(stack, await startStack(context, stack, collector.url));
      report(context, await measure(context, stacks));
    } finally {
      for (const stack of stacks.values()) {
        await stack.stop();
        stack.dispose();
      }
      collector.close();
    }
  },
};

/** A collector that reads and forgets, so that only sending is measured. */
async function discardingCollector(): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, response) => {
    request.resume().once('end', () => response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the collector has no address');
  return { url: `http://127.0.0.1:${address.port}/otlp`, close: () => void server.close() };
}

function startStack(context: BenchContext, kind: Mode['stack'], url: string): Promise<ServedStack> {
  const { root } = context.options;
  const env: Record<string, string> = kind === 'every-step' ? { GUILDHALL_TRACE_STEP_RATIO: '1' } : {};
  const model = join(root, 'models', 'tiny');
  return ServedStack.start({
    root,
    model,
    weights: 'bf16',
    threads: 1,
    profile: false,
    experts: 'remote',
    otlp: kind === 'off' ? null : url,
    env,
  });
}

/** Milliseconds of a token, for each mode and run; the modes take turns within a run. */
async function measure(
  context: BenchContext,
  stacks: ReadonlyMap<string, ServedStack>,
): Promise<ReadonlyMap<string, number[]>> {
  const { runs } = context.options;
  const values = new Map<string, number[]>(MODES.map(({ name }) => [name, []]));
  // The first round warms everything.
  for (let run = 0; run <= runs; run++) {
    context.progress.update('tracing', run / (runs + 1));
    for (const mode of run % 2 === 0 ? MODES : MODES.toReversed()) {
      const stack = stacks.get(mode.stack);
      if (stack === undefined) throw new Error(`no stack ${mode.stack}`);
      const ms = await tokenMs(stack, mode.sampled);
      if (run > 0) values.get(mode.name)?.push(ms);
    }
  }
  return values;
}

/** Mean time between tokens of all streams of a round, as the gateway measures it. */
async function tokenMs(stack: ServedStack, sampled: boolean | null): Promise<number> {
  const before = await gap(stack.url);
  const { url, model } = stack;
  await runStreams({
    url,
    model,
    count: STREAMS,
    promptTokens: PROMPT_TOKENS,
    maxTokens: MAX_TOKENS,
    vocab: TINY_VOCAB,
    ...(sampled === null ? {} : { headers: () => ({ traceparent: traceparent(sampled) }) }),
  });
  const after = await gap(stack.url);
  return (1000 * (after.sum - before.sum)) / (after.count - before.count);
}

function traceparent(sampled: boolean): string {
  const [trace, span] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  return `00-${trace}-${span}-${sampled ? '01' : '00'}`;
}

async function gap(url: string): Promise<{ sum: number; count: number }> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const valueOf = (part: string): number =>
    Number(new RegExp(`^vllm:inter_token_latency_seconds_${part}\\{.*\\} (.*)$`, 'm').exec(text)?.[1] ?? 0);
  return { sum: valueOf('sum'), count: valueOf('count') };
}

function report(context: BenchContext, values: ReadonlyMap<string, number[]>): void {
  const about = `${STREAMS} streams of ${MAX_TOKENS} tokens`;
  for (const { name, note, target } of MODES) {
    const peer = name === 'off' ? null : { name: 'no collector, same round', values: values.get('off') ?? [] };
    context.add(
      makeRow({
        name: `tracing/step-${name}`,
        unit: 'ms',
        values: values.get(name) ?? [],
        better: 'less',
        peer,
        target,
        note: `${note}; ${about}`,
      }),
    );
  }
}
