import { noUsage, type UsageCounts } from '@guildhall/common';
import type { ChoiceCounts } from '../choice-assembler.ts';

/** How far one choice is. */
export interface ChoiceProgress {
  /** The same object for all choices of a prompt. */
  promptIds: readonly number[];
  /** A router has begun. */
  started: boolean;
  counts: ChoiceCounts;
  /** Milliseconds that workers computed experts for it, in all routers that had it. */
  expertMs: number;
}

/**
 * What the choices of a request have used so far, whether they come to their end or not. A prompt counts once, when a router has begun
 * on it.
 */
export function usageSoFar(choices: readonly ChoiceProgress[]): UsageCounts {
  const used = { ...noUsage(), requests: 1 };
  const cached = new Map<readonly number[], number>();
  for (const { promptIds, started, counts, expertMs } of choices) {
    used.outputTokens += counts.completionTokens;
    used.reasoningTokens += counts.reasoningTokens;
    used.expertMicros += expertMs * 1000;
    if (started) cached.set(promptIds, Math.max(cached.get(promptIds) ?? 0, counts.cachedTokens));
  }
  for (const [promptIds, tokens] of cached) {
    used.inputTokens += promptIds.length;
    used.cachedTokens += Math.min(tokens, promptIds.length);
  }
  return used;
}
