import type { StreamedCompletion } from './http.ts';

/** What a request must meet to count, milliseconds. */
export interface Targets {
  /** To the first token. */
  ttftMs: number;
  /** Between two tokens, on average over the answer. */
  tpotMs: number;
}

/** What a replay gave. */
export interface ReplayFigures {
  /** Tokens a second of the requests that met the targets. */
  goodput: number;
  /** Tokens a second of all. */
  output: number;
  /** Share of the requests that met the targets. */
  met: number;
  /** Share of the prompt tokens that came from a cache. */
  hitShare: number;
  ttftP50: number;
  ttftP99: number;
  seconds: number;
}

/** Milliseconds to the first token, and between tokens from then on. */
function latencies({ sentAt, firstAt, lastAt, tokens }: StreamedCompletion): { ttft: number; tpot: number } {
  return { ttft: firstAt - sentAt, tpot: tokens < 2 ? 0 : (lastAt - firstAt) / (tokens - 1) };
}

/** Figures of a replay, from its first request to its last token. */
export function figuresOf(streams: readonly StreamedCompletion[], targets: Targets): ReplayFigures {
  const from = Math.min(...streams.map(({ sentAt }) => sentAt));
  const to = Math.max(...streams.map(({ lastAt }) => lastAt));
  const seconds = (to - from) / 1000;
  const good = streams.filter((stream) => {
    const { ttft, tpot } = latencies(stream);
    return ttft <= targets.ttftMs && tpot <= targets.tpotMs;
  });
  const total = (list: readonly StreamedCompletion[], key: 'tokens' | 'promptTokens' | 'cachedTokens'): number =>
    list.reduce((sum, stream) => sum + stream[key], 0);
  const first = streams.map((stream) => latencies(stream).ttft).sort((a, b) => a - b);
  const at = (share: number): number => first[Math.min(first.length - 1, Math.floor(share * first.length))] ?? NaN;
  return {
    goodput: total(good, 'tokens') / seconds,
    output: total(streams, 'tokens') / seconds,
    met: good.length / streams.length,
    hitShare: total(streams, 'cachedTokens') / total(streams, 'promptTokens'),
    ttftP50: at(0.5),
    ttftP99: at(0.99),
    seconds,
  };
}
