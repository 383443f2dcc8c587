import type { Cluster } from './cluster.ts';
import { IGNORE_EOS } from './stream.ts';

/** One answer to a prompt of token ids, with what a cache must not change and what it says of itself. */
export interface CachedCompletion {
  bits: { tokens: string[]; logprobs: (number | null)[] };
  /** Prompt tokens that were not computed, as the usage says. */
  cached: number;
}

export interface CompletionRequest {
  prompt: number[];
  maxTokens?: number;
  seed?: number;
}

interface Chunk {
  choices: { logprobs?: { tokens: string[]; token_logprobs: (number | null)[] } | null }[];
  usage?: { prompt_tokens_details?: { cached_tokens?: number } } | null;
}

/** Streams a sampled completion; `during` runs once in the middle. */
export async function cachedCompletion(
  cluster: Cluster,
  { prompt, maxTokens = 16, seed = 1 }: CompletionRequest,
  during: { afterTokens: number; run: () => unknown } | null = null,
): Promise<CachedCompletion> {
  const events = await cluster.client().completions.create({
    model: 'tiny',
    prompt,
    max_tokens: maxTokens,
    temperature: 0.8,
    seed,
    logprobs: 2,
    stream: true,
    stream_options: { include_usage: true },
    ...IGNORE_EOS,
  });
  const bits: CachedCompletion['bits'] = { tokens: [], logprobs: [] };
  let cached = -1;
  let done = false;
  for await (const event of events as AsyncIterable<Chunk>) {
    for (const { logprobs } of event.choices) {
      bits.tokens.push(...(logprobs?.tokens ?? []));
      bits.logprobs.push(...(logprobs?.token_logprobs ?? []));
    }
    cached = event.usage?.prompt_tokens_details?.cached_tokens ?? cached;
    if (during !== null && !done && bits.tokens.length >= during.afterTokens) {
      done = true;
      await during.run();
    }
  }
  return { bits, cached };
}
