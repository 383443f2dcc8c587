import { fail, type GuildhallError, traceFields } from '@guildhall/common';
import type { Sample, SamplerParams, SamplerState } from '@guildhall/native';
import { PAGE_TOKENS } from './kv/page-pool.ts';
import type { PrefixHolder } from './kv/peer/prefix-pull.ts';
import type { MovedFrom } from './kv/peer/takeover.ts';
import { PageTable } from './kv/page-table.ts';
import type { SequencePrefix, StateSource } from './kv/sequence-prefix.ts';
import type { SequenceRecord } from './kv/sequence-record.ts';
import type { SlotId } from './kv/state-slots.ts';
import type { StopConditions, StopReason, StopSpec } from './stop-conditions.ts';
import type { SequenceTrace } from './telemetry/sequence-trace.ts';
import { ThinkingBudget, type ThinkingSpec } from './thinking-budget.ts';

/** A checked request for one choice, in the engine's terms. Times are the clock's monotonic milliseconds. */
export interface SequenceSpec {
  requestId: string;
  choice: number;
  /** Larger is more urgent. */
  priority: number;
  promptIds: Int32Array;
  /** Tokens generated before, replayed with decode's arithmetic. */
  generatedIds: Int32Array;
  sampler: SamplerParams;
  stop: StopSpec;
  /** How long the think block that the answer starts in may become; null for no limit. */
  thinking: ThinkingSpec | null;
  /** When the sequence ends with an error; null for never. */
  deadlineAtMs: number | null;
  promptLogprobs: boolean;
  /** Whose share of the machine it uses; '' is a tenant as well. */
  tenant: string;
  /** Prompts share pages only under equal salts. */
  cacheSalt: string;
  /** W3C traceparent (55 bytes) or null. */
  traceparent: string | null;
  /** Another router that has more of the prompt, as far as the gateway knows. */
  holder: PrefixHolder | null;
  /** Where a sequence that was moved here is parked. */
  moved: MovedFrom | null;
}

/** One position of the output, or of the prompt when its log-probabilities were asked for. */
export interface TokenOutput {
  index: number;
  sample: Sample;
}

/** Figures of a finished sequence. */
export interface FinishOutput {
  reason: StopReason;
  promptTokens: number;
  completionTokens: number;
  cachedTokens: number;
  /** Of those: made by decode, or following from it. */
  decodeCachedTokens: number;
  queueMs: number;
  prefillMs: number;
  decodeMs: number;
  /** Expert rows computed for it, by worker id. */
  expertRows: ReadonlyMap<string, number>;
}

/** Where a sequence's events go. Calls never block and never throw. */
export interface SequenceSink {
  /** `cachedTokens` of its prompt need not be computed. */
  started(epoch: number, cachedTokens: number): void;
  token(token: TokenOutput): void;
  promptLogprobs(tokens: readonly TokenOutput[]): void;
  finished(output: FinishOutput): void;
  /** Last event: the sequence goes on in another router, from what is parked under `handle` ('' for nothing). */
  moved(handle: string, numComputed: number): void;
  failed(error: GuildhallError): void;
  /** True while so much is unsent that the sequence should not generate more. */
  congested(): boolean;
}

/**
 * Where a sequence is: `new` was never queued, `restoring` has pages that are being filled from lower tiers, `done` has
 * given everything back.
 */
export type Phase = 'new' | 'waiting' | 'restoring' | 'prefill' | 'decode' | 'done';

/** Next piece of a sequence's unprocessed tokens. `mode` 0 is the chunked form (prompt), 1 the recurrent one. */
export interface Chunk {
  start: number;
  count: number;
  mode: 0 | 1;
}

export interface SequenceParts {
  spec: SequenceSpec;
  sampler: SamplerState;
  stop: StopConditions;
  sink: SequenceSink;
  /** Null when nobody traces it. */
  trace?: SequenceTrace | null;
  /** Order of arrival in this router. */
  ticket: number;
  arrivedAtMs: number;
}

/**
 * One choice being generated: its tokens, how far they are in pages and state, and what it holds. The scheduler
 * moves it between phases; only the engine feeds it tokens.
 */
