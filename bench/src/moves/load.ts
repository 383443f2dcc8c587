import type { Cluster } from '@guildhall/test/harness';
import { percentile } from '../serving/streams.ts';
import { sseEvents } from '../sse.ts';

/** What the streams saw in a stretch of time. */
export interface Window {
  /** Milliseconds between two tokens of a stream. */
  p50: number;
  p99: number;
  longest: number;
  tokensPerSecond: number;
}

interface Gap {
  at: number;
  ms: number;
}

interface Chunk {
  choices?: { logprobs?: { tokens?: string[]; token_logprobs?: number[] } | null; finish_reason?: string | null }[];
  error?: { message: string };
}

/** Words of the prompts; each stream begins elsewhere. */
const WORDS = 'the quick brown fox jumps over a lazy dog while rain falls on old stone roofs of the town'.split(' ');
const MAX_TOKENS = 96;

/**
 * Streams through the HTTP API that never end: each sends its own request again and again and compares every answer
 * with its first one, token by token and log-probability by log-probability.
 */
export class EndlessStreams {
  readonly #cluster: Cluster;
  readonly #gaps: Gap[] = [];
  readonly #loops: Promise<void>[];
  readonly #abort = new AbortController();
  readonly #first: (string | null)[];
  /** Answers that were compared with the first of their stream. */
  compared = 0;
  wrong = 0;
  dropped = 0;
  /** What the first dropped stream said. */
  problem: string | null = null;

  constructor(cluster: Cluster, count: number) {
    this.#cluster = cluster;
    this.#first = Array.from({ length: count }, () => null);
    this.#loops = this.#first.map((_, index) => this.#loop(index));
  }

  /** True once every stream has an answer to compare with. */
  get warm(): boolean {
    return this.#first.every((answer) => answer !== null);
  }

  /** What is seen while `body` runs, and for `leastMs` at least. */
  async during(leastMs: number, body: () => Promise<void>): Promise<Window> {
    const from = performance.now();
    await Promise.all([body(), new Promise((resolve) => setTimeout(resolve, leastMs))]);
    const to = performance.now();
    const gaps = this.#gaps.filter(({ at }) => at > from && at <= to).map(({ ms }) => ms);
    return {
      p50: percentile(gaps, 0.5),
      p99: percentile(gaps, 0.99),
      longest: Math.max(...gaps),
      tokensPerSecond: (gaps.length * 1000) / (to - from),
    };
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#loops);
  }

  async #loop(index: number): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        this.#compare(index, await this.#answer(index, signal));
      } catch (err) {
        if (signal.aborted) return;
        this.dropped += 1;
        this.problem ??= err instanceof Error ? err.message : String(err);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }

  #compare(index: number, answer: string): void {
    const first = this.#first[index];
    if (first === null || first === undefined) {
      this.#first[index] = answer;
      return;
    }
    this.compared += 1;
    if (answer !== first) this.wrong += 1;
  }

  async #answer(index: number, signal: AbortSignal): Promise<string> {
    const words = Array.from({ length: 24 + index }, (_, i) => WORDS[(i * (index + 1)) % WORDS.length]);
    const response = await fetch(`${this.#cluster.url}/v1/completions`, {
      method: 'POST',
      signal,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'tiny',
        prompt: words.join(' '),
        max_tokens: MAX_TOKENS,
        temperature: 0.8,
        seed: index,
        ignore_eos: true,
        logprobs: 0,
        stream: true,
      }),
    });
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
    const parts: string[] = [];
    let last = NaN;
    let finished = false;
    for await (const text of sseEvents(response.body)) {
      const { choices = [], error } = JSON.parse(text) as Chunk;
      if (error !== undefined) throw new Error(error.message);
      const now = performance.now();
      for (const { logprobs, finish_reason: reason } of choices) {
        const tokens = logprobs?.tokens ?? [];
        if (tokens.length > 0) {
          if (!Number.isNaN(last)) this.#gaps.push({ at: now, ms: now - last });
          last = now;
        }
        tokens.forEach((token, i) => parts.push(`${token}/${logprobs?.token_logprobs?.[i]}`));
        finished ||= reason === 'length';
      }
    }
    if (!finished || parts.length !== MAX_TOKENS) throw new Error(`a stream ended after ${parts.length} tokens`);
    return parts.join(' ');
  }
}
