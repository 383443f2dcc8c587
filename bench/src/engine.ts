import { loadNative, type StatePool, type StepBuffers } from '@guildhall/native';
import { Checkpoint, LocalExperts, TextModel } from '@guildhall/model';
import { summarize, type BenchOptions, type BenchRow } from './report.ts';

const PAGE_TOKENS = 64;
const PROMPT_TOKENS = 512;
const DECODE_STEPS = 64;
const BATCHES = [1, 8, 32];

/** A model with its experts in this process, and the buffers for the largest batch. */
interface Engine {
  model: TextModel;
  experts: LocalExperts;
  step: StepBuffers;
  kv: ReturnType<TextModel['createKvPool']>;
  states: StatePool | null;
}

async function load(options: BenchOptions): Promise<Engine> {
  const native = loadNative();
  const runtime = new native.Runtime({ threads: options.threads, isa: 'auto', bf16Kernels: 'auto' });
  const checkpoint = Checkpoint.open(options.model, { mapFile: (fd, length) => native.mapFile(fd, length) });
  const { config } = checkpoint;
  const { weights } = options;
  const model = await TextModel.load({ runtime, checkpoint, config, weights });
  const experts = await LocalExperts.load({
    runtime,
    checkpoint,
    config,
    weights,
    mode: 'exact',
    maxMessageBytes: 1 << 20,
  });
  const largest = Math.max(...BATCHES);
  const pages = largest * ((PROMPT_TOKENS + DECODE_STEPS) / PAGE_TOKENS + 1);
  return {
    model,
    experts,
    step: model.createStepBuffers({ maxTokens: PROMPT_TOKENS, maxLogitRows: largest }),
    kv: model.createKvPool(pages),
    states: model.createStatePool(largest),
  };
}

/** One forward in which each of `batch` sequences advances by `tokens`, from `context` tokens on. */
async function forward(engine: Engine, batch: number, tokens: number, context: number): Promise<void> {
  const total = batch * tokens;
  const each = (value: (sequence: number) => number): Int32Array =>
    Int32Array.from({ length: batch }, (_, i) => value(i));
  const position = (row: number): number => context + (row % tokens);
  const maxPages = Math.ceil((context + tokens) / PAGE_TOKENS);
  const pagesEach = (PROMPT_TOKENS + DECODE_STEPS) / PAGE_TOKENS + 1;
  engine.step.setBatch({
    tokenIds: Int32Array.from({ length: total }, (_, row) => (row * 31 + context) % 1000),
    positions: Int32Array.from({ length: 3 * total }, (_, i) => position(i % total)),
    rowStart: each((i) => i * tokens),
    rowCount: each(() => tokens),
    contextLen: each(() => context),
    stateSlot: each((i) => (engine.states === null ? -1 : i)),
    mode: each(() => (tokens > 1 ? 0 : 1)),
    pageTable: Int32Array.from(
      { length: batch * maxPages },
      (_, i) => Math.floor(i / maxPages) * pagesEach + (i % maxPages),
    ),
    maxPages,
  });
  const lane = tokens > 1 ? 'prefill' : 'decode';
  const ctx = { step: context, microBatch: 0, lane, signal: null, deadlineMs: null, traceparent: null } as const;
  const pools = { kv: engine.kv, states: engine.states };
  await engine.model.forward(engine.step, pools, engine.experts, {
    lane,
    logitRows: each((i) => (i + 1) * tokens - 1),
    ctx,
  });
}

async function seconds(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

async function prefill(engine: Engine, runs: number): Promise<BenchRow> {
  const rates: number[] = [];
  for (let run = 0; run <= runs; run++) {
    engine.states?.reset(0);
    const rate = PROMPT_TOKENS / (await seconds(() => forward(engine, 1, PROMPT_TOKENS, 0)));
    // The first run warms caches and buffers.
    if (run > 0) rates.push(rate);
  }
  return summarize(`prefill, ${PROMPT_TOKENS} tokens`, 'tokens/s', rates);
}

async function decode(engine: Engine, batch: number, runs: number): Promise<BenchRow> {
  const rates: number[] = [];
  for (let run = 0; run < runs; run++) {
    for (let slot = 0; slot < batch; slot++) engine.states?.reset(slot);
    await forward(engine, batch, 16, 0);
    const taken = await seconds(async () => {
      for (let i = 0; i < DECODE_STEPS; i++) await forward(engine, batch, 1, 16 + i);
    });
    rates.push((batch * DECODE_STEPS) / taken);
  }
  return summarize(`decode, batch ${batch}`, 'tokens/s', rates);
}

/** The dense model and its experts in one process: prefill and decode at several batch sizes. */
export async function engineSuite(options: BenchOptions): Promise<BenchRow[]> {
  process.stderr.write(`loading ${options.model}\n`);
  const engine = await load(options);
  const rows = [await prefill(engine, options.runs)];
  for (const batch of BATCHES) {
    process.stderr.write(`decode, batch ${batch}\n`);
    rows.push(await decode(engine, batch, options.runs));
  }
  return rows;
}
