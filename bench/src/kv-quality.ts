/**
 * Quality of KV formats: `node bench/src/kv-quality.ts [--model DIR] [--rows N] [--tokens N] [--json]`.
 * Answers the held-out prompts of models/tiny greedily with the reference format, then feeds the same tokens to every
 * format and compares the distributions after each. Progress goes to stderr; `--json` prints one object.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  ChatTemplate,
  Checkpoint,
  LocalExperts,
  TextModel,
  Tokenizer,
  type ChatMessage,
  type KvDtype,
} from '@guildhall/model';
import { loadNative, type KvPool, type Runtime, type StatePool, type StepBuffers } from '@guildhall/native';

const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));
const PAGE_TOKENS = 64;
const MAX_TOKENS = 2048;
const REFERENCE: KvDtype = 'bf16';
const FORMATS: KvDtype[] = ['bf16', 'fp8', 'f32'];

interface EvalRow {
  messages: ChatMessage[];
  enable_thinking: boolean;
  tools?: unknown[] | null;
}

/** One sequence of a model with BF16 weights and one KV format. */
class Answerer {
  readonly #model: TextModel;
  readonly #experts: LocalExperts;
  readonly #step: StepBuffers;
  readonly #kv: KvPool;
  readonly #states: StatePool | null;
  #length = 0;

  private constructor(model: TextModel, experts: LocalExperts) {
    this.#model = model;
    this.#experts = experts;
    this.#step = model.createStepBuffers({ maxTokens: MAX_TOKENS, maxLogitRows: 1 });
    this.#kv = model.createKvPool(MAX_TOKENS / PAGE_TOKENS);
    this.#states = model.createStatePool(1);
  }

  static async load(runtime: Runtime, checkpoint: Checkpoint, kvDtype: KvDtype): Promise<Answerer> {
    const { config } = checkpoint;
    const shared = { runtime, checkpoint, config, weights: 'bf16' as const };
    const model = await TextModel.load({ ...shared, kvDtype });
    const experts = await LocalExperts.load({ ...shared, mode: 'exact', maxMessageBytes: 1 << 22 });
    return new Answerer(model, experts);
  }

  /** Forgets the sequence and computes a prompt; logits after it. */
  async start(prompt: readonly number[]): Promise<Float32Array> {
    this.#length = 0;
    this.#states?.reset(0);
    return this.#forward(prompt, 0);
  }

  /** Logits after one more token. */
  async next(id: number): Promise<Float32Array> {
    return this.#forward([id], 1);
  }

  async #forward(ids: readonly number[], mode: number): Promise<Float32Array> {
    const positions = ids.map((_, i) => this.#length + i);
    this.#step.setBatch({
      tokenIds: Int32Array.from(ids),
      positions: Int32Array.from([...positions, ...positions, ...positions]),
      rowStart: Int32Array.of(0),
      rowCount: Int32Array.of(ids.length),
      contextLen: Int32Array.of(this.#length),
      stateSlot: Int32Array.of(this.#states === null ? -1 : 0),
      initState: Int32Array.of(-1),
      snapshotSlot: Int32Array.of(-1),
      snapshotRows: Int32Array.of(0),
      mode: Int32Array.of(mode),
      pageTable: Int32Array.from({ length: this.#kv.numPages }, (_, page) => page),
      maxPages: this.#kv.numPages,
    });
    const lane = mode === 0 ? 'prefill' : 'decode';
    const ctx = { step: this.#length, microBatch: 0, lane, signal: null, deadlineMs: null, traceparent: null } as const;
    const pools = { kv: this.#kv, states: this.#states };
    await this.#model.forward(this.#step, pools, this.#experts, {
      lane,
      logitRows: Int32Array.of(ids.length - 1),
      ctx,
    });
    this.#length += ids.length;
    return this.#step.logits.slice(0, this.#model.vocabularySize);
  }
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (const [i, logit] of logits.entries()) if (logit > (logits[best] ?? -Infinity)) best = i;
  return best;
}

function logSoftmax(logits: Float32Array): Float64Array {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const logSum = top + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - top), 0));
  return Float64Array.from(logits, (x) => x - logSum);
}

