import { createHash } from 'node:crypto';
import type { ChoiceCounts } from '../choice-assembler.ts';
import type { Usage } from '../schema/usage.ts';

/**
 * Usage of a request. Each prompt counts once, however many choices it has.
 * @param promptTokens length of each prompt.
 * @param counts of the choices, prompt by prompt, the same number for each.
 */
export function usageOf(promptTokens: readonly number[], counts: readonly ChoiceCounts[]): Usage {
  const perPrompt = promptTokens.length === 0 ? 0 : counts.length / promptTokens.length;
  const prompt = sum(promptTokens);
  const completion = sum(counts.map((count) => count.completionTokens));
  // The most that any choice of a prompt found, over all prompts.
  const most = (valueOf: (count: ChoiceCounts) => number): number =>
    sum(promptTokens.map((_, i) => Math.max(0, ...counts.slice(i * perPrompt, (i + 1) * perPrompt).map(valueOf))));
  const decodeCached = most((count) => count.decodeCachedTokens);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: {
      cached_tokens: most((count) => count.cachedTokens),
      ...(decodeCached > 0 ? { decode_cached_tokens: decodeCached } : {}),
    },
    completion_tokens_details: { reasoning_tokens: sum(counts.map((count) => count.reasoningTokens)) },
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** `fp_…` of a checkpoint's fingerprint and a numerics class. */
export function systemFingerprint(checkpoint: string, numericsId: string): string {
  return `fp_${createHash('sha256').update(`${checkpoint}\n${numericsId}`).digest('hex').slice(0, 16)}`;
}
