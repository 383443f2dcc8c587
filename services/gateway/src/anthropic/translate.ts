import { fail, type GuildhallError } from '@guildhall/common';
import type { z } from 'zod';
import { checkedChat, type FieldNames, present } from '../dialect-errors.ts';
import type { CountTokensRequest, MessagesRequest } from '../schema/anthropic.ts';
import type { ChatRequest, chatRequest } from '../schema/chat.ts';
import type { message } from '../schema/messages.ts';
import { isSealed, unsealText } from '../sealed-text.ts';

type ChatInput = z.input<typeof chatRequest>;
type ChatMessage = z.input<typeof message>;
type Param = CountTokensRequest['messages'][number];
type UserContent = Extract<Param, { role: 'user' }>['content'];
type AssistantContent = Extract<Param, { role: 'assistant' }>['content'];
type ToolResult = Extract<Exclude<UserContent, string>[number], { type: 'tool_result' }>;
type AssistantMessage = Extract<ChatMessage, { role: 'assistant' }> & { content: string };

/** How fields of the chat body are called in Messages. */
export const MESSAGE_FIELDS: FieldNames = [
  [/^tools\[(\d+)\]\.function\.parameters/, 'tools[$1].input_schema'],
  [/^tools\[(\d+)\]\.function/, 'tools[$1]'],
  [/^response_format(\.json_schema)?/, 'output_config.format'],
  [/^max_completion_tokens/, 'max_tokens'],
  [/^stop/, 'stop_sequences'],
  [/^reasoning_effort/, 'output_config.effort'],
  [/^thinking_token_budget/, 'thinking.budget_tokens'],
];

/** Between two blocks of text of a system or user message. */
const BLOCK_BREAK = '\n\n';

/** The chat request that a message is made by. Throws errors that name fields of the message's own request. */
export function chatOf(body: MessagesRequest, maxTokens: number): ChatRequest {
  const more = present({
    max_tokens: maxTokens,
    stop: body.stop_sequences,
    temperature: body.temperature,
    top_p: body.top_p,
    top_k: body.top_k,
  });
  return checkedChat({ ...promptBody(body), ...more } as ChatInput, MESSAGE_FIELDS);
}

/** As much of that as decides what the model reads. */
export function promptOf(body: CountTokensRequest): ChatRequest {
  return checkedChat(promptBody(body) as ChatInput, MESSAGE_FIELDS);
}

function promptBody(body: CountTokensRequest): Record<string, unknown> {
  const { messages, prefilled } = chatMessages(body);
  const { effort, format: newer } = body.output_config ?? {};
  const format = newer ?? body.output_format;
  const { thinking } = body;
  return present({
    model: body.model,
    messages,
    ...toolFields(body),
    ...(prefilled ? { continue_final_message: true, add_generation_prompt: false } : {}),
    enable_thinking: thinking?.type === 'enabled' || thinking?.type === 'adaptive',
    thinking_token_budget: thinking?.type === 'enabled' ? thinking.budget_tokens : null,
    reasoning_effort: effort,
    response_format:
      format === null || format === undefined
        ? null
        : { type: 'json_schema', json_schema: { name: 'answer', schema: format.schema, strict: true } },
  });
}

function toolFields({ tools, tool_choice: choice }: CountTokensRequest): Record<string, unknown> {
  if (choice?.type === 'tool' && !(tools ?? []).some(({ name }) => name === choice.name))
    throw fail('invalid_value', `tool_choice.name: there is no tool "${choice.name}" among the tools`, {
      field: 'tool_choice.name',
    });
  const shown = (tools ?? []).map(({ name, description, input_schema: parameters, strict }) => ({
    type: 'function',
    function: present({ name, description, parameters, strict: strict === true ? true : null }),
  }));
  const single =
    choice !== null && choice !== undefined && choice.type !== 'none' && choice.disable_parallel_tool_use === true;
  return {
    tools: shown.length === 0 ? null : shown,
    tool_choice: choiceOf(choice),
    parallel_tool_calls: single ? false : null,
  };
}

function choiceOf(choice: CountTokensRequest['tool_choice']): unknown {
  if (choice === null || choice === undefined) return null;
  if (choice.type === 'any') return 'required';
  return choice.type === 'tool' ? { type: 'function', function: { name: choice.name } } : choice.type;
}

function textOf(content: string | readonly object[], separator: string): string {
  if (typeof content === 'string') return content;
  return content
    .flatMap((part) => ('text' in part && typeof part.text === 'string' ? [part.text] : []))
    .join(separator);
}

