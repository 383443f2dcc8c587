import { sseEvents } from '../sse.ts';

/** One streamed completion as its client saw it; times in milliseconds on this process's clock. */
export interface StreamedCompletion {
  sentAt: number;
  /** First event with text. */
  firstAt: number;
  lastAt: number;
  tokens: number;
  promptTokens: number;
  /** Prompt tokens that were not computed, as the usage says. */
  cachedTokens: number;
}

export interface CompletionOptions {
  url: string;
  prompt: readonly number[];
  maxTokens: number;
}

interface Chunk {
  choices?: { text?: string; finish_reason?: string | null }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
  } | null;
}

/** Streams a greedy completion of exactly `maxTokens` tokens from the model `tiny`. Throws for any status but 200. */
export async function streamCompletion({ url, prompt, maxTokens }: CompletionOptions): Promise<StreamedCompletion> {
  const sentAt = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny',
      prompt,
      max_tokens: maxTokens,
      temperature: 0,
      ignore_eos: true,
      // Random tokens need not have text of their own; with log-probabilities each has an event.
      logprobs: 0,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  const stream = { sentAt, firstAt: NaN, lastAt: NaN, tokens: 0, promptTokens: 0, cachedTokens: 0 };
  for await (const text of sseEvents(response.body)) take(stream, JSON.parse(text) as Chunk, performance.now());
  if (stream.tokens !== maxTokens) throw new Error(`${stream.tokens} tokens came, ${maxTokens} were asked for`);
  return stream;
}

function take(stream: StreamedCompletion, { choices = [], usage }: Chunk, now: number): void {
  if (choices.length > 0) {
    if (Number.isNaN(stream.firstAt)) stream.firstAt = now;
    stream.lastAt = now;
  }
  if (usage === null || usage === undefined) return;
  stream.tokens = usage.completion_tokens;
  stream.promptTokens = usage.prompt_tokens;
  stream.cachedTokens = usage.prompt_tokens_details.cached_tokens;
}
