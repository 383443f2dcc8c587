import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GuildhallError } from '@guildhall/common';
import type { BatchSpec } from '@guildhall/native';
import { type BatchItem, buildBatch } from '../batch.ts';
import type { Outcome, StepRunner } from '../runner.ts';
import type { DecodePlan, PrefillPlan } from '../scheduler/scheduler.ts';
import type { Sequence } from '../sequence.ts';
import { sampleOf } from './sequences.ts';

export const PSEUDO_VOCAB = 97;

function mix(hash: number, value: number): number {
  return (Math.imul(hash ^ value, 0x9e3779b1) ^ (hash >>> 13)) >>> 0;
}

/**
 * A model of hashes instead of matrices, with the same demands on its surroundings: the next token depends on every
 * token in the sequence's pages, on the state in its slot and on the form (chunked or recurrent) that each token was
 * processed in. A page that two sequences share, a state that was not reset, or a replay in the wrong form changes
 * what comes out.
 */
export class PseudoRunner implements StepRunner {
  readonly #pages = new Map<number, Int32Array>();
  readonly #states = new Map<number, { hash: number; count: number }>();
  readonly specs: BatchSpec[] = [];
  /** Errors for the next steps, taken from the front. */
  readonly failNext: { error: GuildhallError; kind: 'again' | 'failed' }[] = [];
  /** Awaited in every prefill step, between its computation and its end. */
  holdPrefill: Promise<void> | null = null;
  maxTogether = 0;
  #running = 0;
  readonly #inUse = new Set<number>();

  resetState(seq: Sequence): void {
    assert.notEqual(seq.slot, null);
    this.#states.set(seq.slot as number, { hash: 1, count: 0 });
  }

  async prefill(plan: PrefillPlan): Promise<{ outcomes: Outcome[]; ms: number }> {
    const items = plan.items.map(({ seq, chunk, completes }) => ({ seq, chunk, completes }));
    return await this.#run(items, this.holdPrefill);
  }

  async decode(plan: DecodePlan): Promise<{ outcomes: Outcome[]; ms: number }> {
    return await this.#run(
      plan.seqs.map((seq) => ({ seq, chunk: seq.nextChunk(1), completes: true })),
      null,
    );
  }

  async #run(
    items: (BatchItem & { completes: boolean })[],
    hold: Promise<void> | null,
  ): Promise<{ outcomes: Outcome[]; ms: number }> {
    const slots = items.map(({ seq }) => seq.slot as number);
    for (const slot of slots) {
      assert.ok(!this.#inUse.has(slot), 'a sequence is in two steps');
      this.#inUse.add(slot);
    }
    this.#running += 1;
    this.maxTogether = Math.max(this.maxTogether, this.#running);
    const spec = buildBatch(items, true);
    this.specs.push(spec);
    await nextTurn();
    const outcomes = this.#outcomes(items, spec);
    if (hold !== null) await hold;
    this.#running -= 1;
    for (const slot of slots) this.#inUse.delete(slot);
    return { outcomes, ms: items.length };
  }

  #outcomes(items: (BatchItem & { completes: boolean })[], spec: BatchSpec): Outcome[] {
    const failure = this.failNext.shift();
    if (failure !== undefined) {
      return items.map(({ seq }) =>
        failure.kind === 'again'
          ? { kind: 'again', seq, cause: failure.error }
          : { kind: 'failed', seq, error: failure.error },
      );
    }
    return items.map(({ seq, chunk, completes }, index) => {
      const next = this.#process(spec, index);
      const sample = completes && !seq.stop.atLimit() ? sampleOf(next) : null;
      return { kind: 'ok', seq, computed: chunk.count, sample, promptOutputs: [] };
    });
  }

  #process(spec: BatchSpec, index: number): number {
    const at = (array: Int32Array, i: number): number => array[i] as number;
    const [start, count, context] = [at(spec.rowStart, index), at(spec.rowCount, index), at(spec.contextLen, index)];
    const mode = at(spec.mode, index);
    const state = this.#states.get(at(spec.stateSlot, index));
    assert.equal(state?.count, context, 'the state is not where the batch says');
    if (mode === 0) assert.equal(context % 64, 0, 'a prompt chunk off the grid');
    const pageOf = (position: number): Int32Array => {
      const page = at(spec.pageTable, index * spec.maxPages + Math.floor(position / 64));
      const tokens = this.#pages.get(page) ?? new Int32Array(64).fill(-1);
      this.#pages.set(page, tokens);
      return tokens;
    };
    for (let i = 0; i < count; i++) {
      const position = context + i;
      assert.equal(at(spec.positions, start + i), position);
      pageOf(position)[position % 64] = at(spec.tokenIds, start + i);
      state.hash = mix(mix(state.hash, at(spec.tokenIds, start + i)), mode);
      state.count += 1;
    }
    let hash = state.hash;
    for (let position = 0; position < context + count; position++)
      hash = mix(hash, pageOf(position)[position % 64] as number);
    return hash % PSEUDO_VOCAB;
  }
}
