import type { Cluster } from './cluster.ts';

/** A parameter that OpenAI's types do not know. */
export const IGNORE_EOS = { ignore_eos: true };

export interface StreamRequest {
  prompt: string;
  maxTokens: number;
  seed: number;
  temperature?: number;
}

export interface StreamedToken {
  token: string;
  logprob: number;
}

/**
 * Streams exactly `maxTokens` sampled tokens with their log-probabilities; `during` runs once in the middle. `gapsMs` gets
 * the milliseconds between two tokens.
 */
export async function streamTokens(
  cluster: Cluster,
  request: StreamRequest,
  during: { afterTokens: number; run: () => unknown } | null = null,
  gapsMs: number[] | null = null,
): Promise<StreamedToken[]> {
  const tokens: StreamedToken[] = [];
  const events = await cluster.client().chat.completions.create({
    model: 'tiny',
    messages: [{ role: 'user', content: request.prompt }],
    max_tokens: request.maxTokens,
    temperature: request.temperature ?? 0.9,
    seed: request.seed,
    logprobs: true,
    stream: true,
    ...IGNORE_EOS,
  });
  let done = false;
  let lastMs: number | null = null;
  for await (const { choices } of events) {
    const nowMs = performance.now();
    if (lastMs !== null) gapsMs?.push(nowMs - lastMs);
    lastMs = nowMs;
    for (const { token, logprob } of choices[0]?.logprobs?.content ?? []) tokens.push({ token, logprob });
    if (during !== null && !done && tokens.length >= during.afterTokens) {
      done = true;
      await during.run();
    }
  }
  return tokens;
}
