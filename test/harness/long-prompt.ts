import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';

/** One completion as its client saw it; times in milliseconds on this process's clock. */
export interface TimedCompletion {
  sentAt: number;
  /** Arrival of each event that carries text. */
  times: number[];
  text: string;
  promptTokens: number;
  completionTokens: number;
  cachedTokens: number;
}

interface StreamEvent {
  choices: { text: string }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens?: number } | null;
  } | null;
}

/** A prompt of ids below 2,900 that depends on `seed` from its first token on. */
export function promptIds(count: number, seed: number): number[] {
  return Array.from({ length: count }, (_, i) => 100 + ((i * 7919 + (i >> 7) * 31 + seed * 613) % 2000));
}

/** Streams a greedy completion of exactly `maxTokens` tokens. Throws with the answer's text for a status that is not 200. */
export async function timedCompletion(
  cluster: Cluster,
  prompt: number[],
  maxTokens: number,
  signal?: AbortSignal,
): Promise<TimedCompletion> {
  const result: TimedCompletion = {
    sentAt: performance.now(),
    times: [],
    text: '',
    promptTokens: 0,
    completionTokens: 0,
    cachedTokens: 0,
  };
  const response = await fetch(`${cluster.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny',
      prompt,
      max_tokens: maxTokens,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  let rest = '';
  for await (const chunk of response.body) {
    const lines = `${rest}${Buffer.from(chunk).toString()}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data: {')) read(JSON.parse(line.slice(6)) as StreamEvent, result);
  }
  return result;
}

function read({ choices, usage }: StreamEvent, result: TimedCompletion): void {
  if (choices.length > 0) {
    result.times.push(performance.now());
    result.text += choices[0]?.text ?? '';
  }
  if (usage === undefined || usage === null) return;
  result.promptTokens = usage.prompt_tokens;
  result.completionTokens = usage.completion_tokens;
  result.cachedTokens = usage.prompt_tokens_details?.cached_tokens ?? 0;
}

/** How fast streams were. */
export interface StreamFigures {
  /** Tokens per second of all streams together. */
  rate: number;
  /** Milliseconds between two tokens of a stream. */
  p50: number;
  p99: number;
  tokens: number;
}

/** Streams of short prompts that run one after the other on `count` lanes until they are told to stop. */
export class ShortStreams {
  readonly #gaps: { at: number; ms: number }[] = [];
  readonly #lanes: Promise<void>[];
  #stopping = false;

  constructor(cluster: Cluster, count: number) {
    this.#lanes = Array.from({ length: count }, async (_, lane) => {
      for (let round = 0; !this.#stopping; round++) {
        const abort = new AbortController();
        const timer = setInterval(() => this.#stopping && abort.abort(), 20);
        try {
          await this.#one(cluster, promptIds(40, 1000 * lane + round), abort.signal);
        } catch (error) {
          if (!abort.signal.aborted) throw error;
        } finally {
          clearInterval(timer);
        }
      }
    });
  }

  async #one(cluster: Cluster, prompt: number[], signal: AbortSignal): Promise<void> {
    const body = { model: 'tiny', prompt, max_tokens: 2000, temperature: 0, ignore_eos: true, stream: true };
    const response = await fetch(`${cluster.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal,
    });
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
    let last: number | null = null;
    for await (const chunk of response.body) {
      const events = Buffer.from(chunk).toString().split('data: {').length - 1;
      const now = performance.now();
      for (let i = 0; i < events; i++) {
        if (last !== null) this.#gaps.push({ at: now, ms: now - last });
        last = now;
      }
    }
  }

  /** Figures of the time from `from` to `to` on this process's clock. */
  figures(from: number, to: number): StreamFigures {
    const gaps = this.#gaps.filter(({ at }) => at >= from && at < to).map(({ ms }) => ms);
    gaps.sort((a, b) => a - b);
    const at = (share: number): number => gaps[Math.min(gaps.length - 1, Math.floor(share * gaps.length))] ?? NaN;
    return { rate: (gaps.length * 1000) / (to - from), p50: at(0.5), p99: at(0.99), tokens: gaps.length };
  }

  /** Figures of the next `ms` milliseconds. */
  async during(ms: number): Promise<StreamFigures> {
    const from = performance.now();
    await sleep(ms);
    return this.figures(from, performance.now());
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#lanes);
  }
}

/** Resident memory of a process, MiB. */
export function residentMiB(pid: number): number {
  const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) / 1024;
}
