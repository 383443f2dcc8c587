import { modelFiles, type ModelFiles } from '../models/ensure.ts';
import { makeRow } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import type { Work } from '../subjects/protocol.ts';
import { Subject } from '../subjects/subject.ts';
import { loopUse } from './loop-profile.ts';
import { ServedStack } from './stack.ts';
import { latencies, percentile, rateWithin, runStreams, type StreamTimes, wholeRate, windowOf } from './streams.ts';

const STREAMS = 16;
const LOOP_STREAMS = 32;
const PROMPT_TOKENS = 64;
const MAX_TOKENS = 96;
/** So many that all streams generate for seconds after the last one has begun. */
const LOOP_TOKENS = 224;
/** Share of the engine's own rate that must reach clients. */
const RATE_TARGET = 0.9;
/** Share of a decode step that the loop around it may take. */
const LOOP_LIMIT = 0.03;

/** The HTTP API with experts in the router's process, beside the engine alone on the same weights. */
export const servingSuite: Suite = {
  name: 'serving',
  about: 'output tokens/s of 16 HTTP streams beside the engine alone; latencies; what the engine loop costs',
  async run(context) {
    for (const name of context.options.models) {
      const files = modelFiles(context.options, name, context.progress);
      for (const weights of context.options.weights ?? ['bf16', 'q8', 'q4']) {
        const group = `serving/${name}/${weights}`;
        if (context.wants(`${group}/output-${STREAMS}`)) await measureRates(context, files, weights, group);
        if (context.wants(`${group}/loop-${LOOP_STREAMS}`)) await measureLoop(context, files, weights, group);
      }
    }
  },
};

/** The engine's rounds and those of the API in turn, so that both see the same state of the machine. */
async function measureRates(context: BenchContext, files: ModelFiles, weights: string, group: string): Promise<void> {
  const { options, progress } = context;
  const { threads, size, root, runs } = options;
  const vocab = files.spec.text.vocab_size;
  const work: Work = { kind: 'batch', sequences: STREAMS, depth: PROMPT_TOKENS, steps: 12 };
  progress.update(`${group}: loading`, 0);
  const spec = { model: files.dir, weights, threads, size, vocab, depth: 512, sequences: STREAMS, cacheDir: files.dir };
  const engine = await Subject.start('./guildhall.ts', spec);
  const stack = await ServedStack.start({ root, model: files.dir, weights, threads, profile: false });
  const rates: number[] = [];
  const alone: number[] = [];
  const rounds: StreamTimes[][] = [];
  try {
    await engine.prepare(work);
    for (let run = 0; run <= runs; run++) {
      progress.update(`${group}: ${STREAMS} streams`, run / (runs + 1));
      const before = (STREAMS * work.steps) / (await engine.run(work)).seconds;
      const streams = await httpRound(stack, STREAMS, vocab);
      const after = (STREAMS * work.steps) / (await engine.run(work)).seconds;
      // The first round warms everything.
      if (run === 0) continue;
      alone.push((before + after) / 2);
      rates.push(rateWithin(streams, windowOf(streams)));
      rounds.push(streams);
    }
  } finally {
    await Promise.all([engine.close(), stack.stop()]);
    stack.dispose();
  }
  addRates(context, group, rates, alone, rounds);
}

function addRates(
  context: BenchContext,
  group: string,
  rates: number[],
  alone: number[],
  rounds: StreamTimes[][],
): void {
  const peer = { name: 'our engine alone, same batch', values: alone };
  const about = `${STREAMS} streams, prompts of ${PROMPT_TOKENS} tokens, answers of ${MAX_TOKENS}`;
  context.add(
    makeRow({
      name: `${group}/output-${STREAMS}`,
      unit: 'tokens/s',
      values: rates,
      peer,
      target: RATE_TARGET,
      note: `${about}; while all of them generate`,
    }),
  );
  context.add(
    makeRow({
      name: `${group}/output-${STREAMS}-with-prompts`,
      unit: 'tokens/s',
      values: rounds.map(wholeRate),
      peer,
      note: `${about}; from the first request to the last token`,
    }),
  );
  const all = rounds.map(latencies);
  const figures = [
    ['ttft-p50', all.map(({ first }) => percentile(first, 0.5))],
    ['ttft-p99', all.map(({ first }) => percentile(first, 0.99))],
    ['tpot-p50', all.map(({ between }) => percentile(between, 0.5))],
    ['tpot-p99', all.map(({ between }) => percentile(between, 0.99))],
  ] as const;
  for (const [name, values] of figures) {
    context.add(makeRow({ name: `${group}/${name}`, unit: 'ms', values, better: 'less', note: about }));
  }
}

async function httpRound(
  stack: ServedStack,
  count: number,
  vocab: number,
  maxTokens = MAX_TOKENS,
): Promise<StreamTimes[]> {
  const { url, model } = stack;
  return runStreams({ url, model, count, promptTokens: PROMPT_TOKENS, maxTokens, vocab });
}

/** Profiles of router and gateway while all streams generate. */
async function measureLoop(context: BenchContext, files: ModelFiles, weights: string, group: string): Promise<void> {
  const { options, progress } = context;
  const { root, threads } = options;
  const vocab = files.spec.text.vocab_size;
  progress.update(`${group}: profile`, 0);
  const stack = await ServedStack.start({ root, model: files.dir, weights, threads, profile: true });
  try {
    const pids = stack.pids();
    await httpRound(stack, LOOP_STREAMS, vocab, 2);
    const offsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();
    const { from, to } = windowOf(await httpRound(stack, LOOP_STREAMS, vocab, LOOP_TOKENS));
    await stack.stop();
    const uses = ['router-1', 'gateway-1'].flatMap((process) => {
      const profile = stack.profileOf(pids.get(process) ?? -1);
      if (profile === null) return [];
      return [{ process, ...loopUse(profile, { fromMs: from + offsetMs, toMs: to + offsetMs }) }];
    });
    addLoop(context, `${group}/loop-${LOOP_STREAMS}`, uses, (to - from) / 1000);
  } finally {
    await stack.stop();
    stack.dispose();
  }
}

/** What the main threads took, each and together: detokenising and SSE are the gateway's. */
function addLoop(
  context: BenchContext,
  name: string,
  uses: { process: string; share: number; top: string[] }[],
  seconds: number,
): void {
  const about = `in ${seconds.toFixed(1)} s while ${LOOP_STREAMS} streams decode`;
  const row = (rowName: string, share: number, target: number | null, note: string): void => {
    const peer = { name: 'limit', values: [LOOP_LIMIT * 100] };
    context.add(
      makeRow({ name: rowName, unit: '% of the time', values: [share * 100], better: 'less', peer, target, note }),
    );
  };
  const total = uses.reduce((sum, { share }) => sum + share, 0);
  row(name, total, 1, `main threads of ${uses.map(({ process }) => process).join(' and ')} ${about}`);
  for (const { process, share, top } of uses) {
    row(`${name}-${process.replace(/-1$/, '')}`, share, null, `main thread ${about}; ${top.join('; ')}`);
  }
}
