import { fail } from '@guildhall/common';
import { PIECE_LENGTH } from '@guildhall/model/tokenizer';
import type { Assets } from './assets.ts';
import type { ChatMessage } from './schema/messages.ts';
import type { Prompt } from './schema/prompt.ts';

/** A prompt that can be submitted. */
export interface PreparedPrompt {
  ids: number[];
  /** The end of the text may be missing: there are more tokens than are wanted. */
  cut: boolean;
  /** The prompt ends in an open think block, so that the answer starts inside it. */
  insideThink: boolean;
}

/** What of a request decides how its messages are rendered. */
export interface TemplateInput {
  messages: readonly ChatMessage[];
  tools?: readonly unknown[] | null | undefined;
  tool_choice?: unknown;
  add_generation_prompt?: boolean | null | undefined;
  continue_final_message?: boolean | null | undefined;
  chat_template_kwargs?: Record<string, unknown> | null | undefined;
  enable_thinking?: boolean | null | undefined;
  reasoning_effort?: string | null | undefined;
}

/** Text of a message's content. Parts are joined without anything between them, as the Qwen3.5 template does. */
export function contentText(content: ChatMessage['content']): string {
  if (content === null || content === undefined) return '';
  if (typeof content === 'string') return content;
  return content
    .map((part) => (part.type === 'text' ? part.text : 'refusal' in part ? String(part.refusal) : ''))
    .join('');
}

function templateMessage(message: ChatMessage): { role: string; content: string; [field: string]: unknown } {
  const content = contentText(message.content);
  if (message.role === 'developer') return { role: 'system', content };
  if (message.role === 'function') return { role: 'tool', content, name: message.name };
  if (message.role === 'tool') return { role: 'tool', content, tool_call_id: message.tool_call_id ?? null };
  if (message.role !== 'assistant') return { role: message.role, content };
  const calls = callsOf(message);
  const reasoning = message.reasoning_content ?? message.reasoning ?? null;
  return {
    role: 'assistant',
    content,
    ...(reasoning === null ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0
      ? {}
      : { tool_calls: calls.map(({ id, type, function: fn }) => ({ id, type, function: fn })) }),
  };
}

/** Calls of an assistant's message; one in the form of functions has no id. */
function callsOf({ tool_calls: calls, function_call: call }: Extract<ChatMessage, { role: 'assistant' }>) {
  if (call === null || call === undefined) return calls ?? [];
  return [{ id: '', type: 'function' as const, function: call }];
}

function templateVariables(input: TemplateInput): Record<string, unknown> {
  const thinking = input.enable_thinking ?? null;
  return {
    ...effortVariables(input.reasoning_effort ?? null),
    ...input.chat_template_kwargs,
    ...(thinking === null ? {} : { enable_thinking: thinking }),
  };
}

function effortVariables(effort: string | null): Record<string, unknown> {
  if (effort === null) return {};
  if (effort === 'none') return { enable_thinking: false };
  return { reasoning_effort: effort === 'max' ? 'xhigh' : effort };
}

// As transformers does it: the end of turn that the template puts after the last message is cut off again.
function cutAfterFinalMessage(text: string, messages: readonly ChatMessage[]): string {
  const final = contentText(messages.at(-1)?.content).trim();
  if (final === '')
    throw fail('invalid_value', 'continue_final_message: the last message has no content', {
      field: 'continue_final_message',
    });
  const at = text.lastIndexOf(final);
  if (at < 0)
    throw fail('invalid_value', 'continue_final_message: the template changes the last message', {
      field: 'continue_final_message',
    });
  return text.slice(0, at + final.length);
}

function endsInThink(tail: string): boolean {
  return tail.lastIndexOf('<think>') > tail.lastIndexOf('</think>');
}

