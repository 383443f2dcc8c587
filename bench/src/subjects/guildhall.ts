/** Our engine's process: the model and its experts in one process, driven as the router drives them. */
import { Checkpoint, LocalExperts, TextModel } from '@guildhall/model';
import { loadNative, type KvPool, type StatePool, type StepBuffers, type WeightFormat } from '@guildhall/native';
import { seconds, serveSubject } from './child.ts';
import type { SubjectBytes, SubjectEngine, SubjectInfo, SubjectSpec, Timing, Work } from './protocol.ts';
import { tokensAt } from './protocol.ts';
import { fillRandom } from './random-pages.ts';

const PAGE_TOKENS = 64;
/** Tokens of a prompt that one step takes. */
const CHUNK = 512;
/** Room for decoded tokens behind the deepest context. */
const ROOM = 2048;
const SEQUENCE_CONTEXT = 512;

/** Everything that a forward needs. */
interface Engine {
  model: TextModel;
  experts: LocalExperts;
  step: StepBuffers;
  kv: KvPool;
  states: StatePool | null;
}

/** One sequence: where its pages and state are, and how much it holds. */
interface Sequence {
  id: number;
  firstPage: number;
  length: number;
}

async function loadEngine(spec: SubjectSpec): Promise<{ engine: Engine; bytes: SubjectBytes }> {
  const native = loadNative();
  const runtime = new native.Runtime({ threads: spec.threads, isa: 'auto', bf16Kernels: 'auto' });
  const checkpoint = Checkpoint.open(spec.model, { mapFile: (fd, length) => native.mapFile(fd, length) });
  const { config } = checkpoint;
  const weights = spec.weights as WeightFormat;
  const model = await TextModel.load({ runtime, checkpoint, config, weights });
  const experts = await LocalExperts.load({ runtime, checkpoint, config, weights, maxMessageBytes: 1 << 24 });
  const pages = (spec.depth + ROOM) / PAGE_TOKENS + (spec.sequences * SEQUENCE_CONTEXT) / PAGE_TOKENS;
  const kv = model.createKvPool(pages);
  const states = model.createStatePool(spec.sequences + 1);
  const step = model.createStepBuffers({ maxTokens: CHUNK, maxLogitRows: Math.max(spec.sequences, 64) });
  const expertBytes = experts.shard.expertBytes;
  // The embedding is bf16 and only one row of it is read.
  const table = config.vocab * config.hidden * (weights === 'f32' ? 4 : 2);
  const dense = runtime.memory().weights - config.numLayers * config.moe.numExperts * expertBytes - table;
  const bytes = { dense, expert: expertBytes, kvPerToken: kv.pageBytes / PAGE_TOKENS, state: states?.slotBytes ?? 0 };
  return { engine: { model, experts, step, kv, states }, bytes };
}

/**
 * One step: each sequence gets `tokens` more. This is the one place that knows how a forward is called.
 * @param logits rows of the step whose logits are wanted; null means the last row of each sequence.
 */
async function forward(
  engine: Engine,
  sequences: readonly Sequence[],
  tokens: readonly Int32Array[],
  logits: Int32Array | null = null,
): Promise<void> {
  const counts = Int32Array.from(tokens, ({ length }) => length);
  const starts = counts.map((_, i) => counts.subarray(0, i).reduce((sum, count) => sum + count, 0));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const prefill = total > sequences.length;
  const positions = new Int32Array(3 * total);
  for (const [i, { length }] of sequences.entries()) {
    for (let t = 0; t < (counts[i] ?? 0); t++) {
      for (let axis = 0; axis < 3; axis++) positions[axis * total + (starts[i] ?? 0) + t] = length + t;
    }
  }
  const maxPages = Math.max(...sequences.map(({ length }, i) => Math.ceil((length + (counts[i] ?? 0)) / PAGE_TOKENS)));
  engine.step.setBatch({
    tokenIds: Int32Array.from(tokens.flatMap((ids) => [...ids])),
    positions,
    rowStart: starts,
    rowCount: counts,
    contextLen: Int32Array.from(sequences, ({ length }) => length),
    stateSlot: Int32Array.from(sequences, ({ id }) => (engine.states === null ? -1 : id)),
    initState: Int32Array.from(sequences, () => -1),
    snapshotSlot: Int32Array.from(sequences, () => -1),
    snapshotRows: new Int32Array(sequences.length),
    mode: Int32Array.from(sequences, () => (prefill ? 0 : 1)),
    pageTable: Int32Array.from(
      sequences.flatMap(({ firstPage }) => Array.from({ length: maxPages }, (_, p) => firstPage + p)),
    ),
    maxPages,
  });
  const lane = prefill ? 'prefill' : 'decode';
  const ctx = { step: 0, microBatch: 0, lane, signal: null, deadlineMs: null, traceparent: null } as const;
  const pools = { kv: engine.kv, states: engine.states };
  const logitRows = logits ?? starts.map((start, i) => start + (counts[i] ?? 0) - 1);
  await engine.model.forward(engine.step, pools, engine.experts, { lane, logitRows, ctx });
  for (const [i, sequence] of sequences.entries()) sequence.length += counts[i] ?? 0;
}

