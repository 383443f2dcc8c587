import { fail } from '@guildhall/common';
import { sseData } from './sse-data.ts';

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface ChatRequest {
  url: string;
  apiKey: string | null;
  model: string;
  messages: ChatMessage[];
  enableThinking: boolean;
  maxTokens: number | null;
  temperature: number | null;
  signal: AbortSignal | null;
}

export interface ChatDelta {
  reasoning: string;
  content: string;
}

export interface ChatUsage {
  promptTokens: number;
  completionTokens: number;
}

interface ChatChunk {
  error?: { message: string };
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null } }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
}

/** Headers of every call to the gateway. */
export function headers(apiKey: string | null): Record<string, string> {
  return { 'content-type': 'application/json', ...(apiKey === null ? {} : { authorization: `Bearer ${apiKey}` }) };
}

/**
 * Streams one answer of `/v1/chat/completions`, delta by delta, and returns the usage.
 * Errors: `internal` with the server's own words.
 */
export async function* streamChat(request: ChatRequest): AsyncGenerator<ChatDelta, ChatUsage | null> {
  const response = await fetch(`${request.url}/v1/chat/completions`, {
    method: 'POST',
    headers: headers(request.apiKey),
    signal: request.signal,
    body: JSON.stringify({
      model: request.model,
      messages: request.messages,
      stream: true,
      stream_options: { include_usage: true },
      chat_template_kwargs: { enable_thinking: request.enableThinking },
      ...(request.maxTokens === null ? {} : { max_tokens: request.maxTokens }),
      ...(request.temperature === null ? {} : { temperature: request.temperature }),
    }),
  });
  if (!response.ok || response.body === null) throw fail('internal', await describeFailure(response));
  let usage: ChatUsage | null = null;
  for await (const data of sseData(response.body)) {
    if (data === '[DONE]') break;
    const chunk = JSON.parse(data) as ChatChunk;
    if (chunk.error !== undefined) throw fail('internal', chunk.error.message);
    if (chunk.usage)
      usage = { promptTokens: chunk.usage.prompt_tokens, completionTokens: chunk.usage.completion_tokens };
    const delta = chunk.choices?.[0]?.delta;
    if (delta !== undefined) yield { reasoning: delta.reasoning_content ?? '', content: delta.content ?? '' };
  }
  return usage;
}

async function describeFailure(response: Response): Promise<string> {
  const text = await response.text();
  try {
    return (JSON.parse(text) as { error: { message: string } }).error.message;
  } catch {
    return `the gateway answered ${response.status}: ${text.slice(0, 200)}`;
  }
}

/** Served model names of a gateway. */
export async function listModels(url: string, apiKey: string | null): Promise<string[]> {
  const response = await fetch(`${url}/v1/models`, { headers: headers(apiKey) });
  if (!response.ok) throw fail('internal', await describeFailure(response));
  const { data } = (await response.json()) as { data: { id: string }[] };
  return data.map((model) => model.id);
}