/** Messages of chat; whether the last one is the beginning of the answer. */
function chatMessages(body: CountTokensRequest): { messages: ChatMessage[]; prefilled: boolean } {
  const system: string[] = [];
  if (body.system !== null && body.system !== undefined) system.push(textOf(body.system, BLOCK_BREAK));
  const turns = new Turns();
  for (const [index, param] of body.messages.entries()) {
    // The template has room for a system message at the beginning only.
    if (param.role === 'system') system.push(textOf(param.content, BLOCK_BREAK));
    else if (param.role === 'user') turns.addUser(param.content, index);
    else turns.addAssistant(param.content, index);
  }
  const text = system.filter((part) => part !== '').join(BLOCK_BREAK);
  const first: ChatMessage[] = text === '' ? [] : [{ role: 'system', content: text }];
  const { messages, prefilled } = turns.end(body.messages.length - 1);
  return { messages: [...first, ...messages], prefilled };
}

/** Turns of user and assistant; what follows each other of one role is one turn. */
class Turns {
  readonly #messages: ChatMessage[] = [];
  #assistant: AssistantMessage | null = null;
  #user: string[] = [];
  /** Uses of tools that the turn after them has to answer. */
  #open = new Set<string>();

  addUser(content: UserContent, index: number): void {
    this.#endAssistant();
    const blocks = typeof content === 'string' ? [{ type: 'text' as const, text: content }] : content;
    for (const [place, block] of blocks.entries()) {
      if (block.type === 'tool_result') this.#addResult(block, `messages[${index}].content[${place}]`);
      else if (block.type === 'text') this.#user.push((block as { text: string }).text);
    }
    if (this.#open.size > 0) throw unanswered(this.#open, index);
  }

  addAssistant(content: AssistantContent, index: number): void {
    this.#endUser();
    if (this.#open.size > 0) throw unanswered(this.#open, index);
    const turn = (this.#assistant ??= { role: 'assistant', content: '' });
    const blocks = typeof content === 'string' ? [{ type: 'text' as const, text: content }] : content;
    for (const [place, block] of blocks.entries()) addBlock(turn, block, `messages[${index}].content[${place}]`);
  }

  end(lastIndex: number): { messages: ChatMessage[]; prefilled: boolean } {
    const prefilled = this.#assistant !== null;
    this.#endAssistant();
    this.#endUser();
    if (this.#open.size > 0) throw unanswered(this.#open, lastIndex);
    return { messages: this.#messages, prefilled };
  }

  #addResult(block: ToolResult, place: string): void {
    const { tool_use_id: id, content, is_error: isError } = block;
    if (!this.#open.delete(id)) {
      const field = `${place}.tool_use_id`;
      throw fail('invalid_value', `${field}: the message before has no tool_use that this tool_result would answer`, {
        field,
      });
    }
    const text = textOf(content ?? '', BLOCK_BREAK);
    this.#messages.push({ role: 'tool', tool_call_id: id, content: isError === true ? `Error: ${text}` : text });
  }

  #endUser(): void {
    if (this.#user.length === 0) return;
    this.#messages.push({ role: 'user', content: this.#user.join(BLOCK_BREAK) });
    this.#user = [];
  }

  #endAssistant(): void {
    if (this.#assistant === null) return;
    this.#messages.push(this.#assistant);
    this.#open = new Set((this.#assistant.tool_calls ?? []).map(({ id }) => id));
    this.#assistant = null;
  }
}

function unanswered(open: ReadonlySet<string>, index: number): GuildhallError {
  const field = `messages[${index}]`;
  const ids = [...open].join(', ');
  return fail(
    'invalid_value',
    `${field}: a tool_use needs a tool_result in the message after it; there is none for ${ids}`,
    {
      field,
    },
  );
}

function addBlock(turn: AssistantMessage, block: Exclude<AssistantContent, string>[number], place: string): void {
  if (block.type === 'text') turn.content += (block as { text: string }).text;
  else if (block.type === 'thinking') addThinking(turn, block as { thinking: string; signature: string }, place);
  else if (block.type === 'tool_use') {
    const { id, name, input } = block as { id: string; name: string; input: object };
    if (turn.tool_calls?.some((call) => call.id === id) === true)
      throw fail('invalid_value', `${place}.id: another tool_use has the same id`, { field: `${place}.id` });
    const call = { id, type: 'function' as const, function: { name, arguments: JSON.stringify(input) } };
    turn.tool_calls = [...(turn.tool_calls ?? []), call];
  }
}

function addThinking(
  turn: AssistantMessage,
  { thinking, signature }: { thinking: string; signature: string },
  place: string,
): void {
  const text = thinking === '' && isSealed(signature) ? unsealText(signature, `${place}.signature`) : thinking;
  turn.reasoning_content = [turn.reasoning_content ?? '', text].filter((part) => part !== '').join(BLOCK_BREAK);
}
