import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type OpenAI from 'openai';
import { TINY } from './service-process.ts';

export interface EvalRow {
  messages: OpenAI.ChatCompletionMessageParam[];
  enable_thinking: boolean;
  tools?: OpenAI.ChatCompletionTool[];
  /** Regular expression that a good chat answer matches. */
  match?: string;
  /** Text that a recall answer contains. */
  answer?: string;
  pairs?: number;
}

/** Rows of one of the held-out sets that ship with `models/tiny`. */
export function evalRows(name: 'chat' | 'recall'): EvalRow[] {
  const lines = readFileSync(join(TINY, 'eval', `${name}.jsonl`), 'utf8')
    .trim()
    .split('\n');
  return lines.map((line) => JSON.parse(line) as EvalRow);
}

interface Reasoned {
  reasoning_content?: string | null;
}

/** Greedy answer of one row through the API: reasoning and content, and whether the turn ended by itself. */
export async function answerRow(client: OpenAI, row: EvalRow): Promise<{ text: string; ended: boolean }> {
  const completion = await client.chat.completions.create({
    model: 'tiny',
    messages: row.messages,
    temperature: 0,
    max_tokens: 96,
    ...(row.tools === undefined ? {} : { tools: row.tools }),
    ...{ chat_template_kwargs: { enable_thinking: row.enable_thinking } },
  });
  const [choice] = completion.choices;
  const reasoning = (choice?.message as Reasoned | undefined)?.reasoning_content ?? '';
  return { text: `${reasoning}\n${choice?.message.content ?? ''}`, ended: choice?.finish_reason === 'stop' };
}

/** Share of rows whose answer is good: it holds what it must and ends by itself. Asked `width` at a time. */
export async function passRate(
  client: OpenAI,
  rows: EvalRow[],
  width = 8,
): Promise<{ rate: number; misses: string[] }> {
  const misses: string[] = [];
  const queue = [...rows.entries()];
  const ask = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [index, row] = next;
      const { text, ended } = await answerRow(client, row);
      const good = row.answer === undefined ? new RegExp(row.match ?? '', 'i').test(text) : text.includes(row.answer);
      if (!good || !ended) misses.push(`row ${index + 1}: ${JSON.stringify(text)}`);
    }
  };
  await Promise.all(Array.from({ length: width }, ask));
  return { rate: 1 - misses.length / rows.length, misses };
}
