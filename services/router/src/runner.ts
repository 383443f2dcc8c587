import { type Clock, fail, GuildhallError, toGuildhallError } from '@guildhall/common';
import type { KvPool, Lane, Sample, SamplerState, StatePool, StepBuffers } from '@guildhall/native';
import { type BatchItem, buildBatch, numMicroBatches, rowOwners } from './batch.ts';
import type { DispatchContext } from './experts/dispatch.ts';
import type { ExpertView } from './experts/placement-view.ts';
import type { ExpertSource, StepExperts } from './experts/source.ts';
import type { WorkerLink } from './experts/worker-link.ts';
import type { SequenceGrammar } from './grammar/sequence-grammar.ts';
import type { PrefillAllowance } from './scheduler/budget.ts';
import type { DecodePlan, PrefillPlan } from './scheduler/scheduler.ts';
import type { Sequence, TokenOutput } from './sequence.ts';
import { brokenOutcomes, computationFailed } from './step-failures.ts';
import { StepTrace } from './telemetry/step-trace.ts';

/** What a step did for one sequence. */
export type Outcome =
  /** Its tokens are in place; `sample` is the next token if the step reached the last one. */
  | { kind: 'ok'; seq: Sequence; computed: number; sample: Sample | null; promptOutputs: TokenOutput[] }
  /** Its state can no longer be used: compute it again. `blamed` if it may be what broke the step. */
  | { kind: 'again'; seq: Sequence; cause: GuildhallError; blamed: boolean }
  | { kind: 'failed'; seq: Sequence; error: GuildhallError };

/** Runs the steps that the scheduler plans. */
export interface StepRunner {
  prefill(plan: PrefillPlan, view: ExpertView<WorkerLink>): Promise<{ outcomes: Outcome[]; ms: number }>;
  decode(plan: DecodePlan, view: ExpertView<WorkerLink>): Promise<{ outcomes: Outcome[]; ms: number }>;
}

/** The forward pass, as the model offers it. */
export interface ForwardModel {
  forward(
    step: StepBuffers,
    pools: { kv: KvPool; states: StatePool | null },
    dispatch: Pick<StepExperts, 'dispatch' | 'direct'>,
    options: {
      lane: Lane;
      logitRows: Int32Array;
      yieldPoint?: (layer: number) => Promise<void> | null;
      ctx: DispatchContext;
    },
  ): Promise<void>;
}

/** The native functions that the runner calls beside the model. */
export interface SamplingOps {
  sample(
    step: StepBuffers,
    rows: Int32Array,
    states: SamplerState[],
    lane: Lane,
    masks?: readonly (Int32Array | null)[],
  ): Promise<Sample[]>;
  logprobs(step: StepBuffers, rows: Int32Array, ids: Int32Array, top: number): Sample[];
}

export interface ModelRunnerOptions {
  model: ForwardModel;
  ops: SamplingOps;
  experts: ExpertSource;
  clock: Clock;
  allowance: PrefillAllowance;
  pools: { kv: KvPool; states: StatePool | null };
  prefillBuffers: StepBuffers;
  /** One for each micro-batch of a decode step. */
  decodeBuffers: readonly StepBuffers[];
  /** Sequences of a micro-batch at least. */
  microBatchMin: number;
  /** Told of each step, or micro-batch of one, that needed masks: how long it waited for them. */
  onMasks?: (ms: number) => void;
}

/** A micro-batch to run. */
interface MicroBatch {
  lane: Lane;
  index: number;
  step: number;
  buffers: StepBuffers;
  items: (BatchItem & { logitRows: number; completes: boolean })[];
  view: ExpertView<WorkerLink>;
}

/** A token to be sampled: of which item, from which logit row. */
interface Draw {
  index: number;
  row: number;
  state: SamplerState;
  /** Tokens that may be drawn, as the native sampler takes them; null for all. */
  mask: Int32Array | null;
}

/** Turns plans into native batches, runs the model and samples. */
export class ModelRunner implements StepRunner {
  readonly #o: ModelRunnerOptions;
  #step = 0;

  constructor(options: ModelRunnerOptions) {
    this.#o = options;
  }

  async prefill(plan: PrefillPlan, view: ExpertView<WorkerLink>): Promise<{ outcomes: Outcome[]; ms: number }> {
    const { allowance, prefillBuffers: buffers } = this.#o;
    allowance.begin();
    const items = plan.items;
    const outcomes = await this.#run({ lane: 'prefill', index: 0, step: this.#nextStep(), buffers, items, view });
    return { outcomes, ms: allowance.end() };
  }

