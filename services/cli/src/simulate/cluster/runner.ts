import { toGuildhallError } from '@guildhall/common';
import {
  type DecodePlan,
  numMicroBatches,
  type Outcome,
  type PrefillAllowance,
  type PrefillPlan,
  type Sequence,
  type StepRunner,
} from '@guildhall/router/scheduling';
import { type PassParts, runPass } from './pass.ts';

export interface SimRunnerOptions extends PassParts {
  allowance: PrefillAllowance;
  microBatches: number;
  microBatchMin: number;
  /** Context that every stream has from a cache before its prompt, tokens. */
  cachedContext: number;
}

/** One sequence's part of a micro-batch. */
interface Item {
  seq: Sequence;
  tokens: number;
  start: number;
  completes: boolean;
}

/** Steps that only take time. Every token comes out as the same number. */
export class SimRunner implements StepRunner {
  readonly #o: SimRunnerOptions;
  decodeSteps = 0;
  #steps = 0;

  constructor(options: SimRunnerOptions) {
    this.#o = options;
  }

  async prefill(plan: PrefillPlan): Promise<{ outcomes: Outcome[]; ms: number }> {
    const { allowance } = this.#o;
    allowance.begin();
    const items = plan.items.map(({ seq, chunk, completes }) => ({
      seq,
      tokens: chunk.count,
      start: chunk.start,
      completes,
    }));
    const outcomes = await this.#pass('prefill', 0, items);
    return { outcomes, ms: allowance.end() };
  }

  async decode(plan: DecodePlan): Promise<{ outcomes: Outcome[]; ms: number }> {
    const { clock, allowance, microBatches, microBatchMin } = this.#o;
    const begunAtMs = clock.monotonicMs();
    const prefillMs = allowance.totalMs();
    this.decodeSteps += 1;
    const count = numMicroBatches(plan.seqs.length, microBatches, microBatchMin);
    const passes = Array.from({ length: count }, (_, i) => {
      const [from, to] = [Math.floor((i * plan.seqs.length) / count), Math.floor(((i + 1) * plan.seqs.length) / count)];
      const items = plan.seqs
        .slice(from, to)
        .map((seq) => ({ seq, tokens: 1, start: seq.numTokens - 1, completes: true }));
      return this.#pass('decode', i, items);
    });
    const outcomes = (await Promise.all(passes)).flat();
    const besideMs = allowance.totalMs() - prefillMs;
    return { outcomes, ms: Math.max(0, clock.monotonicMs() - begunAtMs - besideMs) };
  }

  async #pass(lane: 'decode' | 'prefill', microBatch: number, items: readonly Item[]): Promise<Outcome[]> {
    const { allowance } = this.#o;
    this.#steps += 1;
    try {
      await runPass(this.#o, {
        lane,
        step: this.#steps,
        microBatch,
        ...this.#denseWork(items),
        logits: items.filter(({ completes }) => completes).length,
        owner: ownersOf(items),
        // What a stream is about does not change while it goes on.
        topics: Int32Array.from(items, ({ seq }) => Math.imul(seq.ticket, 0x9e3779b1) >>> 8),
        checkpoint: lane === 'prefill' ? () => allowance.checkpoint() : null,
      });
      return items.map(computed);
    } catch (err) {
      const error = toGuildhallError(err);
      return items.map(({ seq }) => ({ kind: 'failed', seq, error }));
    }
  }

  #denseWork(items: readonly Item[]): { rows: number; sequences: number; depth: number; context: number } {
    const { cachedContext } = this.#o;
    const work = { rows: 0, sequences: items.length, depth: 0, context: 0 };
    for (const { tokens, start } of items) {
      work.rows += tokens;
      work.depth += tokens * (cachedContext + start + tokens / 2);
      work.context += cachedContext + start + tokens;
    }
    return work;
  }
}

/** Index of the sequence of each row. */
function ownersOf(items: readonly Item[]): Int32Array {
  const owner = new Int32Array(items.reduce((sum, { tokens }) => sum + tokens, 0));
  let row = 0;
  for (const [index, { tokens }] of items.entries()) {
    owner.fill(index, row, row + tokens);
    row += tokens;
  }
  return owner;
}

const NO_IDS = new Int32Array(0);
const NO_LOGPROBS = new Float32Array(0);

function computed({ seq, tokens, completes }: Item): Outcome {
  const samples = completes && !seq.stop.atLimit();
  const sample = samples ? { id: 0, logprob: 0, topIds: NO_IDS, topLogprobs: NO_LOGPROBS } : null;
  return { kind: 'ok', seq, computed: tokens, sample, promptOutputs: [] };
}
