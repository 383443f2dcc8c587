import type { router } from '@guildhall/proto';
import {
  type ChoiceCounts,
  type ChoiceDelta,
  type FinishName,
  type LoggedToken,
  saysNothing,
} from '../choice-assembler.ts';
import type { GatewayContext } from '../context.ts';
import type { ChoiceSink } from '../generation.ts';
import type { TextPart, ToolCallDelta } from '../parsers/parser.ts';
import type { ChatChunk, ChatLogprobs, ChatResponse } from '../schema/chat.ts';
import type { PromptLogprobs } from '../schema/token-fields.ts';
import type { Usage } from '../schema/usage.ts';
import { type SERVICE_TIERS, type ServedTier, servedTier } from '../service-tier.ts';
import type { SseStream } from '../sse.ts';
import type { TokenSource } from '../token-text.ts';
import { chatLogprobs } from './logprobs.ts';
import { addIds, promptIdsField, type PromptFacts, promptLogprobsOf, tokenIdsField } from './token-facts.ts';
import { usageOf } from './usage.ts';

/** What all parts of one answer repeat. */
export interface AnswerHead {
  id: string;
  /** Seconds since the Unix epoch. */
  created: number;
  /** The name that the client asked for. */
  model: string;
  /** The tier that it is served in; absent where the request asked for none. */
  service_tier?: ServedTier;
}

/** The head of a new answer. */
export function answerHead(
  context: Pick<GatewayContext, 'clock' | 'config' | 'limits'>,
  id: string,
  body: { model: string; service_tier?: (typeof SERVICE_TIERS)[number] | null | undefined },
): AnswerHead {
  const tier = servedTier(context, body.service_tier);
  const created = Math.floor(context.clock.nowMs() / 1000);
  return { id, created, model: body.model, ...(tier === null ? {} : { service_tier: tier }) };
}

/** What a chat answer is made with. */
export interface ChatAnswerOptions {
  head: AnswerHead;
  source: TokenSource;
  logprobs: boolean;
  /** Calls are answered in the form that came before tool calls. */
  asFunctions?: boolean;
  /** What is asked about the prompt's tokens. */
  facts?: PromptFacts | null;
  fingerprint: () => string | null;
}

type ToolCallAnswer = NonNullable<ChatResponse['choices'][number]['message']['tool_calls']>[number];

interface CollectedChoice {
  reasoning: string;
  content: string;
  calls: ToolCallAnswer[];
  tokens: LoggedToken[];
  tokenIds: number[] | undefined;
  finish: FinishName;
  stopReason: string | number | null;
}

/** Collects a whole chat answer. */
export class ChatCollector implements ChoiceSink {
  readonly #options: ChatAnswerOptions;
  readonly #choices: CollectedChoice[];
  #promptLogprobs: PromptLogprobs | undefined;

  constructor(options: ChatAnswerOptions, numChoices: number) {
    this.#options = options;
    const empty = (): CollectedChoice => ({
      reasoning: '',
      content: '',
      calls: [],
      tokens: [],
      tokenIds: undefined,
      finish: 'stop',
      stopReason: null,
    });
    this.#choices = Array.from({ length: numChoices }, empty);
  }

  started(): void {}

  // All choices have the same prompt.
  promptLogprobs(_index: number, tokens: readonly router.TokenEvent[]): void {
    this.#promptLogprobs ??= promptLogprobsOf(this.#options.facts, tokens);
  }

  delta(index: number, delta: ChoiceDelta): void {
    const choice = this.#choices[index];
    if (choice === undefined) return;
    for (const part of delta.parts) {
      if (part.kind === 'call') addPiece(choice.calls, part.call);
      else choice[part.kind] += part.text;
    }
    choice.tokens.push(...delta.tokens);
    choice.tokenIds = addIds(choice.tokenIds, delta.tokenIds);
    choice.finish = delta.finish ?? choice.finish;
    choice.stopReason = delta.stopReason ?? choice.stopReason;
  }

  answer(promptTokens: number, counts: readonly ChoiceCounts[]): ChatResponse {
    const { head, source, logprobs, facts, fingerprint, asFunctions = false } = this.#options;
    return {
      ...head,
      object: 'chat.completion',
      system_fingerprint: fingerprint(),
      choices: this.#choices.map((choice, index) => ({
        index,
        message: {
          role: 'assistant',
          content: choice.content === '' && choice.calls.length > 0 ? null : choice.content,
          reasoning_content: choice.reasoning === '' ? null : choice.reasoning,
          reasoning: choice.reasoning === '' ? null : choice.reasoning,
          refusal: null,
          ...callFields(choice.calls, asFunctions),
        },
        logprobs: logprobs ? chatLogprobs(source, choice.tokens) : null,
        finish_reason: finishName(choice.finish, asFunctions),
        stop_reason: choice.stopReason,
        ...tokenIdsField(choice.tokenIds),
      })),
      ...promptIdsField(facts),
      ...(this.#promptLogprobs === undefined ? {} : { prompt_logprobs: this.#promptLogprobs }),
      usage: usageOf([promptTokens], counts),
    };
  }
}

