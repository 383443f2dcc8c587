import type { ChoiceCounts, ChoiceDelta, FinishName, LoggedToken } from '../choice-assembler.ts';
import type { ChoiceSink } from '../generation.ts';
import type { ChatChunk, ChatResponse } from '../schema/chat.ts';
import type { Usage } from '../schema/usage.ts';
import type { SseStream } from '../sse.ts';
import type { TokenSource } from '../token-text.ts';
import { chatLogprobs } from './logprobs.ts';
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
  fingerprint: () => string | null;
}

interface CollectedChoice {
  reasoning: string;
  content: string;
  tokens: LoggedToken[];
  finish: FinishName;
  stopReason: string | number | null;
}

/** Collects a whole chat answer. */
export class ChatCollector implements ChoiceSink {
  readonly #options: ChatAnswerOptions;
  readonly #choices: CollectedChoice[];

  constructor(options: ChatAnswerOptions, numChoices: number) {
    this.#options = options;
    const empty = (): CollectedChoice => ({ reasoning: '', content: '', tokens: [], finish: 'stop', stopReason: null });
    this.#choices = Array.from({ length: numChoices }, empty);
  }

  started(): void {}

  promptLogprobs(): void {}

  delta(index: number, delta: ChoiceDelta): void {
    const choice = this.#choices[index];
    if (choice === undefined) return;
    choice.reasoning += delta.reasoning;
    choice.content += delta.content;
    choice.tokens.push(...delta.tokens);
    choice.finish = delta.finish ?? choice.finish;
    choice.stopReason = delta.stopReason ?? choice.stopReason;
  }

  answer(promptTokens: number, counts: readonly ChoiceCounts[]): ChatResponse {
    const { head, source, logprobs, fingerprint } = this.#options;
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
      })),
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
    await this.#send([{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }]);
  }

  promptLogprobs(): void {}

  async delta(index: number, delta: ChoiceDelta): Promise<void> {
    const { logprobs, source } = this.#options;
    const hasText = delta.reasoning !== '' || delta.content !== '';
    if (hasText || delta.tokens.length > 0) {
      const text = {
        ...(delta.reasoning === '' ? {} : { reasoning_content: delta.reasoning }),
        ...(delta.content === '' ? {} : { content: delta.content }),
      };
      await this.#send([
        { index, delta: text, logprobs: logprobs ? chatLogprobs(source, delta.tokens) : null, finish_reason: null },
      ]);
    }
    if (delta.finish === null) return;
    await this.#send([
      { index, delta: {}, logprobs: null, finish_reason: delta.finish, stop_reason: delta.stopReason },
    ]);
  }

  /** Sends the usage, if asked for, and the end. */
  async finish(promptTokens: number, counts: readonly ChoiceCounts[]): Promise<void> {
    if (this.#includeUsage) await this.#send([], usageOf([promptTokens], counts));
    await this.#stream.done();
  }

  async #send(choices: ChunkChoice[], usage: Usage | null = null): Promise<void> {
    const { head, fingerprint } = this.#options;
    const chunk: ChatChunk = {
      id: head.id,
      object: 'chat.completion.chunk',
      created: head.created,
      model: head.model,
      system_fingerprint: fingerprint(),
      choices,
      ...(this.#includeUsage ? { usage } : {}),
    };
    await this.#stream.send(chunk);
  }
}