  /**
   * Micro-batches run side by side: while the rows of one are away the other computes. Each succeeds or fails by
   * itself.
   */
  async decode(plan: DecodePlan, view: ExpertView<WorkerLink>): Promise<{ outcomes: Outcome[]; ms: number }> {
    const { clock, allowance } = this.#o;
    const begun = clock.monotonicMs();
    const prefillBegun = allowance.totalMs();
    const step = this.#nextStep();
    const groups = splitEvenly(
      plan.seqs,
      numMicroBatches(plan.seqs.length, this.#o.decodeBuffers.length, this.#o.microBatchMin),
    );
    const runs = groups.map((seqs, index) => {
      const items = seqs.map((seq) => ({
        seq,
        chunk: seq.nextChunk(1),
        logitRows: 1,
        completes: true,
        snapshot: plan.snapshots.get(seq) ?? null,
      }));
      const buffers = this.#o.decodeBuffers[index];
      if (buffers === undefined) throw fail('integrity', `there are no buffers for micro-batch ${index}`);
      return this.#run({ lane: 'decode', index, step, buffers, items, view });
    });
    const outcomes = (await Promise.all(runs)).flat();
    // What prefill took beside it is not this step's cost.
    const besideMs = allowance.totalMs() - prefillBegun;
    return { outcomes, ms: Math.max(0, clock.monotonicMs() - begun - besideMs) };
  }

  /** Step numbers are u32 on the wire; one that comes round again is long done. */
  #nextStep(): number {
    this.#step = (this.#step + 1) >>> 0;
    return this.#step;
  }

  async #run(batch: MicroBatch): Promise<Outcome[]> {
    const owners = { owner: rowOwners(batch.items), numSequences: batch.items.length };
    const begunMs = this.#o.clock.monotonicMs();
    const trace = StepTrace.begin(batch);
    const dispatch = this.#o.experts.begin(batch.view, batch.lane, owners, trace);
    const abort = new AbortController();
    const watch = this.#o.clock.setInterval(ABANDON_CHECK_MS, () => {
      if (batch.items.every(({ seq }) => seq.ended)) abort.abort();
    });
    try {
      await this.#forward(batch, dispatch, abort.signal, trace);
      return await this.#sample(batch);
    } catch (err) {
      trace?.failed(toGuildhallError(err));
      const seqs = batch.items.map(({ seq }) => seq);
      return brokenOutcomes(seqs, toGuildhallError(err), this.#o.clock.monotonicMs());
    } finally {
      watch.cancel();
      dispatch.close();
      trace?.end();
      if (batch.lane === 'prefill') tellChunks(batch.items, begunMs, this.#o.clock.monotonicMs());
      for (const [index, rows] of dispatch.rowsOf.entries()) {
        const seq = batch.items[index]?.seq;
        for (const [worker, count] of rows) seq?.countRows(worker, count);
        if (seq !== undefined) seq.expertMs += dispatch.expertMsOf[index] ?? 0;
      }
    }
  }

  async #forward(
    batch: MicroBatch,
    dispatch: StepExperts,
    signal: AbortSignal,
    trace: StepTrace | null,
  ): Promise<void> {
    const { buffers, items, lane, step, index } = batch;
    const { model, pools, allowance } = this.#o;
    buffers.setBatch(buildBatch(items, pools.states !== null));
    const deadlines = items.flatMap(({ seq }) => (seq.spec.deadlineAtMs === null ? [] : [seq.spec.deadlineAtMs]));
    const ctx: DispatchContext = {
      step,
      microBatch: index,
      lane,
      signal,
      deadlineMs: deadlines.length === 0 ? null : Math.min(...deadlines),
      traceparent: trace?.traceparent ?? null,
    };
    const logitRows = logitRowsOf(items);
    const yieldPoint = (): Promise<void> | null => allowance.checkpoint();
    await model.forward(buffers, pools, dispatch, {
      lane,
      logitRows,
      ctx,
      ...(lane === 'prefill' && !allowance.alternate ? { yieldPoint } : {}),
    });
  }

  /**
   * The next token of each sequence that the step brought to its last one. A row that gives none, since its logits are
   * no numbers, fails its own sequence.
   */
  async #sample(batch: MicroBatch): Promise<Outcome[]> {
    const { items } = batch;
    const prompts = this.#promptOutputs(batch);
    const draws: Draw[] = [];
    const samples = new Map<number, Sample | GuildhallError>();
    const { clock, onMasks } = this.#o;
    const masksFromMs = clock.monotonicMs();
    let masks = 0;
    let row = 0;
    for (const [index, { seq, logitRows, completes }] of items.entries()) {
      row += logitRows;
      if (!completes || seq.stop.atLimit() || prompts[index] instanceof GuildhallError) continue;
      if (seq.forcedId !== null) {
        samples.set(index, forcedSample(this.#o.ops, batch.buffers, row - 1, seq, seq.forcedId));
        continue;
      }
      const mask = seq.grammar === null || seq.ended ? null : await maskOf(seq.grammar);
      if (mask !== null) masks += 1;
      if (mask instanceof GuildhallError) samples.set(index, mask);
      else draws.push({ index, row: row - 1, state: seq.sampler, mask });
    }
    if (masks > 0) onMasks?.(clock.monotonicMs() - masksFromMs);
    for (const [index, sample] of await this.#draw(batch, draws)) samples.set(index, sample);
    return items.map(({ seq, chunk }, index): Outcome => {
      const outputs = prompts[index] ?? [];
      const sample = samples.get(index) ?? null;
      if (outputs instanceof GuildhallError) return { kind: 'failed', seq, error: outputs };
      if (sample instanceof GuildhallError) return { kind: 'failed', seq, error: sample };
      return { kind: 'ok', seq, computed: chunk.count, sample, promptOutputs: outputs };
    });
  }

  /** Log-probabilities of each item's prompt tokens, or why they cannot be had. */
  #promptOutputs({ items, buffers }: MicroBatch): (TokenOutput[] | GuildhallError)[] {
    let next = 0;
    return items.map((item) => {
      const row = next;
      next += item.logitRows;
      if (item.logitRows === 0 || !(item.logitRows > 1 || item.seq.spec.promptLogprobs)) return [];
      try {
        return promptOutputs(this.#o.ops, buffers, item, row);
      } catch (err) {
        return computationFailed(toGuildhallError(err));
      }
    });
  }

  /** Samples by item. Where they cannot be drawn together each is drawn by itself: draws know nothing of each other. */
  async #draw(
    { buffers, lane }: Pick<MicroBatch, 'buffers' | 'lane'>,
    draws: readonly Draw[],
  ): Promise<Map<number, Sample | GuildhallError>> {
    const drawn = new Map<number, Sample | GuildhallError>();
    if (draws.length === 0) return drawn;
    const rows = Int32Array.from(draws, ({ row }) => row);
    const states = draws.map(({ state }) => state);
    try {
      const masked = draws.some(({ mask }) => mask !== null);
      const masks = masked ? draws.map(({ mask }) => mask) : undefined;
      const samples = await this.#o.ops.sample(buffers, rows, states, lane, masks);
      for (const [i, { index }] of draws.entries()) drawn.set(index, samples[i] as Sample);
      return drawn;
    } catch (err) {
      if (draws.length === 1) return drawn.set((draws[0] as Draw).index, computationFailed(toGuildhallError(err)));
    }
    for (const draw of draws) {
      const [one] = await this.#draw({ buffers, lane }, [draw]);
      if (one !== undefined) drawn.set(...one);
    }
    return drawn;
  }
}

