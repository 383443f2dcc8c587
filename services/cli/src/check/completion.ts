import { fail } from '@guildhall/common';
import { z } from 'zod';
import { headers } from '../chat-client.ts';
import { sseData } from '../sse-data.ts';

/** What a streamed answer came to. */
export interface CompletionFacts {
  model: string;
  /** Characters of the answer and of its reasoning. */
  characters: number;
  finishReason: string;
  promptTokens: number;
  completionTokens: number;
}

const chunkSchema = z.object({
  error: z.object({ message: z.string() }).optional(),
  choices: z
    .array(
      z.object({
        delta: z.object({ content: z.string().nullish(), reasoning_content: z.string().nullish() }).optional(),
        finish_reason: z.string().nullish(),
      }),
    )
    .default([]),
  usage: z.object({ prompt_tokens: z.number(), completion_tokens: z.number() }).nullish(),
});

const modelsSchema = z.object({ data: z.array(z.object({ id: z.string() })) });

export interface CompletionTarget {
  url: string;
  apiKey: string | null;
  signal: AbortSignal;
}

const PROMPT = 'Say hello.';
const MAX_TOKENS = 16;

async function refuse(response: Response): Promise<never> {
  const text = (await response.text()).slice(0, 300);
  throw fail('not_ready', `${new URL(response.url).pathname} answered ${response.status}: ${text}`);
}

/** Names of the served models. Throws `not_ready` when there are none, or the gateway refuses. */
export async function servedModels({ url, apiKey, signal }: CompletionTarget): Promise<string[]> {
  const response = await fetch(`${url}/v1/models`, { headers: headers(apiKey), signal });
  if (!response.ok) return refuse(response);
  const models = modelsSchema.parse(await response.json()).data.map(({ id }) => id);
  if (models.length === 0) throw fail('not_ready', 'no model is served');
  return models;
}

/** Streams a short answer as a client would. Throws `not_ready` unless it has text, a reason for its end, and its usage. */
export async function streamedCompletion(target: CompletionTarget, model: string): Promise<CompletionFacts> {
  const response = await fetch(`${target.url}/v1/chat/completions`, {
    method: 'POST',
    headers: headers(target.apiKey),
    signal: target.signal,
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: PROMPT }],
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: MAX_TOKENS,
    }),
  });
  if (!response.ok || response.body === null) return refuse(response);
  const facts: CompletionFacts = { model, characters: 0, finishReason: '', promptTokens: 0, completionTokens: 0 };
  let done = false;
  for await (const data of sseData(response.body)) {
    if (data === '[DONE]') done = true;
    else note(facts, JSON.parse(data));
  }
  return complete(facts, done);
}

function note(facts: CompletionFacts, value: unknown): void {
  const { error, choices, usage } = chunkSchema.parse(value);
  if (error !== undefined) throw fail('not_ready', `the stream failed: ${error.message}`);
  for (const { delta, finish_reason: reason } of choices) {
    facts.characters += (delta?.content ?? '').length + (delta?.reasoning_content ?? '').length;
    facts.finishReason = reason ?? facts.finishReason;
  }
  if (usage === null || usage === undefined) return;
  facts.promptTokens = usage.prompt_tokens;
  facts.completionTokens = usage.completion_tokens;
}

function complete(facts: CompletionFacts, done: boolean): CompletionFacts {
  const missing = [
    ...(facts.characters === 0 ? ['text'] : []),
    ...(facts.finishReason === '' ? ['a finish_reason'] : []),
    ...(facts.completionTokens === 0 || facts.promptTokens === 0 ? ['its usage'] : []),
    ...(done ? [] : ['its end ([DONE])']),
  ];
  if (missing.length > 0) throw fail('not_ready', `the answer came without ${missing.join(' and ')}`);
  return facts;
}
