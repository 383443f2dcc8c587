import { sseEvents } from '../sse.ts';
import { tokensAt } from '../subjects/protocol.ts';

/** One stream as its client saw it; times in milliseconds on this process's clock. */
export interface StreamTimes {
  sentAt: number;
  /** Arrival of each event that carries text. */
  events: number[];
  tokens: number;
}

export interface StreamsOptions {
  url: string;
  model: string;
  count: number;
  promptTokens: number;
  maxTokens: number;
  vocab: number;
  /** Further headers of each request. */
  headers?: () => Record<string, string>;
  /** Further fields of the request of a stream. */
  body?: (index: number) => Record<string, unknown>;
}

/** Sends `count` completions at once, each with a prompt of its own in token ids, and reads them to their end. */
export async function runStreams(options: StreamsOptions): Promise<StreamTimes[]> {
  return Promise.all(Array.from({ length: options.count }, async (_, i) => runStream(options, i)));
}

async function runStream(options: StreamsOptions, index: number): Promise<StreamTimes> {
  const { url, model, promptTokens, maxTokens, vocab } = options;
  const sentAt = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...options.headers?.() },
    body: JSON.stringify({
      model,
      prompt: [...tokensAt(index, 0, promptTokens, vocab)],
      max_tokens: maxTokens,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
      ...options.body?.(index),
    }),
  });
  if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  const events: number[] = [];
  let tokens = 0;
  for await (const text of sseEvents(response.body)) {
    events.push(performance.now());
    tokens = Number(/"completion_tokens":(\d+)/.exec(text)?.[1] ?? tokens);
  }
  // The last event carries the usage alone.
  return { sentAt, events: events.slice(0, -1), tokens };
}

/** Where all streams generate: from the last first token to the first end. */
export function windowOf(streams: readonly StreamTimes[]): { from: number; to: number } {
  const from = Math.max(...streams.map(({ events }) => events[0] ?? Infinity));
  const to = Math.min(...streams.map(({ events }) => events.at(-1) ?? -Infinity));
  return { from, to };
}

/** Tokens a second of all streams together within a window. Tokens without text count with those around them. */
export function rateWithin(streams: readonly StreamTimes[], { from, to }: { from: number; to: number }): number {
  const tokens = streams.reduce((sum, { events, tokens: all }) => {
    const inside = events.filter((at) => at > from && at <= to).length;
    return sum + (inside * all) / events.length;
  }, 0);
  return (tokens * 1000) / (to - from);
}

/** Tokens a second from the first request to the last end. */
export function wholeRate(streams: readonly StreamTimes[]): number {
  const tokens = streams.reduce((sum, stream) => sum + stream.tokens, 0);
  const from = Math.min(...streams.map(({ sentAt }) => sentAt));
  const to = Math.max(...streams.map(({ events }) => events.at(-1) ?? 0));
  return (tokens * 1000) / (to - from);
}

/** Milliseconds to the first token, and between tokens from then on, of each stream. */
export function latencies(streams: readonly StreamTimes[]): { first: number[]; between: number[] } {
  const first = streams.map(({ sentAt, events }) => (events[0] ?? NaN) - sentAt);
  const between = streams.map(({ events, tokens }) => ((events.at(-1) ?? NaN) - (events[0] ?? NaN)) / (tokens - 1));
  return { first, between };
}

/** Value below which a share of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}