/** What may follow, or why that is not known; it was asked for when the last token came, and is there by now. */
async function maskOf(grammar: SequenceGrammar): Promise<Int32Array | GuildhallError> {
  try {
    return await grammar.mask();
  } catch (err) {
    const cause = toGuildhallError(err);
    // A grammar that leads nowhere is the client's.
    return cause.code === 'invalid_value' ? cause : computationFailed(cause);
  }
}

/** The token that comes next whatever the model says, with the log-probability that the model gives it. */
function forcedSample(ops: SamplingOps, buffers: StepBuffers, row: number, seq: Sequence, id: number): Sample {
  const { topLogprobs } = seq.spec.sampler;
  const asked = topLogprobs >= 0 ? ops.logprobs(buffers, Int32Array.of(row), Int32Array.of(id), topLogprobs)[0] : null;
  return asked ?? { id, logprob: 0, topIds: new Int32Array(0), topLogprobs: new Float32Array(0) };
}

/** Tells the traced sequences of a prefill step which part of their prompts it was. */
function tellChunks(items: MicroBatch['items'], startMs: number, endMs: number): void {
  for (const { seq, chunk } of items) seq.trace?.chunk(startMs, endMs, chunk.start, chunk.count);
}

/** How often it is checked that somebody still wants the result of a step. */
const ABANDON_CHECK_MS = 50;

/** Rows of the step whose logits are needed, ascending: every row of a part, or its last, or none. */
function logitRowsOf(items: MicroBatch['items']): Int32Array {
  const rows: number[] = [];
  let end = 0;
  for (const { chunk, logitRows } of items) {
    end += chunk.count;
    for (let row = end - logitRows; row < end; row++) rows.push(row);
  }
  return Int32Array.from(rows);
}

/** Log-probabilities of the prompt tokens that follow the tokens of a part. `row` is its first logit row. */
function promptOutputs(ops: SamplingOps, buffers: StepBuffers, { seq, chunk }: BatchItem, row: number): TokenOutput[] {
  const count = Math.min(chunk.start + chunk.count, seq.numPrompt - 1) - chunk.start;
  // Computed before a preemption: the same bits once more.
  const known = Math.max(0, seq.promptOutputs.length - chunk.start);
  if (count <= known) return [];
  const ids = new Int32Array(count - known);
  seq.copyTokens(chunk.start + known + 1, ids.length, ids, 0);
  const rows = Int32Array.from(ids, (_, i) => row + known + i);
  const samples = ops.logprobs(buffers, rows, ids, Math.max(0, seq.spec.sampler.topLogprobs));
  return samples.map((sample, i) => ({ index: chunk.start + known + i + 1, sample }));
}

/** Cuts a list into `count` runs whose lengths differ by at most one. */
function splitEvenly<T>(list: readonly T[], count: number): T[][] {
  return Array.from({ length: count }, (_, i) =>
    list.slice(Math.floor((i * list.length) / count), Math.floor(((i + 1) * list.length) / count)),
  );
}
