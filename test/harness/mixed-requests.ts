import type { Cluster } from './cluster.ts';

/** A request of either kind, and what is unusual about it. */
export interface MixedRequest {
  path: '/v1/chat/completions' | '/v1/completions';
  body: Record<string, unknown>;
}

/** What a client got, put together where it came in pieces. */
export interface MixedAnswer {
  status: number;
  error: string | null;
  choices: { text: string; logprobs: unknown[]; finish: string | null }[];
  /** Without what caches have spared. */
  usage: Record<string, unknown> | null;
}

const KINDS: Record<string, unknown>[] = [
  { temperature: 0 },
  { temperature: 0.9, seed: 7, logprobs: true },
  { temperature: 0.8, seed: 11, presence_penalty: 0.7, frequency_penalty: 0.4 },
  { temperature: 1, seed: 13, repetition_penalty: 1.3, top_p: 0.9 },
  { temperature: 0.9, seed: 17, n: 2, logprobs: true },
  { temperature: 0.7, seed: 19, top_k: 20, min_p: 0.02 },
  { temperature: 0.9, seed: 23, stop: [' th', 'e s', '\n\n'], min_tokens: 30 },
  { temperature: 0.9, seed: 29, logit_bias: { '100': 2, '200': -5 } },
];

/** Requests of every kind: chat and text, streamed and whole, several choices, penalties, stop strings, log-probabilities. */
export function mixedRequests(count: number, maxTokens: number): MixedRequest[] {
  return Array.from({ length: count }, (_, i) => {
    const kind = { ...KINDS[i % KINDS.length] };
    const chat = Math.floor(i / 2) % 2 === 0;
    const stream = i % 2 === 0;
    const logprobs = kind['logprobs'] === true ? { logprobs: chat ? true : 2 } : {};
    const input = `Tell me about Guildhall, number ${i}.`;
    return {
      path: chat ? '/v1/chat/completions' : '/v1/completions',
      body: {
        model: 'tiny',
        ...(chat ? { messages: [{ role: 'user', content: input }] } : { prompt: input }),
        max_tokens: maxTokens,
        ignore_eos: true,
        ...kind,
        ...logprobs,
        stream,
        ...(stream ? { stream_options: { include_usage: true } } : {}),
      },
    };
  });
}

interface Piece {
  choices?: {
    index: number;
    text?: string;
    message?: { content?: string; reasoning_content?: string };
    delta?: { content?: string; reasoning_content?: string };
    logprobs?: unknown;
    finish_reason?: string | null;
  }[];
  usage?: Record<string, unknown> | null;
  error?: { code: string };
}

/** Sends a request and gathers its answer; `onPiece` sees each piece as it comes. */
export async function askMixed(
  cluster: Cluster,
  request: MixedRequest,
  onPiece = (): void => undefined,
): Promise<MixedAnswer> {
  const response = await fetch(`${cluster.url}${request.path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request.body),
  });
  const answer: MixedAnswer = { status: response.status, error: null, choices: [], usage: null };
  if (response.headers.get('content-type')?.startsWith('text/event-stream') !== true) {
    take(answer, (await response.json()) as Piece);
    return answer;
  }
  let text = '';
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const line = text.slice(0, end);
      text = text.slice(end + 2);
      if (!line.startsWith('data: {')) continue;
      take(answer, JSON.parse(line.slice(6)) as Piece);
      onPiece();
    }
  }
  return answer;
}

function take(answer: MixedAnswer, piece: Piece): void {
  if (piece.error !== undefined) answer.error = piece.error.code;
  const { prompt_tokens_details: _cached, ...usage } = piece.usage ?? {};
  if (Object.keys(usage).length > 0) answer.usage = usage;
  for (const { index, text, message, delta, logprobs, finish_reason: finish } of piece.choices ?? []) {
    const choice = (answer.choices[index] ??= { text: '', logprobs: [], finish: null });
    const said = message ?? delta;
    choice.text += text ?? `${said?.reasoning_content ?? ''}${said?.content ?? ''}`;
    if (logprobs !== null && logprobs !== undefined) choice.logprobs.push(...entriesOf(logprobs));
    choice.finish = finish ?? choice.finish;
  }
}

/** Log-probabilities token by token, in whichever form. */
function entriesOf(logprobs: unknown): unknown[] {
  const {
    content,
    tokens,
    token_logprobs: values,
  } = logprobs as {
    content?: unknown[];
    tokens?: string[];
    token_logprobs?: number[];
  };
  return content ?? (tokens ?? []).map((token, i) => [token, values?.[i]]);
}
