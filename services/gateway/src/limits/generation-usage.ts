import { noUsage, type UsageCounts } from '@guildhall/common';
import type { ChoiceCounts } from '../choice-assembler.ts';

/** How far one choice is. */
export interface ChoiceProgress {
  /** The same object for all choices of a prompt. */
  promptIds: readonly number[];
  /** A router has begun. */
  started: boolean;
  counts: ChoiceCounts;
  /** Tokens of it that were generated, and counted, before it was taken over. */
  known: number;
  /** Milliseconds that workers computed experts for it, in all routers that had it. */
  expertMs: number;
}

/**
 * What the choices of a request have used so far, whether they come to their end or not. A prompt counts once, when a router has begun
 * on it.
 */
export function usageSoFar(choices: readonly ChoiceProgress[]): UsageCounts {
  const isNew = choices.every(({ known }) => known === 0);
  const used = { ...noUsage(), requests: isNew ? 1 : 0 };
  const cached = new Map<readonly number[], number>();
  for (const { promptIds, started, counts, known, expertMs } of choices) {
    used.outputTokens += Math.max(0, counts.completionTokens - known);
    used.reasoningTokens += counts.reasoningTokens;
    used.expertMicros += expertMs * 1000;
    if (started && known === 0) cached.set(promptIds, Math.max(cached.get(promptIds) ?? 0, counts.cachedTokens));
  }
  for (const [promptIds, tokens] of cached) {
    used.inputTokens += promptIds.length;
    used.cachedTokens += Math.min(tokens, promptIds.length);
  }
  return used;
}