/** Renders messages with the checkpoint's template. Throws `invalid_value` naming `messages`, `unsupported` without a template. */
export function renderMessages(assets: Assets, input: TemplateInput): { text: string; insideThink: boolean } {
  if (assets.template === null) throw fail('unsupported', 'the checkpoint has no chat template; use /v1/completions');
  const goOn = input.continue_final_message === true;
  const text = assets.template.render({
    ...templateVariables(input),
    messages: input.messages.map(templateMessage),
    tools: input.tool_choice === 'none' ? null : (input.tools ?? null),
    addGenerationPrompt: goOn ? false : (input.add_generation_prompt ?? true),
  });
  if (!goOn) return { text, insideThink: text.trimEnd().endsWith('<think>') };
  const cut = cutAfterFinalMessage(text, input.messages);
  return { text: cut, insideThink: endsInThink(contentText(input.messages.at(-1)?.content)) };
}

/** How much of a prompt is worth its encoding. */
export interface PromptBounds {
  /** A prompt of more tokens is refused anyway, so that its end need not be encoded. */
  enough: number;
  /** The client is gone. */
  gone?: () => boolean;
}

/** Tokens up to which prompts are counted and shown: as many as the longest contexts there are. */
export const MAX_COUNTED = 1 << 20;

/** Bounds of a prompt whose tokens are told and not computed. */
export function countedFor(request: AskingConnection): PromptBounds {
  return { enough: MAX_COUNTED, gone: () => request.raw.socket.destroyed };
}

interface AskingConnection {
  raw: { socket: { destroyed: boolean } };
}

/** Throws `invalid_value` for a prompt that has more tokens than are counted. */
export function assertCounted(ids: { length: number }, field: 'messages' | 'prompt'): void {
  if (ids.length <= MAX_COUNTED) return;
  throw fail('invalid_value', `${field}: more than ${MAX_COUNTED} tokens; send it in parts`, { field });
}

/** Messages as token ids. Throws `invalid_value` for a text that cannot be cut, and what `renderMessages` throws. */
export async function prepareChat(assets: Assets, input: TemplateInput, bounds: PromptBounds): Promise<PreparedPrompt> {
  const { text, insideThink } = renderMessages(assets, input);
  const ids = await assets.tokenizer.encode(text, { ...bounds, field: 'messages' });
  return { ids: Array.from(ids), cut: isCutOff(text, ids, bounds), insideThink };
}

/** A text or token ids as token ids. Throws `invalid_value` for ids that the vocabulary does not have, and a text that cannot be cut. */
export async function preparePrompt(assets: Assets, prompt: Prompt, bounds: PromptBounds): Promise<PreparedPrompt> {
  if (typeof prompt === 'string') {
    const ids = await assets.tokenizer.encode(prompt, { ...bounds, addSpecial: true, field: 'prompt' });
    return { ids: Array.from(ids), cut: isCutOff(prompt, ids, bounds), insideThink: false };
  }
  checkTokenIds(assets, prompt, 'prompt');
  return { ids: prompt, cut: false, insideThink: false };
}

function isCutOff(text: string, ids: Int32Array, { enough }: PromptBounds): boolean {
  return ids.length > enough && text.length > PIECE_LENGTH;
}

/** Throws `invalid_value` naming `field` when an id is outside the vocabulary. */
export function checkTokenIds(assets: Assets, ids: Iterable<number>, field: string): void {
  for (const id of ids) {
    if (id < assets.tokenizer.size) continue;
    throw fail('invalid_value', `${field}: token id ${id} is outside the vocabulary of ${assets.tokenizer.size}`, {
      field,
    });
  }
}

/**
 * Tokens that may be generated after a prompt. Throws `context_length_exceeded` with the numbers, as OpenAI words it.
 * @param field names the prompt in the error.
 */
export function tokenBudget(
  prompt: Pick<PreparedPrompt, 'ids' | 'cut'>,
  asked: number | null,
  fallback: number | null,
  context: number,
  field: 'messages' | 'prompt',
): number {
  const promptTokens = prompt.ids.length;
  const left = context - promptTokens;
  const wanted = asked ?? Math.max(1, Math.min(fallback ?? left, left));
  if (wanted <= left) return wanted;
  const total = promptTokens + wanted;
  throw fail(
    'context_length_exceeded',
    `This model's maximum context length is ${context} tokens. However, you requested ${prompt.cut ? 'at least ' : ''}${total} tokens (${promptTokens} in the ${field}, ` +
      `${wanted} in the completion). Please reduce the length of the ${field} or completion.`,
    { field },
  );
}
