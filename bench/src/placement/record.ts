/**
 * Records which experts the gates of `tiny` choose, for bench/data/tiny-gates.json.gz:
 *
 *   node bench/src/placement/record.ts
 *
 * The prompts of its evaluation sets (questions and small talk; pairs to be remembered), each with greedily generated tokens.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { ChatTemplate, Checkpoint, type ExpertDispatch, LocalExperts, TextModel, Tokenizer } from '@guildhall/model';
import { type KvPool, loadNative, type StatePool, type StepBuffers } from '@guildhall/native';
import type { RecordedGates } from './recorded.ts';

const ROOT = resolve(fileURLToPath(new URL('../../..', import.meta.url)));
const MODEL = join(ROOT, 'models', 'tiny');
const PARTS = { chat: { prompts: 84, generate: 24 }, recall: { prompts: 60, generate: 12 } } as const;
const PAGE_TOKENS = 64;
const MOST_TOKENS = 2048;

interface Engine {
  model: TextModel;
  experts: ExpertDispatch;
  step: StepBuffers;
  kv: KvPool;
  states: StatePool | null;
}

/** Numbers of the chosen experts of each layer, token after token. */
type Chosen = number[][];

async function loadEngine(chosen: Chosen): Promise<Engine> {
  const native = loadNative();
  const runtime = new native.Runtime({ threads: 2, isa: 'auto', bf16Kernels: 'auto' });
  const checkpoint = Checkpoint.open(MODEL, { mapFile: (fd, length) => native.mapFile(fd, length) });
  const { config } = checkpoint;
  const model = await TextModel.load({ runtime, checkpoint, config, weights: 'bf16' });
  const local = await LocalExperts.load({ runtime, checkpoint, config, weights: 'bf16', messages: true });
  const experts: ExpertDispatch = {
    dispatch(layer, step, numTokens, ctx) {
      for (const expert of step.topkIds.subarray(0, numTokens * config.moe.topK)) chosen[layer]?.push(expert);
      return local.dispatch(layer, step, numTokens, ctx);
    },
  };
  const step = model.createStepBuffers({ maxTokens: MOST_TOKENS, maxLogitRows: 1 });
  return { model, experts, step, kv: model.createKvPool(MOST_TOKENS / PAGE_TOKENS), states: model.createStatePool(1) };
}

/** Runs tokens after `length` others. @returns the most likely next token. */
async function forward(
  { model, experts, step, kv, states }: Engine,
  tokens: Int32Array,
  length: number,
): Promise<number> {
  const count = tokens.length;
  const prefill = length === 0;
  step.setBatch({
    tokenIds: tokens,
    positions: Int32Array.from({ length: 3 * count }, (_, i) => length + (i % count)),
    rowStart: Int32Array.of(0),
    rowCount: Int32Array.of(count),
    contextLen: Int32Array.of(length),
    stateSlot: Int32Array.of(states === null ? -1 : 0),
    initState: Int32Array.of(-1),
    snapshotSlot: Int32Array.of(-1),
    snapshotRows: new Int32Array(1),
    mode: Int32Array.of(prefill ? 0 : 1),
    pageTable: Int32Array.from({ length: MOST_TOKENS / PAGE_TOKENS }, (_, page) => page),
    maxPages: MOST_TOKENS / PAGE_TOKENS,
  });
  const lane = prefill ? 'prefill' : 'decode';
  const ctx = { step: 0, microBatch: 0, lane, signal: null, deadlineMs: null, traceparent: null } as const;
  await model.forward(step, { kv, states }, experts, { lane, logitRows: Int32Array.of(count - 1), ctx });
  const logits = step.logits.subarray(0, model.vocabularySize);
  return logits.indexOf(logits.reduce((most, value) => Math.max(most, value), -Infinity));
}

async function record(engine: Engine, name: keyof typeof PARTS): Promise<void> {
  const tokenizer = Tokenizer.load(MODEL);
  const template = ChatTemplate.load(MODEL);
  const lines = readFileSync(join(MODEL, 'eval', `${name}.jsonl`), 'utf8')
    .trim()
    .split('\n');
  for (const line of lines.slice(0, PARTS[name].prompts)) {
    const { messages } = JSON.parse(line) as { messages: { role: string; content: string }[] };
    const ids = Int32Array.from(await tokenizer.encode(template.render({ messages, addGenerationPrompt: true })));
    engine.states?.reset(0);
    let next = await forward(engine, ids, 0);
    for (let i = 0; i < PARTS[name].generate; i++) next = await forward(engine, Int32Array.of(next), ids.length + i);
  }
}

const recorded: RecordedGates = { model: 'tiny', numExperts: 0, topK: 0, parts: {} };
for (const name of Object.keys(PARTS) as (keyof typeof PARTS)[]) {
  const { config } = Checkpoint.open(MODEL, { mapFile: (fd, length) => loadNative().mapFile(fd, length) });
  const chosen: Chosen = Array.from({ length: config.numLayers }, () => []);
  await record(await loadEngine(chosen), name);
  recorded.numExperts = config.moe.numExperts;
  recorded.topK = config.moe.topK;
  recorded.parts[name] = chosen.map((experts) => Buffer.from(Uint8Array.from(experts)).toString('base64'));
}
const file = join(ROOT, 'bench', 'data', 'tiny-gates.json.gz');
const data = gzipSync(JSON.stringify(recorded), { level: 9 });
writeFileSync(file, data);
process.stdout.write(`${file}: ${data.length} bytes\n`);
