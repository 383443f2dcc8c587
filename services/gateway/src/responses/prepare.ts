import { fail } from '@guildhall/common';
import { contextLength, type GatewayContext } from '../context.ts';
import { prepareChat } from '../prompt.ts';
import type { ChatRequest } from '../schema/chat.ts';
import type { ResponseObject, ResponseRequest } from '../schema/responses.ts';
import type { BuilderOptions } from './builder.ts';
import { servedTier } from '../service-tier.ts';
import { newResponseId } from './ids.ts';
import { historyOf, itemsOf, type PlacedItem, resolved, storedItems } from './items.ts';
import { chatOf } from './translate.ts';

/** A response that is asked for, checked as far as can be before its prompt is tokenized. */
export interface AskedResponse {
  id: string;
  chat: ChatRequest;
  builder: BuilderOptions;
  /** Its input as it is kept, JSON. */
  input: string;
}

/** How long responses are kept. */
export function ttlOf({ config }: Pick<GatewayContext, 'config'>): number {
  return config.responseTtlS * 1000;
}

/** Prepares a response. Throws what is wrong with the request, in the names of its fields. */
export async function prepareResponse(
  context: GatewayContext,
  body: ResponseRequest,
  tenant: string,
): Promise<AskedResponse> {
  const id = newResponseId();
  const store = context.responses;
  const history = await historyOf(store, tenant, body.previous_response_id ?? null, ttlOf(context));
  const own = await resolved(store, tenant, itemsOf(body.input));
  const input = JSON.stringify(
    storedItems(
      id,
      own.map(({ item }) => item),
    ),
  );
  const { responseMaxBytes } = context.config;
  if (body.store !== false && Buffer.byteLength(input) > responseMaxBytes)
    throw fail('body_too_large', `input: more than the ${responseMaxBytes} bytes that are kept; send store: false`, {
      field: 'input',
    });
  const items: PlacedItem[] = [...history.map((item) => ({ item, place: null })), ...own];
  const chat = await fittingChat(context, body, items);
  return { id, chat, input, builder: builderOptions(context, body, id) };
}

/** The chat request; with truncation, without the oldest turns that the context cannot hold. */
async function fittingChat(
  context: GatewayContext,
  body: ResponseRequest,
  items: readonly PlacedItem[],
): Promise<ChatRequest> {
  const whole = chatOf(body, items);
  if (body.truncation !== 'auto') return whole;
  const room = contextLength(context) - (body.max_output_tokens ?? 1);
  const fits = async (chat: ChatRequest): Promise<boolean> =>
    (await prepareChat(context.assets, chat, { enough: Math.max(0, room) })).ids.length <= room;
  if (await fits(whole)) return whole;
  const without = (turns: number): ChatRequest => chatOf(body, withoutTurns(items, turns));
  let [least, most] = [1, items.filter(isTurn).length - 1];
  // The last turn stays, whatever comes of it.
  while (least < most) {
    const middle = Math.floor((least + most) / 2);
    if (await fits(without(middle))) most = middle;
    else least = middle + 1;
  }
  return without(Math.max(0, most));
}

/** A turn begins with what the user says, and everything up to the next goes with it. */
function isTurn({ item }: PlacedItem): boolean {
  return item.type === 'message' && item.role === 'user';
}

function withoutTurns(items: readonly PlacedItem[], turns: number): PlacedItem[] {
  let seen = 0;
  return items.filter((placed) => {
    if (isTurn(placed)) seen += 1;
    const { item } = placed;
    return seen > turns || (item.type === 'message' && (item.role === 'system' || item.role === 'developer'));
  });
}

function builderOptions(context: GatewayContext, body: ResponseRequest, id: string): BuilderOptions {
  const summary = body.reasoning?.summary ?? body.reasoning?.generate_summary ?? null;
  return {
    head: headOf(context, body, id),
    summary: summary !== null,
    seal: body.include?.includes('reasoning.encrypted_content') === true,
  };
}

/** A response before anything of it is generated. */
function headOf(context: GatewayContext, body: ResponseRequest, id: string): ResponseObject {
  const { config, assets, clock } = context;
  const defaults = config.generationConfig === 'auto' ? assets.generation : null;
  const background = body.background === true;
  return {
    id,
    object: 'response',
    created_at: Math.floor(clock.nowMs() / 1000),
    completed_at: null,
    status: background ? 'queued' : 'in_progress',
    background,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    access_programs: null,
    model: body.model,
    output: [],
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: body.previous_response_id ?? null,
    prompt_cache_key: typeof body.prompt_cache_key === 'string' ? body.prompt_cache_key : null,
    reasoning: {
      effort: body.reasoning?.effort ?? null,
      summary: body.reasoning?.summary ?? body.reasoning?.generate_summary ?? null,
    },
    safety_identifier: typeof body.safety_identifier === 'string' ? body.safety_identifier : null,
    service_tier: servedTier(context, body.service_tier) ?? 'default',
    store: body.store !== false,
    temperature: body.temperature ?? defaults?.temperature ?? 1,
    text: { format: body.text?.format ?? { type: 'text' }, verbosity: 'medium' },
    tool_choice: body.tool_choice ?? 'auto',
    tools: (body.tools ?? []).map(shownTool),
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? defaults?.topP ?? 1,
    truncation: body.truncation ?? 'disabled',
    usage: null,
    user: typeof body.user === 'string' ? body.user : null,
    metadata: body.metadata ?? {},
  };
}

function shownTool({ type, name, description, parameters, strict }: NonNullable<ResponseRequest['tools']>[number]) {
  return { type, name, description: description ?? null, parameters: parameters ?? null, strict: strict ?? false };
}
