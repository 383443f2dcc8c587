import { Cluster } from '@guildhall/test/harness';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ModelSize } from '../models/specs.ts';
import { makeRow } from '../report.ts';
import type { BenchContext } from '../suite.ts';
import type { Subject } from './flags.ts';
import { figuresOf, type ReplayFigures, type Targets } from './goodput.ts';
import { type StreamedCompletion, streamCompletion } from './http.ts';
import { makeTrace, promptOf, type Trace, type TraceShape, traceTokens } from './trace.ts';

/** A way to serve the trace. All have the same native threads and the same KV memory in all. */
interface Setup {
  name: string;
  routers: number;
  routing: 'kv' | 'round-robin';
  cache: 'exact' | 'off';
  about: string;
}

const SETUPS: Setup[] = [
  { name: 'off', routers: 1, routing: 'kv', cache: 'off', about: 'one router without a cache' },
  { name: 'one', routers: 1, routing: 'kv', cache: 'exact', about: 'one router' },
  { name: 'round-robin', routers: 2, routing: 'round-robin', cache: 'exact', about: 'two routers in turn' },
  { name: 'kv-aware', routers: 2, routing: 'kv', cache: 'exact', about: 'two routers, chosen by what they hold' },
];
/** What a set-up is held against, and by how much it must be better. */
const AGAINST: Record<string, { setup: string; target: number }> = {
  one: { setup: 'off', target: 1 },
  'kv-aware': { setup: 'round-robin', target: 1 },
};

const ROWS = ['goodput', 'output', 'met', 'hits', 'ttft-p50', 'ttft-p99'] as const;

const TARGETS: Targets = { ttftMs: 1000, tpotMs: 100 };
/** Of all routers together. */
const PAGES: Record<ModelSize, number> = { bench: 2048, multilingual: 2048, small: 256 };

/** Chosen so that a router without a cache is overloaded on two cores and one with a cache is not. */
function shapeOf(size: ModelSize, vocab: number): TraceShape {
  const small = size === 'small';
  return {
    seed: 20_261_127,
    users: small ? 4 : 36,
    systems: 3,
    systemTokens: small ? 256 : 2048,
    turns: small ? 2 : 5,
    meanTurnTokens: small ? 40 : 160,
    meanAnswerTokens: small ? 8 : 48,
    forks: 0.25,
    arrivalsPerSecond: small ? 8 : 1.5,
    meanThinkMs: small ? 50 : 800,
    vocab,
  };
}

/** Sends each turn when it is due; resolves with what came back, in the order of the trace. */
async function replay(url: string, trace: Trace): Promise<StreamedCompletion[]> {
  const answers: Promise<StreamedCompletion>[] = [];
  for (const [index, { after, answer, delayMs }] of trace.entries()) {
    const before = after === null ? undefined : answers[after];
    answers.push(
      (async () => {
        await before;
        await sleep(delayMs);
        return streamCompletion({ url, prompt: promptOf(trace, index), maxTokens: answer.length });
      })(),
    );
  }
  return Promise.all(answers);
}

async function runSetup(context: BenchContext, subject: Subject, setup: Setup, trace: Trace): Promise<ReplayFigures> {
  const { threads, size } = context.options;
  const cluster = await Cluster.start({
    model: subject.model,
    weights: subject.weights as never,
    workers: 0,
    routers: setup.routers,
    threads: Math.max(1, Math.floor(threads / setup.routers)),
    routerArgs: ['--experts=local', `--prefix-cache=${setup.cache}`, `--num-pages=${PAGES[size] / setup.routers}`],
    gatewayArgs: ['--routing', setup.routing],
  });
  try {
    // Each router learns what its steps cost.
    for (let number = 1; number <= setup.routers; number++) {
      const client = await cluster.routerClient(number);
      for (let run = 0; run < 2; run++) await client.generate({ promptIds: promptOf(trace, 0).slice(0, 700) });
    }
    const figures = figuresOf(await replay(cluster.url, trace), TARGETS);
    if (setup.cache === 'off' && figures.hitShare !== 0) throw new Error('a router without a cache had hits');
    return figures;
  } finally {
    await cluster.stop();
  }
}

/** Goodput of the trace under each set-up, runs interleaved so that all see the same states of the machine. */
export async function measureGoodput(context: BenchContext, subject: Subject): Promise<void> {
  const group = `prefix/${subject.name}/trace`;
  // Each row is asked for, so that known ones join the report.
  const missing = (name: string): string[] => ROWS.filter((row) => context.wants(`${group}/${name}/${row}`));
  const wanted = SETUPS.filter(({ name }) => missing(name).length > 0);
  if (wanted.length === 0) return;
  const { options, progress } = context;
  const trace = makeTrace(shapeOf(options.size, subject.vocab));
  const figures = new Map<string, ReplayFigures[]>(wanted.map(({ name }) => [name, []]));
  const runs = Math.min(options.runs, options.size === 'small' ? 1 : 3);
  for (let run = 0; run < runs; run++) {
    for (const setup of wanted) {
      progress.update(`${group}/${setup.name}: run ${run + 1} of ${runs}`, run / runs);
      figures.get(setup.name)?.push(await runSetup(context, subject, setup, trace));
    }
  }
  for (const setup of wanted) addRows(context, group, setup, trace, figures);
}

function addRows(
  context: BenchContext,
  group: string,
  { name, about }: Setup,
  trace: Trace,
  figures: ReadonlyMap<string, readonly ReplayFigures[]>,
): void {
  const all = figures.get(name) ?? [];
  const against = AGAINST[name];
  const other = against === undefined ? undefined : figures.get(against.setup);
  const { prompts, answers } = traceTokens(trace);
  const note =
    `${about}; ${trace.length} requests, ${prompts} prompt tokens, ${answers} answered; ` +
    `counted are those with a first token within ${TARGETS.ttftMs} ms and ${TARGETS.tpotMs} ms a token`;
  const of = (key: keyof ReplayFigures): number[] => all.map((one) => one[key]);
  const row = `${group}/${name}/goodput`;
  const peer =
    against === undefined || other === undefined
      ? null
      : { name: against.setup, values: other.map(({ goodput }) => goodput) };
  const target = peer === null ? null : (against?.target ?? null);
  context.add(makeRow({ name: row, unit: 'tokens/s', values: of('goodput'), peer, target, note }));
  for (const [suffix, key, unit, better] of [
    ['output', 'output', 'tokens/s', 'more'],
    ['met', 'met', 'share', 'more'],
    ['hits', 'hitShare', 'share', 'more'],
    ['ttft-p50', 'ttftP50', 'ms', 'less'],
    ['ttft-p99', 'ttftP99', 'ms', 'less'],
  ] as const) {
    context.add(makeRow({ name: `${group}/${name}/${suffix}`, unit, values: of(key), better }));
  }
}
