import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GuildhallError } from '@guildhall/common';
import type { BatchSpec } from '@guildhall/native';
import { type BatchItem, buildBatch } from '../batch.ts';
import type { PoolTransfer } from '../kv/restorer.ts';
import type { Outcome, StepRunner } from '../runner.ts';
import type { DecodePlan, PrefillPlan } from '../scheduler/scheduler.ts';
import type { Sequence } from '../sequence.ts';
import { brokenOutcomes } from '../step-failures.ts';
import { crc32cReference } from './crc32c.ts';
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
  /** Who was in each step that broke off. */
  readonly broken: Sequence[][] = [];
  /** What breaks a step that has this sequence in it, at its present length, or null. */
  breaks: (seq: Sequence) => GuildhallError | null = () => null;
  /** Awaited in every prefill step, between its computation and its end. */
  holdPrefill: Promise<void> | null = null;
  maxTogether = 0;
  /** Prompt tokens processed so far. */
  numPromptTokens = 0;
  #running = 0;
  readonly #inUse = new Set<number>();

  async prefill(plan: PrefillPlan): Promise<{ outcomes: Outcome[]; ms: number }> {
    const items = plan.items.map(({ seq, chunk, completes, snapshot }) => ({ seq, chunk, completes, snapshot }));
    return await this.#run(items, this.holdPrefill);
  }

  async decode(plan: DecodePlan): Promise<{ outcomes: Outcome[]; ms: number }> {
    return await this.#run(
      plan.seqs.map((seq) => ({
        seq,
        chunk: seq.nextChunk(1),
        completes: true,
        snapshot: plan.snapshots.get(seq) ?? null,
      })),
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
    const seqs = items.map(({ seq }) => seq);
    if (failure?.kind === 'failed') return seqs.map((seq) => ({ kind: 'failed', seq, error: failure.error }));
    const broken = failure?.error ?? seqs.map((seq) => this.breaks(seq)).find((error) => error !== null);
    if (broken !== undefined) return this.#breakOff(items, broken);
    return items.map(({ seq, chunk, completes }, index) => {
      const next = this.#process(spec, index);
      const sample = completes && !seq.stop.atLimit() ? sampleOf(next) : null;
      return { kind: 'ok', seq, computed: chunk.count, sample, promptOutputs: [] };
    });
  }

  /** As a native step that breaks off: layers have moved states on, some rows of pages are written. */
  #breakOff(items: readonly BatchItem[], error: GuildhallError): Outcome[] {
    this.broken.push(items.map(({ seq }) => seq));
    for (const { seq } of items) this.#states.set(seq.slot as number, { hash: 0xbad, count: -1 });
    return brokenOutcomes(
      items.map(({ seq }) => seq),
      error,
      0,
    );
  }

  /** The state of the sequence's slot, after it was reset or copied if the batch says so. */
  #stateOf(spec: BatchSpec, index: number): { hash: number; count: number } {
    const slot = spec.stateSlot[index] as number;
    const init = spec.initState[index] as number;
    if (init === -2) this.#states.set(slot, { hash: 1, count: 0 });
    const source = init >= 0 ? this.#states.get(init) : undefined;
    if (source !== undefined) this.#states.set(slot, { ...source });
    const state = this.#states.get(slot);
    assert.ok(state !== undefined, 'the state is nowhere');
    return state;
  }

  #process(spec: BatchSpec, index: number): number {
    const at = (array: Int32Array, i: number): number => array[i] as number;
    const [start, count, context] = [at(spec.rowStart, index), at(spec.rowCount, index), at(spec.contextLen, index)];
    const mode = at(spec.mode, index);
    if (mode === 0) this.numPromptTokens += count;
    const state = this.#stateOf(spec, index);
    assert.equal(state.count, context, 'the state is not where the batch says');
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
      // Decode rounds otherwise than prefill, in pages as in states.
      pageOf(position)[position % 64] = at(spec.tokenIds, start + i) + (mode << 16);
      state.hash = mix(mix(state.hash, at(spec.tokenIds, start + i)), mode);
      state.count += 1;
      if (at(spec.snapshotSlot, index) >= 0 && i + 1 === at(spec.snapshotRows, index)) {
        this.#states.set(at(spec.snapshotSlot, index), { ...state });
      }
    }
    let hash = state.hash;
    for (let position = 0; position < context + count; position++)
      hash = mix(hash, pageOf(position)[position % 64] as number);
    return hash % PSEUDO_VOCAB;
  }

  /** The pools' bytes, as the native ones would move them. */
  readonly transfer: PoolTransfer = {
    exportPages: async (pages, group) => {
      await nextTurn();
      const parts = Array.from({ length: pages.length / group }, (_, part) =>
        bytesOf(...Array.from(pages.subarray(part * group, (part + 1) * group), (page) => this.#pages.get(page))),
      );
      return { parts, checksums: Uint32Array.from(parts, crc32cReference) };
    },
    importPages: async (pages, parts) => {
      await nextTurn();
      const group = pages.length / parts.length;
      for (const [i, page] of pages.entries()) {
        const part = parts[Math.floor(i / group)] as Uint8Array;
        this.#pages.set(page, intsOf(part).slice((i % group) * 64, ((i % group) + 1) * 64));
      }
    },
    exportState: async (slot) => {
      await nextTurn();
      const { hash, count } = this.#states.get(slot) as { hash: number; count: number };
      const data = bytesOf(Int32Array.of(hash, count));
      return { data, checksum: crc32cReference(data) };
    },
    importState: async (slot, data) => {
      await nextTurn();
      const [hash = 0, count = 0] = intsOf(data);
      this.#states.set(slot, { hash: hash >>> 0, count });
    },
  };
}

/** Bytes of a page and of a state of this model. */
export const PSEUDO_PAGE_BYTES = 256;
export const PSEUDO_STATE_BYTES = 8;

function bytesOf(...arrays: (Int32Array | undefined)[]): Uint8Array {
  const ints = arrays.flatMap((array) => Array.from(array ?? new Int32Array(64)));
  return new Uint8Array(Int32Array.from(ints).buffer);
}

function intsOf(bytes: Uint8Array): Int32Array {
  return new Int32Array(Uint8Array.from(bytes).buffer);
}
