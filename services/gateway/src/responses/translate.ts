import { fail } from '@guildhall/common';
import type { z } from 'zod';
import { checkedChat, type FieldNames, present } from '../dialect-errors.ts';
import type { ChatRequest, chatRequest } from '../schema/chat.ts';
import type { InputTokensRequest, ResponseRequest } from '../schema/responses.ts';
import type { PlacedItem } from './items.ts';
import { MessageList } from './messages.ts';

type ChatInput = z.input<typeof chatRequest>;

/** How fields of the chat body are called in Responses. */
export const RESPONSE_FIELDS: FieldNames = [
  [/^tools\[(\d+)\]\.function/, 'tools[$1]'],
  [/^response_format\.json_schema/, 'text.format'],
  [/^response_format/, 'text.format'],
  [/^messages/, 'input'],
  [/^max_(completion_)?tokens/, 'max_output_tokens'],
  [/^reasoning_effort/, 'reasoning.effort'],
];

/** The chat request that a response is made by. Throws errors that name fields of the response's own request. */
export function chatOf(body: ResponseRequest, items: readonly PlacedItem[]): ChatRequest {
  const logprobs = body.include?.includes('message.output_text.logprobs') === true;
  const more = present({
    max_completion_tokens: body.max_output_tokens,
    temperature: body.temperature,
    top_p: body.top_p,
    top_k: body.top_k,
    min_p: body.min_p,
    seed: body.seed,
    cache_salt: body.cache_salt,
    priority: body.priority,
    service_tier: body.service_tier,
  });
  const logprobFields = logprobs ? { logprobs: true, top_logprobs: body.top_logprobs ?? 0 } : {};
  return checkedChat({ ...promptBody(body, items), ...more, ...logprobFields } as ChatInput, RESPONSE_FIELDS);
}

/** As much of that as decides what the model reads. */
export function promptOf(body: InputTokensRequest, items: readonly PlacedItem[]): ChatRequest {
  return checkedChat(promptBody(body, items) as ChatInput, RESPONSE_FIELDS);
}

function promptBody(body: InputTokensRequest, items: readonly PlacedItem[]): Record<string, unknown> {
  const list = new MessageList(body.instructions ?? null);
  for (const item of items) list.add(item);
  const { effort } = body.reasoning ?? {};
  return present({
    model: body.model,
    messages: list.messages(),
    ...toolFields(body),
    parallel_tool_calls: body.parallel_tool_calls,
    response_format: formatOf(body.text),
    reasoning_effort: effort === 'max' ? 'xhigh' : effort,
  });
}

/** Tools, and which of them must be called. Of allowed tools the others are left out. */
function toolFields({ tools, tool_choice: choice }: InputTokensRequest): Record<string, unknown> {
  const all = tools ?? [];
  const named = typeof choice === 'object' && choice !== null && choice.type === 'function' ? [choice.name] : [];
  const allowed =
    typeof choice === 'object' && choice !== null && choice.type === 'allowed_tools'
      ? choice.tools.map(({ name }) => name)
      : null;
  for (const name of [...named, ...(allowed ?? [])]) {
    if (all.some((tool) => tool.name === name)) continue;
    throw fail('invalid_value', `tool_choice: there is no tool "${name}" among the tools`, { field: 'tool_choice' });
  }
  const shown = allowed === null ? all : all.filter(({ name }) => allowed.includes(name));
  const asked = typeof choice === 'object' && choice !== null && choice.type === 'allowed_tools' ? choice.mode : choice;
  return {
    tools: shown.length === 0 ? null : shown.map(chatTool),
    tool_choice:
      typeof asked === 'object' && asked !== null ? { type: 'function', function: { name: asked.name } } : asked,
  };
}

function chatTool({ name, description, parameters, strict }: NonNullable<InputTokensRequest['tools']>[number]): object {
  // Schemas are strict only where the request says so: those that are not may not be fit for it.
  const fn = present({ name, description, parameters, strict: strict === true ? true : null });
  return { type: 'function', function: fn };
}

function formatOf(text: InputTokensRequest['text']): object | null {
  const format = text?.format ?? null;
  if (format === null || format.type !== 'json_schema') return format;
  const { name, description, schema, strict } = format;
  return { type: 'json_schema', json_schema: present({ name, description, schema, strict }) };
}
