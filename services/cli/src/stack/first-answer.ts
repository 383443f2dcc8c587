import { fail, type Clock } from '@guildhall/common';
import { streamChat } from '../chat-client.ts';

export interface FirstAnswer {
  prompt: string;
  reasoning: string;
  content: string;
  completionTokens: number;
  firstTokenMs: number;
  tokensPerSecond: number;
  /** Expert rows that each worker computed for this answer. */
  expertRows: Record<string, number>;
}

export interface FirstAnswerOptions {
  url: string;
  apiKey: string | null;
  model: string;
  prompt: string;
  /** Write the answer to stdout as it comes. */
  echo: boolean;
  clock: Clock;
  /** Rows served by each worker so far. */
  expertRows: () => Promise<Map<string, bigint>>;
}

/**
 * Asks the first prompt through the public API, as a user would, and measures it.
 * Errors: `internal` when the answer is empty or the stream fails.
 */
export async function firstAnswer(options: FirstAnswerOptions): Promise<FirstAnswer> {
  const before = await options.expertRows();
  const stream = streamChat({
    url: options.url,
    apiKey: options.apiKey,
    model: options.model,
    messages: [{ role: 'user', content: options.prompt }],
    enableThinking: true,
    maxTokens: 256,
    temperature: 0,
    signal: null,
  });
  if (options.echo) process.stdout.write(`\n> ${options.prompt}\n`);
  const started = options.clock.monotonicMs();
  let firstTokenMs = 0;
  let reasoning = '';
  let content = '';
  let usage;
  for (;;) {
    const next = await stream.next();
    if (next.done) {
      usage = next.value;
      break;
    }
    if (firstTokenMs === 0 && next.value.reasoning + next.value.content !== '')
      firstTokenMs = options.clock.monotonicMs() - started;
    if (options.echo) echo(next.value.reasoning, next.value.content, content === '' && reasoning !== '');
    reasoning += next.value.reasoning;
    content += next.value.content;
  }
  const totalMs = options.clock.monotonicMs() - started;
  const completionTokens = usage?.completionTokens ?? 0;
  if (completionTokens === 0) throw fail('internal', 'the first answer came back empty');
  const decodeMs = Math.max(totalMs - firstTokenMs, 1);
  return {
    prompt: options.prompt,
    reasoning,
    content,
    completionTokens,
    firstTokenMs,
    tokensPerSecond: (Math.max(completionTokens - 1, 0) * 1000) / decodeMs,
    expertRows: difference(before, await options.expertRows()),
  };
}

function echo(reasoning: string, content: string, afterReasoning: boolean): void {
  const [dim, plain] = process.stdout.isTTY ? ['\x1b[2m', '\x1b[0m'] : ['', ''];
  if (reasoning !== '') process.stdout.write(`${dim}${reasoning}${plain}`);
  if (content !== '') process.stdout.write(`${afterReasoning ? '\n' : ''}${content}`);
}

function difference(before: Map<string, bigint>, after: Map<string, bigint>): Record<string, number> {
  return Object.fromEntries([...after].map(([worker, rows]) => [worker, Number(rows - (before.get(worker) ?? 0n))]));
}