function callFields(calls: ToolCallAnswer[], asFunctions: boolean) {
  const [first] = calls;
  if (first === undefined) return {};
  return asFunctions ? { function_call: first.function } : { tool_calls: calls };
}

function finishName(finish: FinishName, asFunctions: boolean): FinishName | 'function_call' {
  return asFunctions && finish === 'tool_calls' ? 'function_call' : finish;
}

/** Adds a piece of a call to the calls so far. */
function addPiece(calls: ToolCallAnswer[], piece: ToolCallDelta): void {
  const call = (calls[piece.index] ??= {
    id: piece.id ?? '',
    type: 'function',
    function: { name: piece.name ?? '', arguments: '' },
  });
  call.function.arguments += piece.arguments;
}

type ChunkChoice = ChatChunk['choices'][number];
type ChunkDelta = ChunkChoice['delta'];

/** The parts of a delta, one chunk for each: clients expect a chunk to bring text or one piece of one call. */
function deltaParts({ parts }: ChoiceDelta, asFunctions: boolean): ChunkDelta[] {
  return parts.length === 0 ? [{}] : parts.map((part) => chunkDelta(part, asFunctions));
}

function chunkDelta(part: TextPart, asFunctions: boolean): ChunkDelta {
  if (part.kind === 'content') return { content: part.text };
  if (part.kind === 'reasoning') return { reasoning_content: part.text, reasoning: part.text };
  const { index, id, name, arguments: json } = part.call;
  const head = id === undefined ? {} : { id, type: 'function' as const };
  const fn = { ...(name === undefined ? {} : { name }), arguments: json };
  return asFunctions ? { function_call: fn } : { tool_calls: [{ index, ...head, function: fn }] };
}

/** Where chunks go. */
export type AnswerStream = Pick<SseStream, 'send' | 'done'>;

/** Streams a chat answer: a first chunk with the role, one chunk for each piece of text, a last one with the reason. */
export class ChatStreamer implements ChoiceSink {
  readonly #options: ChatAnswerOptions;
  readonly #stream: AnswerStream;
  readonly #includeUsage: boolean;

  constructor(options: ChatAnswerOptions, stream: AnswerStream, includeUsage: boolean) {
    this.#options = options;
    this.#stream = stream;
    this.#includeUsage = includeUsage;
  }

  async started(index: number): Promise<void> {
    const role = { index, delta: { role: 'assistant' as const, content: '' }, logprobs: null, finish_reason: null };
    await this.#send([role], null, promptIdsField(this.#options.facts));
  }

  promptLogprobs(): void {}

  async delta(index: number, delta: ChoiceDelta): Promise<void> {
    const { logprobs, source, asFunctions = false } = this.#options;
    let ids = tokenIdsField(delta.tokenIds);
    if (!saysNothing(delta) || delta.tokens.length > 0) {
      let shown: ChatLogprobs | null = logprobs ? chatLogprobs(source, delta.tokens) : null;
      for (const part of deltaParts(delta, asFunctions)) {
        await this.#send([{ index, delta: part, logprobs: shown, finish_reason: null, ...ids }]);
        // They go with the first part.
        shown = null;
        ids = {};
      }
    }
    if (delta.finish === null) return;
    const finish_reason = finishName(delta.finish, asFunctions);
    await this.#send([{ index, delta: {}, logprobs: null, finish_reason, stop_reason: delta.stopReason, ...ids }]);
  }

  /** Sends the usage, if asked for, and the end. */
  async finish(promptTokens: number, counts: readonly ChoiceCounts[]): Promise<void> {
    if (this.#includeUsage) await this.#send([], usageOf([promptTokens], counts));
    await this.#stream.done();
  }

  async #send(
    choices: ChunkChoice[],
    usage: Usage | null = null,
    more: { prompt_token_ids?: number[] } = {},
  ): Promise<void> {
    const { head, fingerprint } = this.#options;
    const chunk: ChatChunk = {
      ...head,
      object: 'chat.completion.chunk',
      system_fingerprint: fingerprint(),
      choices,
      ...more,
      ...(this.#includeUsage ? { usage } : {}),
    };
    await this.#stream.send(chunk);
  }
}
