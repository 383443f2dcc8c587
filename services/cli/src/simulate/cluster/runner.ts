import { fail } from '@guildhall/common';
import {
  type DecodePlan,
  numMicroBatches,
  type Outcome,
  type PrefillAllowance,
  type PrefillPlan,
  type Sequence,
  type StepRunner,
} from '@guildhall/router/scheduling';
import type { SimClock } from '../kernel/sim-clock.ts';
import { Pass, type PassParts, type PassWork } from './pass.ts';

export interface SimRunnerOptions extends PassParts {
  clock: SimClock;
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
  /** Tokens of decode steps, and how many steps that were. */
  decodeSteps = 0;

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
    const outcomes = await this.#pass('prefill', items);
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
      return this.#pass('decode', items);
    });
    const outcomes = (await Promise.all(passes)).flat();
    const besideMs = allowance.totalMs() - prefillMs;
    return { outcomes, ms: Math.max(0, clock.monotonicMs() - begunAtMs - besideMs) };
  }

  async #pass(lane: 'decode' | 'prefill', items: readonly Item[]): Promise<Outcome[]> {
    const { clock, allowance } = this.#o;
    const work: PassWork = {
      lane,
      ...this.#denseWork(items),
      logits: items.filter(({ completes }) => completes).length,
      topics: this.#topics(items),
      checkpoint: lane === 'prefill' ? () => allowance.checkpoint() : null,
    };
    const ok = await new Promise<boolean>((resolve) => {
      const pass = new Pass(this.#o, work, (result) => {
        clock.settle();
        resolve(result);
      });
      pass.start();
    });
    return items.map((item) => (ok ? computed(item) : { kind: 'failed', seq: item.seq, error: unavailable() }));
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

  /** What a stream is about does not change while it goes on. */
  #topics(items: readonly Item[]): Int32Array {
    const topics = new Int32Array(items.reduce((sum, { tokens }) => sum + tokens, 0));
    let row = 0;
    for (const { seq, tokens } of items) {
      topics.fill(Math.imul(seq.ticket, 0x9e3779b1) >>> 8, row, row + tokens);
      row += tokens;
    }
    return topics;
  }
}

const NO_IDS = new Int32Array(0);
const NO_LOGPROBS = new Float32Array(0);

function computed({ seq, tokens, completes }: Item): Outcome {
  const samples = completes && !seq.stop.atLimit();
  const sample = samples ? { id: 0, logprob: 0, topIds: NO_IDS, topLogprobs: NO_LOGPROBS } : null;
  return { kind: 'ok', seq, computed: tokens, sample, promptOutputs: [] };
}

function unavailable() {
  return fail('expert_unavailable', 'no worker came to hold them');
}
