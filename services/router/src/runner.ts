import { type Clock, fail, type GuildhallError, toGuildhallError } from '@guildhall/common';
import type { KvPool, Lane, Sample, SamplerState, StatePool, StepBuffers } from '@guildhall/native';
import { type BatchItem, buildBatch, numMicroBatches, rowOwners } from './batch.ts';
import type { DispatchContext } from './experts/dispatch.ts';
import type { ExpertView } from './experts/placement-view.ts';
import type { ExpertSource, StepExperts } from './experts/source.ts';
import type { WorkerLink } from './experts/worker-link.ts';
import type { PrefillAllowance } from './scheduler/budget.ts';
import type { DecodePlan, PrefillPlan } from './scheduler/scheduler.ts';
import type { Sequence, TokenOutput } from './sequence.ts';

/** What a step did for one sequence. */
export type Outcome =
  /** Its tokens are in place; `sample` is the next token if the step reached the last one. */
  | { kind: 'ok'; seq: Sequence; computed: number; sample: Sample | null; promptOutputs: TokenOutput[] }
  /** Its state can no longer be used, and it is not to blame: compute it again. */
  | { kind: 'again'; seq: Sequence; cause: GuildhallError }
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
  sample(step: StepBuffers, rows: Int32Array, states: SamplerState[], lane: Lane): Promise<Sample[]>;
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
    const dispatch = this.#o.experts.begin(batch.view, batch.lane, owners);
    const abort = new AbortController();
    const watch = this.#o.clock.setInterval(ABANDON_CHECK_MS, () => {
      if (batch.items.every(({ seq }) => seq.ended)) abort.abort();
    });
    try {
      await this.#forward(batch, dispatch, abort.signal);
      return await this.#sample(batch);
    } catch (err) {
      return this.#failures(batch, toGuildhallError(err));
    } finally {
      watch.cancel();
      dispatch.close();
      for (const [index, rows] of dispatch.rowsOf.entries()) {
        for (const [worker, count] of rows) batch.items[index]?.seq.countRows(worker, count);
      }
    }
  }

  async #forward(batch: MicroBatch, dispatch: StepExperts, signal: AbortSignal): Promise<void> {
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
      traceparent: items.find(({ seq }) => seq.spec.traceparent !== null)?.seq.spec.traceparent ?? null,
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

  async #sample({ buffers, items, lane }: MicroBatch): Promise<Outcome[]> {
    const { ops } = this.#o;
    const sampled = items.map(() => null as Sample | null);
    const prompts = items.map(() => [] as TokenOutput[]);
    const rows: number[] = [];
    const owners: number[] = [];
    let row = 0;
    for (const [index, item] of items.entries()) {
      if (item.logitRows > 1 || (item.logitRows === 1 && item.seq.spec.promptLogprobs)) {
        prompts[index] = promptOutputs(ops, buffers, item, row);
      }
      row += item.logitRows;
      if (item.completes && !item.seq.stop.atLimit()) {
        rows.push(row - 1);
        owners.push(index);
      }
    }
    if (rows.length > 0) {
      const states = owners.map((index) => (items[index] as BatchItem).seq.sampler);
      const samples = await ops.sample(buffers, Int32Array.from(rows), states, lane);
      for (const [i, sample] of samples.entries()) sampled[owners[i] as number] = sample;
    }
    return items.map(({ seq, chunk }, index) => ({
      kind: 'ok',
      seq,
      computed: chunk.count,
      sample: sampled[index] ?? null,
      promptOutputs: prompts[index] ?? [],
    }));
  }

  /**
   * A forward pass that broke off has moved some layers' states on and not others', so that nobody in it can go on
   * from there. Those whose experts could not be had fail; the others are computed again.
   */
  #failures({ items }: MicroBatch, error: GuildhallError): Outcome[] {
    const stuck = stuckSequences(error);
    const now = this.#o.clock.monotonicMs();
    // The wait ended at the earliest deadline: others that wait for the same experts have more time.
    const anyLate = items.some(({ seq }) => isLate(seq, now));
    return items.map(({ seq }, index): Outcome => {
      const fails = stuck?.has(index) === true && (!anyLate || isLate(seq, now));
      return fails ? { kind: 'failed', seq, error } : { kind: 'again', seq, cause: error };
    });
  }
}

/** How often it is checked that somebody still wants the result of a step. */
const ABANDON_CHECK_MS = 50;

function isLate(seq: Sequence, nowMs: number): boolean {
  return seq.spec.deadlineAtMs !== null && nowMs >= seq.spec.deadlineAtMs;
}

/** Indexes of the sequences whose experts could not be had, or null when the error is of another kind. */
function stuckSequences(error: GuildhallError): ReadonlySet<number> | null {
  const { sequences } = error.details;
  if (error.code !== 'expert_unavailable' || !Array.isArray(sequences)) return null;
  return new Set(sequences as number[]);
}

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
