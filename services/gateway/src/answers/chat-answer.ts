import type { router } from '@guildhall/proto';
import type { ChoiceCounts, ChoiceDelta, FinishName, LoggedToken } from '../choice-assembler.ts';
import type { ChoiceSink } from '../generation.ts';
import type { ChatChunk, ChatResponse } from '../schema/chat.ts';
import type { PromptLogprobs } from '../schema/token-fields.ts';
import type { Usage } from '../schema/usage.ts';
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
}

/** What a chat answer is made with. */
export interface ChatAnswerOptions {
  head: AnswerHead;
  source: TokenSource;
  logprobs: boolean;
  /** What is asked about the prompt's tokens. */
  facts?: PromptFacts | null;
  fingerprint: () => string | null;
}

interface CollectedChoice {
  reasoning: string;
  content: string;
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
    choice.reasoning += delta.reasoning;
    choice.content += delta.content;
    choice.tokens.push(...delta.tokens);
    choice.tokenIds = addIds(choice.tokenIds, delta.tokenIds);
    choice.finish = delta.finish ?? choice.finish;
    choice.stopReason = delta.stopReason ?? choice.stopReason;
  }

  answer(promptTokens: number, counts: readonly ChoiceCounts[]): ChatResponse {
    const { head, source, logprobs, facts, fingerprint } = this.#options;
    return {
      ...head,
      object: 'chat.completion',
      system_fingerprint: fingerprint(),
      choices: this.#choices.map((choice, index) => ({
        index,
        message: {
          role: 'assistant',
          content: choice.content,
          reasoning_content: choice.reasoning === '' ? null : choice.reasoning,
          refusal: null,
        },
        logprobs: logprobs ? chatLogprobs(source, choice.tokens) : null,
        finish_reason: choice.finish,
        stop_reason: choice.stopReason,
        ...tokenIdsField(choice.tokenIds),
      })),
      ...promptIdsField(facts),
      ...(this.#promptLogprobs === undefined ? {} : { prompt_logprobs: this.#promptLogprobs }),
      usage: usageOf([promptTokens], counts),
    };
  }
}

type ChunkChoice = ChatChunk['choices'][number];

/** Streams a chat answer: a first chunk with the role, one chunk for each piece of text, a last one with the reason. */
export class ChatStreamer implements ChoiceSink {
  readonly #options: ChatAnswerOptions;
  readonly #stream: SseStream;
  readonly #includeUsage: boolean;

  constructor(options: ChatAnswerOptions, stream: SseStream, includeUsage: boolean) {
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
    const { logprobs, source } = this.#options;
    const hasText = delta.reasoning !== '' || delta.content !== '' || delta.tokens.length > 0;
    if (hasText) {
      const text = {
        ...(delta.reasoning === '' ? {} : { reasoning_content: delta.reasoning }),
        ...(delta.content === '' ? {} : { content: delta.content }),
      };
      const shown = logprobs ? chatLogprobs(source, delta.tokens) : null;
      const ids = tokenIdsField(delta.tokenIds);
      await this.#send([{ index, delta: text, logprobs: shown, finish_reason: null, ...ids }]);
    }
    if (delta.finish === null) return;
    const end = { index, delta: {}, logprobs: null, finish_reason: delta.finish, stop_reason: delta.stopReason };
    await this.#send([hasText ? end : { ...end, ...tokenIdsField(delta.tokenIds) }]);
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
      id: head.id,
      object: 'chat.completion.chunk',
      created: head.created,
      model: head.model,
      system_fingerprint: fingerprint(),
      choices,
      ...more,
      ...(this.#includeUsage ? { usage } : {}),
    };
    await this.#stream.send(chunk);
  }
}
