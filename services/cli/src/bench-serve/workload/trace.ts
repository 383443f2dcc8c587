import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fail, isGuildhallError } from '@guildhall/common';
import { z } from 'zod';
import { textOf, type TokenRate } from './text.ts';
import type { Conversation, Message, Turn, Workload } from './workload.ts';

/** Tokens that one hash id of a Mooncake trace stands for. */
const MOONCAKE_BLOCK = 512;
/** Longest line of a trace, in characters. */
const LONGEST_LINE = 64 * 2 ** 20;

const count = z.number().int().min(0);
const lengthsLine = z.object({
  timestamp: z.number().min(0).optional(),
  input_length: count.min(1),
  output_length: count.min(1),
  hash_ids: z.array(z.number().int()).optional(),
});
const messagesLine = z.object({
  timestamp: z.number().min(0).optional(),
  messages: z.array(z.object({ role: z.string(), content: z.unknown() })).min(1),
  output_length: count.min(1).optional(),
  max_tokens: count.min(1).optional(),
});
const promptLine = z.object({
  timestamp: z.number().min(0).optional(),
  prompt: z.string().min(1),
  output_length: count.min(1).optional(),
  max_tokens: count.min(1).optional(),
});

export interface TraceOptions {
  file: string;
  seed: number;
  rate: TokenRate;
  /** Answers are never longer than this; null for as long as the trace says. */
  maxOutputTokens: number | null;
}

/**
 * Requests recorded as JSON lines, one conversation each: `timestamp` in milliseconds, and `input_length`, `output_length` and
 * `hash_ids` (Mooncake's format: equal ids are equal blocks of 512 tokens), or `messages`, or `prompt`. The file is read as it is
 * used, never as a whole.
 */
export class TraceWorkload implements Workload {
  readonly description: string;
  readonly timed: boolean;
  readonly #options: TraceOptions;

  private constructor(options: TraceOptions, timed: boolean) {
    this.#options = options;
    this.timed = timed;
    this.description = `trace ${options.file.split('/').at(-1)}`;
  }

  /** Opens a trace and looks at its first line. Throws `config_invalid`. */
  static async open(options: TraceOptions): Promise<TraceWorkload> {
    const field = '--trace';
    const found = await stat(options.file).catch(() => null);
    if (found?.isFile() !== true) throw fail('config_invalid', `${field}: there is no file ${options.file}`, { field });
    for await (const first of new TraceWorkload(options, false).conversations(''))
      return new TraceWorkload(options, first.atMs !== null);
    throw fail('config_invalid', `${field}: ${options.file} has no requests`, { field });
  }

  async *conversations(salt: string): AsyncGenerator<Conversation, void> {
    const { file } = this.#options;
    const input = createReadStream(file, { encoding: 'utf8' });
    let number = 0;
    let index = 0;
    try {
      for await (const line of createInterface({ input, crlfDelay: Infinity })) {
        number++;
        if (line.trim() === '') continue;
        yield this.#parsed(line, number, index++, salt);
      }
    } finally {
      input.destroy();
    }
  }

  #parsed(line: string, number: number, index: number, salt: string): Conversation {
    try {
      if (line.length > LONGEST_LINE) throw fail('config_invalid', 'it is too long');
      const value: unknown = JSON.parse(line);
      return { index, ...this.#conversation(value, salt, index) };
    } catch (error) {
      if (!isGuildhallError(error) && !(error instanceof SyntaxError) && !(error instanceof z.ZodError)) throw error;
      const why = error instanceof z.ZodError ? z.prettifyError(error).replaceAll('\n', ' ') : error.message;
      throw fail('config_invalid', `--trace: line ${number} is no request: ${why}`, { field: '--trace' });
    }
  }

  #conversation(value: unknown, salt: string, index: number): Omit<Conversation, 'index'> {
    const known = typeof value === 'object' && value !== null ? value : {};
    if ('messages' in known) {
      const { timestamp, messages, output_length: output, max_tokens: most } = messagesLine.parse(value);
      return { atMs: timestamp ?? null, turns: [this.#turn(messages as Message[], output ?? most ?? null, null)] };
    }
    if ('prompt' in known) {
      const { timestamp, prompt, output_length: output, max_tokens: most } = promptLine.parse(value);
      return { atMs: timestamp ?? null, turns: [this.#turn(user(prompt), output ?? most ?? null, null)] };
    }
    const line = lengthsLine.parse(value);
    const text = this.#textOf(line.input_length, line.hash_ids ?? [], salt, index);
    return { atMs: line.timestamp ?? null, turns: [this.#turn(user(text), line.output_length, line.input_length)] };
  }

  #turn(messages: Message[], outputTokens: number | null, plannedTokens: number | null): Turn {
    const most = this.#options.maxOutputTokens;
    const limited = outputTokens === null ? most : Math.min(outputTokens, most ?? outputTokens);
    return { messages, outputTokens: limited, plannedTokens, thinkMs: 0 };
  }

  #textOf(tokens: number, hashIds: readonly number[], salt: string, index: number): string {
    const { seed, rate } = this.#options;
    const parts: string[] = [];
    let left = tokens;
    for (const id of hashIds) {
      if (left <= 0) break;
      parts.push(textOf(seed, `${salt} block ${id}`, Math.min(MOONCAKE_BLOCK, left), rate));
      left -= MOONCAKE_BLOCK;
    }
    if (left > 0) parts.push(textOf(seed, `${salt} rest ${index}`, left, rate));
    return parts.join(' ');
  }
}

function user(content: string): Message[] {
  return [{ role: 'user', content }];
}
