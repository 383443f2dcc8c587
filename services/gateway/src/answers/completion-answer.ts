import type { router } from '@guildhall/proto';
import { type ChoiceCounts, type ChoiceDelta, type FinishName, trimmed } from '../choice-assembler.ts';
import type { ChoiceSink } from '../generation.ts';
import { textOf } from '../parsers/parser.ts';
import type { CompletionLogprobs, CompletionResponse } from '../schema/completion.ts';
import type { PromptLogprobs } from '../schema/token-fields.ts';
import type { Usage } from '../schema/usage.ts';
import type { SseStream } from '../sse.ts';
import type { TokenSource } from '../token-text.ts';
import type { AnswerHead } from './chat-answer.ts';
import { CompletionLogprobList } from './logprobs.ts';
import { addIds, promptIdsField, type PromptFacts, promptLogprobsOf, tokenIdsField } from './token-facts.ts';
import { usageOf } from './usage.ts';

/** The prompt of one choice, as echo shows it. */
export interface EchoedPrompt {
  ids: readonly number[];
  text: string;
}

/** What a text completion is made with. */
export interface CompletionAnswerOptions {
  head: AnswerHead;
  source: TokenSource;
  logprobs: boolean;
  /** Alternatives of each token that are shown with them. */
  topLogprobs?: number;
  /** What tokens of log-probabilities are written with; the source without it. */
  labels?: TokenSource;
  /** What is asked about the tokens of the prompts, one for each choice; null when nothing is. */
  facts?: readonly (PromptFacts | null)[] | null;
  /** The prompts in front of the choices, one for each; null without echo. */
  echo: readonly EchoedPrompt[] | null;
  /** Choices of each prompt that are returned, the likeliest of those that were generated. */
  returned: number;
  fingerprint: () => string | null;
}

/** A piece of a choice. */
interface Piece {
  text: string;
  logprobs: CompletionLogprobs | null;
  finish: FinishName | null;
  stopReason: string | number | null;
  facts?: TokenPiece;
}

/** What a piece tells of tokens, where it is asked for. */
interface TokenPiece {
  token_ids?: number[];
  prompt_token_ids?: number[];
  prompt_logprobs?: PromptLogprobs;
}

/** Turns the events of one choice into pieces of text with their log-probabilities. */
class CompletionPieces {
  readonly #options: CompletionAnswerOptions;
  readonly #prompt: EchoedPrompt | null;
  readonly #facts: PromptFacts | null;
  readonly #list: CompletionLogprobList;

  constructor(options: CompletionAnswerOptions, index: number) {
    this.#options = options;
    this.#prompt = options.echo?.[index] ?? null;
    this.#facts = options.facts?.[index] ?? null;
    this.#list = new CompletionLogprobList(options.labels ?? options.source);
  }

