import { PAGE_TOKENS } from '../kv/page-pool.ts';
import type { PlannedSnapshot } from '../kv/sequence-prefix.ts';
import type { Chunk, Sequence } from '../sequence.ts';
import type { StepCostModel } from './budget.ts';

/** One sequence's part of a prefill step. */
export interface PrefillItem {
  seq: Sequence;
  chunk: Chunk;
  /** The chunk ends at the sequence's last token: its logits give the next one. */
  completes: boolean;
  /** Logit rows that the part needs: every row for prompt log-probabilities, else the last or none. */
  logitRows: number;
  /** The state that the step keeps on its way, or null. */
  snapshot: PlannedSnapshot | null;
}

export interface PrefillLimits {
  maxTokens: number;
  maxLogitRows: number;
  maxSequences: number;
  /** Predicted milliseconds of the step. The first chunk may always be 64 tokens. */
  budgetMs: number;
  /** Shortens a chunk so that at most one snapshot falls into it. */
  cut: (seq: Sequence, chunk: Chunk) => Chunk;
}

/** What is still free in the step that is being put together. */
interface Room {
  tokens: number;
  logitRows: number;
  ms: number;
}

/**
 * Puts a prefill step together. The most urgent sequence is first, but when others wait it takes at most half, and
 * the other half goes to those with the least left, so that a long prompt does not hold up short ones; what they
 * leave over returns to it. `candidates` are in order of urgency.
 */
export function choosePrefill(
  candidates: readonly Sequence[],
  limits: PrefillLimits,
  cost: StepCostModel,
): PrefillItem[] {
  const head = candidates[0];
  if (head === undefined) return [];
  const room: Room = { tokens: limits.maxTokens, logitRows: limits.maxLogitRows, ms: limits.budgetMs };
  const others = candidates.slice(1).sort((a, b) => a.numPending - b.numPending);
  const share = others.length === 0 ? 1 : 0.5;
  const half: Room = {
    tokens: Math.max(PAGE_TOKENS, room.tokens * share),
    logitRows: room.logitRows,
    ms: room.ms * share,
  };
  const first = itemFor(head, half, cost, limits.cut, true);
  if (first === null) return [];
  take(room, first, cost);
  const items: PrefillItem[] = [];
  for (const seq of others) {
    if (items.length + 1 >= limits.maxSequences) break;
    const item = itemFor(seq, room, cost, limits.cut, false);
    if (item === null) continue;
    take(room, item, cost);
    items.push(item);
  }
  give(room, first, cost);
  return [itemFor(head, room, cost, limits.cut, true) ?? first, ...items];
}

function itemFor(
  seq: Sequence,
  room: Room,
  cost: StepCostModel,
  cut: PrefillLimits['cut'],
  always: boolean,
): PrefillItem | null {
  const least = always ? PAGE_TOKENS : 0;
  const affordable = room.ms === Infinity ? room.tokens : cost.tokensWithin(room.ms, seq.numComputed, room.tokens);
  let limit = Math.min(Math.max(affordable, least), room.tokens);
  if (room.logitRows < 1) return null;
  const wantsAll = seq.spec.promptLogprobs && seq.numComputed < seq.numPrompt;
  if (wantsAll) limit = Math.min(limit, room.logitRows);
  const chunk = cut(seq, seq.nextChunk(limit));
  if (chunk.count <= 0) return null;
  const completes = chunk.start + chunk.count === seq.numTokens;
  return { seq, chunk, completes, logitRows: wantsAll ? chunk.count : completes ? 1 : 0, snapshot: null };
}

function take(room: Room, item: PrefillItem, cost: StepCostModel): void {
  room.tokens -= item.chunk.count;
  room.logitRows -= item.logitRows;
  room.ms -= cost.marginal(workOf([item]));
}

function give(room: Room, item: PrefillItem, cost: StepCostModel): void {
  room.tokens += item.chunk.count;
  room.logitRows += item.logitRows;
  room.ms += cost.marginal(workOf([item]));
}

/** Tokens and depth of prefill items. */
export function workOf(items: readonly PrefillItem[]): { tokens: number; depthTokens: number } {
  let tokens = 0;
  let depthTokens = 0;
  for (const { chunk } of items) {
    tokens += chunk.count;
    depthTokens += chunk.count * (chunk.start + chunk.count / 2);
  }
  return { tokens, depthTokens };
}
