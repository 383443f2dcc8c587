import type { Message } from '../workload/workload.ts';

/** APIs that can be measured. */
export const APIS = ['chat', 'completions', 'responses'] as const;
export type ApiName = (typeof APIS)[number];

/** What is asked, apart from the prompt. */
export interface BodyOptions {
  model: string;
  outputTokens: number | null;
  temperature: number | null;
  ignoreEos: boolean;
  seed: number | null;
  /** Merged into the body at the end; null removes a field. */
  extra: Readonly<Record<string, unknown>>;
}

/** What one event of a stream says. */
export interface EventReading {
  /** Text of any kind: content, reasoning, arguments of calls. */
  text: string;
  /** The answer's own text, as it goes into the next turn. */
  content: string;
  usage: { prompt: number; completion: number; cached: number } | null;
  /** True when the answer is said to be complete. */
  finished: boolean;
  error: string | null;
}

interface Api {
  path: string;
  body(messages: readonly Message[], options: BodyOptions): Record<string, unknown>;
  read(event: Record<string, unknown>): EventReading;
}

type Json = Record<string, unknown>;

function object(value: unknown): Json | null {
  return typeof value === 'object' && value !== null ? (value as Json) : null;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function number(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0;
}

function errorOf(event: Json): string | null {
  if (event['error'] === undefined || event['error'] === null) return null;
  const error = object(event['error']);
  return error === null ? text(event['error']) || 'error' : text(error['message']) || JSON.stringify(error);
}

function usageOf(value: unknown, prompt: string, completion: string, details: string): EventReading['usage'] {
  const usage = object(value);
  if (usage === null || typeof usage[completion] !== 'number') return null;
  const cached = number(object(usage[details])?.['cached_tokens']);
  return { prompt: number(usage[prompt]), completion: number(usage[completion]), cached };
}

/** Text of a content, which may come in parts. */
function contentText(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part) => text(object(part)?.['text'])).join('');
}

function sampling(options: BodyOptions): Json {
  return {
    ...(options.temperature === null ? {} : { temperature: options.temperature }),
    ...(options.seed === null ? {} : { seed: options.seed }),
    ...(options.ignoreEos && options.outputTokens !== null ? { ignore_eos: true } : {}),
  };
}

const STREAM = { stream: true, stream_options: { include_usage: true } };

function mostTokens(field: string, options: BodyOptions): Json {
  return options.outputTokens === null ? {} : { [field]: options.outputTokens };
}

/** Adds a choice's texts. Reasoning goes by three names in the field. */
function readDelta(delta: Json): { text: string; content: string } {
  const content = contentText(delta['content']);
  const reasoning = text(delta['reasoning_content']) || text(delta['reasoning']);
  const calls = Array.isArray(delta['tool_calls']) ? delta['tool_calls'] : [];
  const called = calls.map((call) => {
    const made = object(object(call)?.['function']);
    return text(made?.['name']) + text(made?.['arguments']);
  });
  return { text: reasoning + content + called.join(''), content };
}

const chat: Api = {
  path: '/v1/chat/completions',
  body: (messages, options) => ({
    model: options.model,
    messages,
    ...STREAM,
    ...mostTokens('max_tokens', options),
    ...sampling(options),
  }),
  read(event) {
    const choice = object(Array.isArray(event['choices']) ? event['choices'][0] : null);
    const delta = object(choice?.['delta']);
    return {
      ...(delta === null ? { text: '', content: '' } : readDelta(delta)),
      usage: usageOf(event['usage'], 'prompt_tokens', 'completion_tokens', 'prompt_tokens_details'),
      finished: typeof choice?.['finish_reason'] === 'string',
      error: errorOf(event),
    };
  },
};

const completions: Api = {
  path: '/v1/completions',
  body: (messages, options) => ({
    model: options.model,
    prompt: messages.map(({ content }) => contentText(content)).join('\n\n'),
    ...STREAM,
    ...mostTokens('max_tokens', options),
    ...sampling(options),
  }),
  read(event) {
    const choice = object(Array.isArray(event['choices']) ? event['choices'][0] : null);
    const content = text(choice?.['text']);
    return {
      text: content,
      content,
      usage: usageOf(event['usage'], 'prompt_tokens', 'completion_tokens', 'prompt_tokens_details'),
      finished: typeof choice?.['finish_reason'] === 'string',
      error: errorOf(event),
    };
  },
};

const RESPONSE_ENDS: ReadonlySet<string> = new Set(['response.completed', 'response.incomplete']);

const responses: Api = {
  path: '/v1/responses',
  body: (messages, options) => ({
    model: options.model,
    input: messages,
    stream: true,
    store: false,
    ...mostTokens('max_output_tokens', options),
    ...sampling(options),
  }),
  read(event) {
    const type = text(event['type']);
    const delta = type.endsWith('.delta') ? text(event['delta']) : '';
    const response = object(event['response']);
    const failed = type === 'response.failed' ? (errorOf(response ?? {}) ?? 'response.failed') : null;
    return {
      text: delta,
      content: type === 'response.output_text.delta' ? delta : '',
      usage: usageOf(response?.['usage'], 'input_tokens', 'output_tokens', 'input_tokens_details'),
      finished: RESPONSE_ENDS.has(type),
      error: type === 'error' ? (errorOf(event) ?? (text(event['message']) || 'error')) : (errorOf(event) ?? failed),
    };
  },
};

const ALL: Readonly<Record<ApiName, Api>> = { chat, completions, responses };

/** Path of an API's requests. */
export function apiPath(name: ApiName): string {
  return ALL[name].path;
}

/** Body of a streamed request. */
export function bodyOf(name: ApiName, messages: readonly Message[], options: BodyOptions): string {
  const body = { ...ALL[name].body(messages, options), ...options.extra };
  return JSON.stringify(Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null)));
}

/** Reads the data of one event. @returns null when it is no JSON object. */
export function readEvent(name: ApiName, data: string): EventReading | null {
  try {
    const event = object(JSON.parse(data));
    return event === null ? null : ALL[name].read(event);
  } catch {
    return null;
  }
}
