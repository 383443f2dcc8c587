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
    ignore_eos: body.ignore_eos,
    min_tokens: body.min_tokens,
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
    reasoning_effort: effort,
  });
}

/** Tools, and which of them may or must be called. */
function toolFields({ tools, tool_choice: choice }: InputTokensRequest): Record<string, unknown> {
  const all = tools ?? [];
  if (typeof choice === 'object' && choice !== null) {
    const names = choice.type === 'function' ? [choice.name] : choice.tools.map(({ name }) => name);
    const unknown = names.find((name) => !all.some((tool) => tool.name === name));
    if (unknown !== undefined)
      throw fail('invalid_value', `tool_choice: there is no tool "${unknown}" among the tools`, {
        field: 'tool_choice',
      });
  }
  return { tools: all.length === 0 ? null : all.map(chatTool), tool_choice: choiceOf(choice) };
}

function choiceOf(choice: InputTokensRequest['tool_choice']): unknown {
  if (typeof choice !== 'object' || choice === null) return choice;
  const named = (name: string): object => ({ type: 'function', function: { name } });
  if (choice.type === 'function') return named(choice.name);
  const { mode, tools } = choice;
  return { type: 'allowed_tools', allowed_tools: { mode, tools: tools.map(({ name }) => named(name)) } };
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