/** KL(p || q) in nats. */
function divergence(p: Float32Array, q: Float32Array): number {
  const logQ = logSoftmax(q);
  return logSoftmax(p).reduce((sum, x, i) => (x === -Infinity ? sum : sum + Math.exp(x) * (x - (logQ[i] ?? 0))), 0);
}

/** What is known of one format after some positions. */
class Tally {
  positions = 0;
  agreed = 0;
  sum = 0;
  largest = 0;

  add(reference: Float32Array, logits: Float32Array): void {
    const kl = divergence(reference, logits);
    this.positions++;
    this.sum += kl;
    this.largest = Math.max(this.largest, kl);
    if (argmax(reference) === argmax(logits)) this.agreed++;
  }
}

/** The first `most` prompts of each held-out set, as ids. */
async function prompts(model: string, most: number): Promise<number[][]> {
  const template = ChatTemplate.load(model);
  const tokenizer = Tokenizer.load(model);
  const texts = ['chat', 'recall'].flatMap((name) => {
    const lines = readFileSync(join(ROOT, 'models/tiny/eval', `${name}.jsonl`), 'utf8')
      .trim()
      .split('\n');
    return lines.slice(0, most).map((line) => {
      const { messages, tools = null, enable_thinking } = JSON.parse(line) as EvalRow;
      return template.render({ messages, tools, addGenerationPrompt: true, enable_thinking });
    });
  });
  return Promise.all(texts.map(async (text) => Array.from(await tokenizer.encode(text))));
}

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: join(ROOT, 'models', 'tiny') },
    rows: { type: 'string', default: '200' },
    tokens: { type: 'string', default: '32' },
    json: { type: 'boolean', default: false },
  },
});

const native = loadNative();
const runtime = new native.Runtime({ threads: 2, isa: 'auto', bf16Kernels: 'auto' });
const checkpoint = Checkpoint.open(values.model, { mapFile: (fd, length) => native.mapFile(fd, length) });
const reference = await Answerer.load(runtime, checkpoint, REFERENCE);
const others = new Map<KvDtype, { answerer: Answerer; tally: Tally }>();
for (const format of FORMATS) {
  others.set(format, { answerer: await Answerer.load(runtime, checkpoint, format), tally: new Tally() });
}
const tokens = Number(values.tokens);
const every = await prompts(values.model, Number(values.rows));
const all = every.filter((ids) => ids.length + tokens <= MAX_TOKENS);
for (const [n, prompt] of all.entries()) {
  if (n % 20 === 0) process.stderr.write(`prompt ${n} of ${all.length}\n`);
  const expected = [await reference.start(prompt)];
  for (let i = 1; i < tokens; i++) expected.push(await reference.next(argmax(expected[i - 1]!)));
  for (const { answerer, tally } of others.values()) {
    tally.add(expected[0]!, await answerer.start(prompt));
    for (let i = 1; i < expected.length; i++) tally.add(expected[i]!, await answerer.next(argmax(expected[i - 1]!)));
  }
}
const rows = [...others].map(([format, { tally }]) => ({
  format,
  positions: tally.positions,
  meanKl: tally.sum / tally.positions,
  largestKl: tally.largest,
  agreement: tally.agreed / tally.positions,
}));
if (values.json) {
  process.stdout.write(`${JSON.stringify({ reference: REFERENCE, prompts: all.length, rows })}\n`);
} else {
  for (const row of rows) {
    const { format, positions, meanKl, largestKl, agreement } = row;
    const kl = `mean KL ${meanKl.toExponential(2)}, largest ${largestKl.toExponential(2)}`;
    process.stdout.write(
      `${format.padEnd(5)} ${positions} positions, ${kl}, same choice ${(agreement * 100).toFixed(2)} %\n`,
    );
  }
}