class Guildhall implements SubjectEngine {
  #engine: Engine | null = null;
  #spec: SubjectSpec | null = null;
  /** The deep one first, then the ones of batches. */
  #sequences: Sequence[] = [];
  #randomFilled = false;

  async load(spec: SubjectSpec): Promise<SubjectInfo> {
    const started = performance.now();
    const { engine, bytes } = await loadEngine(spec);
    this.#engine = engine;
    this.#spec = spec;
    const deepPages = (spec.depth + ROOM) / PAGE_TOKENS;
    this.#sequences = Array.from({ length: spec.sequences + 1 }, (_, id) => ({
      id,
      firstPage: id === 0 ? 0 : deepPages + ((id - 1) * SEQUENCE_CONTEXT) / PAGE_TOKENS,
      length: 0,
    }));
    const loadSeconds = (performance.now() - started) / 1000;
    const config = { threads: spec.threads, numerics: engine.model.numericsId('exact') };
    return { engine: 'guildhall', config, loadSeconds, bytes };
  }

  async prepare(work: Work): Promise<void> {
    if (work.kind === 'prefill') {
      await this.run(work);
      return;
    }
    if (work.kind === 'decode') await this.#fillDeep(work.depth);
    else for (const sequence of this.#batch(work.sequences)) await this.#fill(sequence, work.depth);
    await this.#decode(work.kind === 'batch' ? this.#batch(work.sequences) : [this.#deep()], 2);
  }

  async run(work: Work): Promise<Timing> {
    switch (work.kind) {
      case 'prefill': {
        const sequence = this.#deep();
        this.#clear(sequence);
        return { seconds: await seconds(() => this.#extend(sequence, work.tokens)) };
      }
      case 'decode':
        return { seconds: await seconds(() => this.#decode([this.#deep()], work.steps)) };
      case 'batch':
        return { seconds: await seconds(() => this.#decode(this.#batch(work.sequences), work.steps)) };
    }
  }

  async top(tokens: number[]): Promise<number[]> {
    const { step } = this.#loaded();
    const sequence = this.#deep();
    this.#clear(sequence);
    await forward(
      this.#loaded(),
      [sequence],
      [Int32Array.from(tokens)],
      Int32Array.from(tokens, (_, i) => i),
    );
    const vocab = step.logits.length / Math.max(this.#need().sequences, 64);
    return tokens.map((_, row) => argmax(step.logits.subarray(row * vocab, (row + 1) * vocab)));
  }

  #loaded(): Engine {
    if (this.#engine === null) throw new Error('nothing is loaded');
    return this.#engine;
  }

  #need(): SubjectSpec {
    if (this.#spec === null) throw new Error('nothing is loaded');
    return this.#spec;
  }

  #deep(): Sequence {
    return this.#sequences[0] as Sequence;
  }

  #batch(count: number): Sequence[] {
    return this.#sequences.slice(1, count + 1);
  }

  #clear(sequence: Sequence): void {
    sequence.length = 0;
    this.#loaded().states?.reset(sequence.id);
  }

  async #extend(sequence: Sequence, count: number): Promise<void> {
    const { vocab } = this.#need();
    for (let left = count; left > 0; left -= CHUNK) {
      await forward(this.#loaded(), [sequence], [tokensAt(sequence.id, sequence.length, Math.min(left, CHUNK), vocab)]);
    }
  }

  async #fill(sequence: Sequence, depth: number): Promise<void> {
    this.#clear(sequence);
    await this.#extend(sequence, depth);
  }

  /** A long context: random numbers, or one chunk is computed, its pages are copied to the others. Their content is real, only repeated. */
  async #fillDeep(depth: number): Promise<void> {
    const sequence = this.#deep();
    if (this.#need().randomKv === true) {
      if (!this.#randomFilled) await fillRandom(this.#loaded().kv, this.#need().depth / PAGE_TOKENS);
      this.#randomFilled = true;
      this.#clear(sequence);
      sequence.length = depth;
      return;
    }
    await this.#fill(sequence, Math.min(depth, CHUNK));
    const chunkPages = CHUNK / PAGE_TOKENS;
    for (let page = chunkPages; page < depth / PAGE_TOKENS; page++) {
      this.#loaded().kv.copyPages(Int32Array.of(page % chunkPages), Int32Array.of(page));
    }
    sequence.length = depth;
  }

  async #decode(sequences: readonly Sequence[], steps: number): Promise<void> {
    const { vocab } = this.#need();
    for (let step = 0; step < steps; step++) {
      const tokens = sequences.map(({ id, length }) => tokensAt(id, length, 1, vocab));
      await forward(this.#loaded(), sequences, tokens);
    }
  }
}

function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

serveSubject(new Guildhall());
