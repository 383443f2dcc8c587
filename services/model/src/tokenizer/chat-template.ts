import { join } from 'node:path';
import { fail, isGuildhallError } from '@guildhall/common';
import { Template } from '@huggingface/jinja';
import { describe, isRecord, readOptionalJsonObject, readOptionalTextFile } from '../json-file.ts';
import { pythonInterpreter, templateEnvironment } from './template-runtime.ts';

const MAX_TEMPLATE_BYTES = 4 * 1024 * 1024;
const MAX_CONFIG_BYTES = 64 * 1024 * 1024;
const TOKEN_NAMES = ['bos_token', 'eos_token', 'pad_token', 'unk_token'];

/** A message as the chat API has it. */
export interface ChatMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** Variables of a template. Others (`enable_thinking`, ...) pass through. */
export interface RenderInput {
  messages: readonly ChatMessage[];
  tools?: readonly unknown[] | null;
  addGenerationPrompt: boolean;
  [variable: string]: unknown;
}

/** The checkpoint's own chat template. */
export class ChatTemplate {
  /** The template's source. */
  readonly text: string;
  readonly #template: Template;
  /** Special tokens that templates may name. */
  readonly #tokens: Record<string, string>;

  private constructor(text: string, tokens: Record<string, string>) {
    this.text = text;
    this.#template = new Template(text);
    this.#tokens = tokens;
  }

  /**
   * Takes chat_template.jinja, else `chat_template` of tokenizer_config.json (a string, or a list with a "default").
   * @throws checkpoint_not_found without a template; checkpoint_invalid if it cannot be parsed.
   */
  static load(dir: string): ChatTemplate {
    const config = readOptionalJsonObject(dir, 'tokenizer_config.json', MAX_CONFIG_BYTES) ?? {};
    const file = readOptionalTextFile(dir, 'chat_template.jinja', MAX_TEMPLATE_BYTES);
    const path = join(dir, file === null ? 'tokenizer_config.json' : 'chat_template.jinja');
    const text = file ?? configuredTemplate(path, config['chat_template']);
    if (text === null) {
      throw fail(
        'checkpoint_not_found',
        `${dir}: no chat template: neither chat_template.jinja nor tokenizer_config.json has one`,
      );
    }
    return ChatTemplate.parse(path, text, specialTokens(config));
  }

  /** Parses the text of a template. @param path name for messages. */
  static parse(path: string, text: string, tokens: Record<string, string> = {}): ChatTemplate {
    try {
      return new ChatTemplate(text, tokens);
    } catch (err) {
      throw fail('checkpoint_invalid', `${path}: chat template: ${(err as Error).message}`, { cause: err });
    }
  }

  /**
   * Renders messages to the prompt's text. Tool calls whose arguments are JSON text are parsed first, as templates
   * expect objects.
   * @throws invalid_value naming `messages`, with what the template says (no user turn, media in a system turn, ...).
   */
  render(input: RenderInput): string {
    const { messages, tools, addGenerationPrompt, ...variables } = input;
    const parsed = messages.map((message, i) => withParsedCalls(message, i));
    try {
      const environment = templateEnvironment();
      const items = {
        ...this.#tokens,
        ...variables,
        messages: parsed,
        tools: tools === undefined || tools === null || tools.length === 0 ? null : tools,
        add_generation_prompt: addGenerationPrompt,
      };
      for (const [name, value] of Object.entries(items)) environment.set(name, value);
      return String(pythonInterpreter(environment).run(this.#template.parsed).value);
    } catch (err) {
      if (isGuildhallError(err)) throw err;
      const problem = err instanceof RangeError ? 'nested too deeply' : (err as Error).message;
      throw fail('invalid_value', `messages: ${problem}`, { field: 'messages', cause: err });
    }
  }
}

function configuredTemplate(path: string, value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'string') return value;
  const named: unknown[] = Array.isArray(value) ? value : [];
  const chosen = named.find((item) => isRecord(item) && item['name'] === 'default');
  if (isRecord(chosen) && typeof chosen['template'] === 'string') return chosen['template'];
  throw fail(
    'checkpoint_invalid',
    `${path}: chat_template: found ${describe(value)}, expected text or a list with a "default"`,
  );
}

function specialTokens(config: Record<string, unknown>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of TOKEN_NAMES) {
    const value = config[name];
    const content = isRecord(value) ? value['content'] : value;
    if (typeof content === 'string') tokens[name] = content;
  }
  return tokens;
}

function withParsedCalls(message: ChatMessage, index: number): ChatMessage {
  const calls = message['tool_calls'];
  if (!Array.isArray(calls)) return message;
  return {
    ...message,
    tool_calls: calls.map((call: unknown, i) => withParsedArguments(call, `messages[${index}].tool_calls[${i}]`)),
  };
}

function withParsedArguments(call: unknown, path: string): unknown {
  const inner = isRecord(call) ? call['function'] : undefined;
  if (!isRecord(call) || !isRecord(inner) || typeof inner['arguments'] !== 'string') return call;
  let parsed: unknown;
  try {
    parsed = inner['arguments'].trim() === '' ? {} : JSON.parse(inner['arguments']);
  } catch (err) {
    throw fail('invalid_value', `${path}.function.arguments: not valid JSON`, { field: 'messages', cause: err });
  }
  if (!isRecord(parsed)) {
    throw fail('invalid_value', `${path}.function.arguments: found ${describe(parsed)}, expected a JSON object`, {
      field: 'messages',
    });
  }
  return { ...call, function: { ...inner, arguments: parsed } };
}