  /** The prompt; with log-probabilities it waits for them. */
  started(): Piece | null {
    const ids = promptIdsField(this.#facts);
    const echoed = this.#prompt === null || this.#options.logprobs ? null : this.#prompt.text;
    if (echoed === null && ids.prompt_token_ids === undefined) return null;
    return { ...this.#piece(echoed ?? '', null), facts: ids };
  }

  promptLogprobs(tokens: readonly router.TokenEvent[]): Piece | null {
    const shown = promptLogprobsOf(this.#facts, tokens);
    const facts = shown === undefined ? {} : { prompt_logprobs: shown };
    const prompt = this.#prompt;
    // Log-probabilities of the prompt may be asked for without an echo of it.
    if (prompt === null || !this.#options.logprobs)
      return shown === undefined ? null : { ...this.#piece('', null), facts };
    // Offsets count characters of the text, so the prompt is decoded as far as each token.
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    let offset = 0;
    for (const [i, id] of prompt.ids.entries()) {
      const event = tokens[i - 1];
      if (event === undefined) this.#list.addFirst(id);
      else this.#list.add(trimmed(event, this.#options.topLogprobs ?? Infinity), offset);
      offset += decoder.decode(this.#options.source.tokenBytes(id), { stream: true }).length;
    }
    return { ...this.#piece(prompt.text, null), facts };
  }

  delta(delta: ChoiceDelta): Piece {
    const offset = this.#prompt?.text.length ?? 0;
    if (this.#options.logprobs) for (const token of delta.tokens) this.#list.add(token.event, offset + token.offset);
    return { ...this.#piece(textOf(delta, 'content'), delta), facts: tokenIdsField(delta.tokenIds) };
  }

  #piece(text: string, end: { finish: FinishName | null; stopReason: string | number | null } | null): Piece {
    const logprobs = this.#options.logprobs ? this.#list.take() : null;
    return { text, logprobs, finish: end?.finish ?? null, stopReason: end?.stopReason ?? null };
  }
}

function joinLogprobs(parts: readonly Piece[]): CompletionLogprobs | null {
  const lists = parts.map((part) => part.logprobs).filter((list) => list !== null);
  if (lists.length === 0) return null;
  return {
    tokens: lists.flatMap((list) => list.tokens),
    token_logprobs: lists.flatMap((list) => list.token_logprobs),
    top_logprobs: lists.flatMap((list) => list.top_logprobs),
    text_offset: lists.flatMap((list) => list.text_offset),
  };
}

function joinFacts(parts: readonly Piece[]): TokenPiece {
  let ids: number[] | undefined;
  for (const { facts } of parts) ids = addIds(ids, facts?.token_ids);
  return { ...Object.assign({}, ...parts.map(({ facts }) => facts)), ...tokenIdsField(ids) } as TokenPiece;
}

function pieceChoice(index: number, piece: Piece): CompletionResponse['choices'][number] {
  return {
    index,
    text: piece.text,
    logprobs: piece.logprobs,
    // Text completions have no tools.
    finish_reason: piece.finish === 'tool_calls' ? 'stop' : piece.finish,
    stop_reason: piece.stopReason,
    ...piece.facts,
  };
}

/** How likely a choice was: the mean log-probability of its tokens. */
class Likelihood {
  #sum = 0;
  #count = 0;

  add(delta: ChoiceDelta): void {
    for (const { event } of delta.tokens) this.#sum += event.logprob;
    this.#count += delta.tokens.length;
  }

  /** 0, the most, for a choice without tokens. */
  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }
}

/** Places of the `returned` likeliest choices of each prompt, likeliest first; all, in their order, where all are returned. */
function likeliest(choices: readonly Likelihood[], prompts: number, returned: number): number[] {
  const each = prompts === 0 ? 0 : choices.length / prompts;
  const places = Array.from(choices, (_, place) => place);
  if (each <= returned) return places;
  return Array.from({ length: prompts }, (_, prompt) => places.slice(prompt * each, (prompt + 1) * each)).flatMap(
    (group) => group.toSorted((a, b) => (choices[b]?.mean ?? 0) - (choices[a]?.mean ?? 0) || a - b).slice(0, returned),
  );
}

/** Collects a whole text completion. */
export class CompletionCollector implements ChoiceSink {
  readonly #options: CompletionAnswerOptions;
  readonly #pieces: CompletionPieces[];
  readonly #parts: Piece[][];
  readonly #likelihoods: Likelihood[];

  constructor(options: CompletionAnswerOptions, numChoices: number) {
    this.#options = options;
    this.#pieces = Array.from({ length: numChoices }, (_, index) => new CompletionPieces(options, index));
    this.#likelihoods = this.#pieces.map(() => new Likelihood());
    this.#parts = this.#pieces.map(() => []);
  }

  started(index: number): void {
    this.#add(index, this.#pieces[index]?.started());
  }

  promptLogprobs(index: number, tokens: router.TokenEvent[]): void {
    this.#add(index, this.#pieces[index]?.promptLogprobs(tokens));
  }

  delta(index: number, delta: ChoiceDelta): void {
    this.#likelihoods[index]?.add(delta);
    this.#add(index, this.#pieces[index]?.delta(delta));
  }

  answer(promptTokens: readonly number[], counts: readonly ChoiceCounts[]): CompletionResponse {
    const { head, fingerprint, returned } = this.#options;
    const kept = likeliest(this.#likelihoods, promptTokens.length, returned);
    return {
      ...head,
      object: 'text_completion',
      system_fingerprint: fingerprint(),
      choices: kept.map((place, index) => {
        const parts = this.#parts[place] ?? [];
        const last = parts.at(-1);
        return pieceChoice(index, {
          text: parts.map((part) => part.text).join(''),
          logprobs: joinLogprobs(parts),
          finish: last?.finish ?? null,
          stopReason: last?.stopReason ?? null,
          facts: joinFacts(parts),
        });
      }),
      usage: usageOf(promptTokens, counts),
    };
  }

  #add(index: number, piece: Piece | null | undefined): void {
    if (piece !== null && piece !== undefined) this.#parts[index]?.push(piece);
  }
}

/** Streams a text completion, one chunk for each piece. */
export class CompletionStreamer implements ChoiceSink {
  readonly #options: CompletionAnswerOptions;
  readonly #pieces: CompletionPieces[];
  readonly #stream: SseStream;
  readonly #includeUsage: boolean;

  constructor(options: CompletionAnswerOptions, numChoices: number, stream: SseStream, includeUsage: boolean) {
    this.#options = options;
    this.#pieces = Array.from({ length: numChoices }, (_, index) => new CompletionPieces(options, index));
    this.#stream = stream;
    this.#includeUsage = includeUsage;
  }

  async started(index: number): Promise<void> {
    await this.#sendPiece(index, this.#pieces[index]?.started());
  }

  async promptLogprobs(index: number, tokens: router.TokenEvent[]): Promise<void> {
    await this.#sendPiece(index, this.#pieces[index]?.promptLogprobs(tokens));
  }

  async delta(index: number, delta: ChoiceDelta): Promise<void> {
    const piece = this.#pieces[index]?.delta(delta);
    if (piece?.text === '' && piece.finish === null && (piece.logprobs?.tokens.length ?? 0) === 0) return;
    await this.#sendPiece(index, piece);
  }

  /** Sends the usage, if asked for, and the end. */
  async finish(promptTokens: readonly number[], counts: readonly ChoiceCounts[]): Promise<void> {
    if (this.#includeUsage) await this.#send([], usageOf(promptTokens, counts));
    await this.#stream.done();
  }

  async #sendPiece(index: number, piece: Piece | null | undefined): Promise<void> {
    if (piece !== null && piece !== undefined) await this.#send([pieceChoice(index, piece)], null);
  }

  async #send(choices: CompletionResponse['choices'], usage: Usage | null): Promise<void> {
    const { head, fingerprint } = this.#options;
    const chunk: CompletionResponse = {
      ...head,
      object: 'text_completion',
      system_fingerprint: fingerprint(),
      choices,
      ...(this.#includeUsage ? { usage } : {}),
    };
    await this.#stream.send(chunk);
  }
}
