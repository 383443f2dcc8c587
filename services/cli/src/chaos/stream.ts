import { type Clock, errorMessage } from '@guildhall/common';
import { sseData } from '../sse-data.ts';
import type { LoadRequest } from './requests.ts';

/** Where the HTTP API of the lab is. */
export interface ApiTarget {
  url: string;
  apiKey: string;
  model: string;
}

/** One token as the API gives it: its text, and its log-probability to the last bit. */
export interface StreamedToken {
  token: string;
  logprob: number;
  /** When it came, monotonic milliseconds. */
  atMs: number;
}

/** What came of one streamed request. */
export interface StreamResult {
  startedMs: number;
  endedMs: number;
  tokens: StreamedToken[];
  /** Why the stream broke; null when it ended as it should. */
  error: string | null;
}

interface Chunk {
  choices?: {
    finish_reason?: string | null;
    logprobs?: { content?: { token: string; logprob: number }[] | null } | null;
  }[];
  error?: { message: string; code?: string };
}

/** A stream that takes longer is counted as dropped. */
const STREAM_LIMIT_MS = 120_000;

/** Streams one request to its end; never throws. `onToken` is called with the number of tokens so far. */
export async function streamRequest(
  api: ApiTarget,
  request: LoadRequest,
  clock: Clock,
  onToken: (count: number) => void = () => undefined,
): Promise<StreamResult> {
  const result: StreamResult = { startedMs: clock.monotonicMs(), endedMs: 0, tokens: [], error: null };
  try {
    const response = await fetch(`${api.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${api.apiKey}` },
      body: JSON.stringify(bodyOf(api.model, request)),
      signal: AbortSignal.timeout(STREAM_LIMIT_MS),
    });
    if (!response.ok || response.body === null) {
      result.error = `HTTP ${response.status}: ${(await response.text()).slice(0, 300)}`;
    } else {
      result.error = await readEvents(response.body, (chunk) => {
        for (const { token, logprob } of chunk.choices?.[0]?.logprobs?.content ?? []) {
          result.tokens.push({ token, logprob, atMs: clock.monotonicMs() });
          onToken(result.tokens.length);
        }
      });
    }
  } catch (error) {
    const { cause } = error as { cause?: unknown };
    result.error = cause === undefined ? errorMessage(error) : `${errorMessage(error)}: ${errorMessage(cause)}`;
  }
  result.endedMs = clock.monotonicMs();
  if (result.error === null && result.tokens.length !== request.maxTokens) {
    result.error = `${result.tokens.length} of ${request.maxTokens} tokens`;
  }
  return result;
}

function bodyOf(model: string, request: LoadRequest): object {
  return {
    model,
    messages: [{ role: 'user', content: request.prompt }],
    max_tokens: request.maxTokens,
    temperature: request.temperature,
    top_p: request.topP,
    seed: request.seed,
    stream: true,
    logprobs: true,
    ignore_eos: true,
  };
}

/** Reads server-sent events to `[DONE]`. @returns what went wrong, or null. */
async function readEvents(body: ReadableStream<Uint8Array>, onChunk: (chunk: Chunk) => void): Promise<string | null> {
  for await (const data of sseData(body)) {
    if (data === '[DONE]') return null;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error !== undefined) return `${chunk.error.code ?? 'error'}: ${chunk.error.message}`;
    onChunk(chunk);
  }
  return 'the stream ended without [DONE]';
}

/** Tokens that are not those of `reference` at the same place, the missing ones of a broken stream not counted. */
export function countWrong(result: StreamResult, reference: readonly StreamedToken[]): number {
  return result.tokens.filter(({ token, logprob }, index) => {
    const right = reference[index];
    return right === undefined || right.token !== token || right.logprob !== logprob;
  }).length;
}

/** The longest time between two tokens of a stream that ended after `fromMs`, clipped to what came after it. */
export function longestGap(results: readonly StreamResult[], fromMs: number, toMs = Infinity): number {
  let longest = 0;
  for (const { tokens } of results) {
    for (let index = 1; index < tokens.length; index++) {
      const start = (tokens[index - 1] as StreamedToken).atMs;
      const end = (tokens[index] as StreamedToken).atMs;
      if (end > fromMs && end <= toMs) longest = Math.max(longest, end - start);
    }
  }
  return longest;
}