export class Sequence {
  readonly spec: SequenceSpec;
  readonly key: string;
  readonly ticket: number;
  readonly arrivedAtMs: number;
  readonly sampler: SamplerState;
  readonly stop: StopConditions;
  readonly sink: SequenceSink;
  /** Null when nobody traces it. */
  readonly trace: SequenceTrace | null;
  readonly table = new PageTable();
  slot: SlotId | null = null;
  /** Where the next step takes the state from. */
  stateSource: StateSource = 'zeros';
  /** Named pages; null with the prefix cache off. */
  prefix: SequencePrefix | null = null;
  phase: Phase = 'new';
  /** Its priority, or more after it has waited for long. */
  urgency: number;
  /** Tokens whose K, V and state are in place. */
  numComputed = 0;
  /** Pages of its prompt are being brought nearer; it is admitted afterwards. */
  prefetching = false;
  /** A step or an import that uses its pages and slot is running. */
  inFlight = false;
  /** Gives its pages up when the step in flight retires. */
  preemptWanted = false;
  /** A step broke off, so that its state is neither what it was nor what it should be. */
  spoiled = false;
  /** What was copied out of the pool when it was preempted. */
  record: SequenceRecord | null = null;
  /** Set once the caller has its last event; the rest is cleaning up. */
  ended = false;
  /** Tokens that it has to compute in steps of its own, since a step that should have got there broke off; 0 for none. */
  isolatedUntil = 0;
  admittedAtMs: number | null = null;
  firstTokenAtMs: number | null = null;
  lastTokenAtMs: number | null = null;
  readonly expertRows = new Map<string, number>();
  readonly promptOutputs: TokenOutput[] = [];
  promptSent = false;
  readonly #thinking: ThinkingBudget | null;
  readonly #generated: number[];

  constructor(parts: SequenceParts) {
    this.spec = parts.spec;
    this.urgency = parts.spec.priority;
    this.key = `${parts.spec.requestId}/${parts.spec.choice}#${parts.ticket}`;
    this.ticket = parts.ticket;
    this.arrivedAtMs = parts.arrivedAtMs;
    this.sampler = parts.sampler;
    this.stop = parts.stop;
    this.sink = parts.sink;
    this.trace = parts.trace ?? null;
    this.#generated = Array.from(parts.spec.generatedIds);
    this.#thinking = parts.spec.thinking === null ? null : new ThinkingBudget(parts.spec.thinking);
    for (const id of this.#generated) this.#thinking?.push(id);
  }

  /** Fields of log lines about it. */
  get logFields() {
    return { sequence: this.key, ...traceFields(this.spec.traceparent) };
  }

  get numPrompt(): number {
    return this.spec.promptIds.length;
  }

  get numGenerated(): number {
    return this.#generated.length;
  }

  get numTokens(): number {
    return this.numPrompt + this.#generated.length;
  }

  /** Tokens to process before the next one can be sampled. */
  get numPending(): number {
    return this.numTokens - this.numComputed;
  }

  /** Shares no step with others for now. */
  get isolated(): boolean {
    return this.isolatedUntil > 0;
  }

  /** Token ids [start, start + count) of prompt and generated tokens together. */
  copyTokens(start: number, count: number, into: Int32Array, offset: number): void {
    for (let i = 0; i < count; i++) into[offset + i] = this.#tokenAt(start + i);
  }

  #tokenAt(index: number): number {
    const id = index < this.numPrompt ? this.spec.promptIds[index] : this.#generated[index - this.numPrompt];
    if (id === undefined) throw fail('integrity', `${this.key} has no token ${index}`);
    return id;
  }

  /**
   * Next chunk of at most `limit` tokens. Prompt chunks end at multiples of 64 or at the prompt's end, so fewer than
   * 64 may give an empty one; a chunk never mixes prompt and generated tokens.
   */
  nextChunk(limit: number): Chunk {
    const start = this.numComputed;
    if (start >= this.numPrompt) return { start, count: Math.min(limit, this.numPending), mode: 1 };
    const cut = start + limit - ((start + limit) % PAGE_TOKENS);
    const end = start + limit >= this.numPrompt ? this.numPrompt : cut;
    return { start, count: end - start, mode: 0 };
  }

  /** The token that comes next whatever the model says; null where it is sampled. */
  get forcedId(): number | null {
    return this.#thinking?.forcedId ?? null;
  }

  /** Appends a token; returns why the sequence ends with it, or null. */
  accept(id: number, nowMs: number): StopReason | null {
    this.firstTokenAtMs ??= nowMs;
    this.lastTokenAtMs = nowMs;
    this.#generated.push(id);
    this.sampler.accept(id);
    this.#thinking?.push(id);
    return this.stop.push(id);
  }

  countRows(worker: string, rows: number): void {
    this.expertRows.set(worker, (this.expertRows.get(worker) ?? 0) + rows);
  }

  /** Figures for its last event. */
  summary(reason: StopReason, nowMs: number): FinishOutput {
    const admitted = this.admittedAtMs ?? nowMs;
    const first = this.firstTokenAtMs ?? nowMs;
    return {
      reason,
      promptTokens: this.numPrompt,
      completionTokens: this.numGenerated,
      cachedTokens: this.prefix?.cachedTokens ?? 0,
      decodeCachedTokens: this.prefix?.decodeCachedTokens ?? 0,
      queueMs: admitted - this.arrivedAtMs,
      prefillMs: first - admitted,
      decodeMs: nowMs - first,
      expertRows: this.expertRows,
    };
  }
}

/** Orders sequences by rank: negative when `a` goes first. Greater urgency, then earlier arrival. */
export function byRank(a: Sequence, b: Sequence): number {
  return b.urgency - a.urgency || a.ticket - b.ticket;
}
