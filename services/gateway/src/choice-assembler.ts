import type { router } from '@guildhall/proto';
import { ContentTokens } from './content-tokens.ts';
import { emptyText, type OutputParser, sayAll, type TextDelta, type TextPart } from './parsers/parser.ts';
import { StopScanner } from './parsers/stop-scanner.ts';

/** Turns token ids into text that never ends inside a character. */
export interface Detokenizer {
  push(id: number): string;
  flush(): string;
}

/** How a choice ended, as OpenAI names it. */
export type FinishName = 'stop' | 'length' | 'tool_calls';

/** A token whose log-probability is to be shown. */
export interface LoggedToken {
  event: router.TokenEvent;
  /** Characters of the raw text before this token. */
  offset: number;
}

/** A piece of what a choice says, with the tokens of a text of the answer where they are shown. */
export type ChoicePart = TextPart & { tokens?: LoggedToken[] };

/** What one or more tokens add to a choice. */
export interface ChoiceDelta extends TextDelta {
  parts: ChoicePart[];
  /** All tokens whose log-probabilities are to be shown, those of thinking and of calls too. */
  tokens: LoggedToken[];
  /** All token ids since the last delta, where they are asked for. */
  tokenIds?: readonly number[];
  finish: FinishName | null;
  /** The stop string or the asked for stop token id that ended the choice. */
  stopReason: string | number | null;
}

export interface AssemblerOptions {
  detokenizer: Detokenizer;
  parser: OutputParser;
  stopStrings: readonly string[];
  includeStop: boolean;
  minTokens: number;
  /** Ids that end the choice: their text is shown only with includeStop. */
  stopIds: ReadonlySet<number>;
  /** Those of them that the request asked for; the checkpoint's end ids are no reason worth naming. */
  askedStopIds: ReadonlySet<number>;
  /** Whether tokens carry log-probabilities that will be shown. */
  logprobs: boolean;
  /** Alternatives of a token that will be shown; a router may give more. All of them without it. */
  topLogprobs?: number;
  /** Whether deltas tell token ids. */
  tokenIds?: boolean;
  /** Id of `</think>` when the answer starts inside a think block; null when it does not. */
  thinkEndId: number | null;
}

/** Token counts of one choice. */
export interface ChoiceCounts {
  completionTokens: number;
  reasoningTokens: number;
  cachedTokens: number;
  /** Of those: made by decode. */
  decodeCachedTokens: number;
}

/** Builds the text of one choice from its tokens: detokenizer, then stop strings, then the parser. */
export class ChoiceAssembler {
  readonly #options: AssemblerOptions;
  readonly #scanner: StopScanner;
  /** A token that may be the last one; its text waits until it is known. */
  #waiting: router.TokenEvent | null = null;
  #unsent: LoggedToken[] = [];
  #unsentIds: number[] = [];
  readonly #contentTokens = new ContentTokens();
  #rawLength = 0;
  #inReasoning: boolean;
  #counts: ChoiceCounts = { completionTokens: 0, reasoningTokens: 0, cachedTokens: 0, decodeCachedTokens: 0 };

  constructor(options: AssemblerOptions) {
    this.#options = options;
    this.#scanner = new StopScanner(options.stopStrings, options.includeStop);
    this.#inReasoning = options.thinkEndId !== null;
  }

  /** True when a stop string or the last call allowed has ended the answer. */
  get ended(): boolean {
    return this.#scanner.matched !== null || this.#options.parser.ended;
  }

  get counts(): ChoiceCounts {
    return { ...this.#counts };
  }

  /** A router has begun. What it found cached is known before it has finished, which a stop string may forestall. */
  onStarted(started: router.Started): void {
    this.#counts.cachedTokens = started.cachedTokens;
  }

  /** Takes the next token. The delta may be empty, and is when the answer has ended before the token. */
  onToken(event: router.TokenEvent): ChoiceDelta {
    const earlier = this.#waiting;
    this.#waiting = null;
    const said = earlier === null ? emptyText() : this.#absorb(earlier);
    if (!this.ended) {
      this.#count(event);
      if (this.#options.tokenIds === true) this.#unsentIds.push(event.id);
      if (this.#options.stopIds.has(event.id) && event.index >= this.#options.minTokens) this.#waiting = event;
      else sayAll(said, this.#absorb(event));
    }
    const delta = { ...said, tokens: [], finish: null, stopReason: null };
    // Log-probabilities travel with the text they belong to, so they wait with it.
    return saysNothing(said) ? delta : { ...delta, ...this.#shown(said) };
  }

  /** Ends the choice as the router says. */
  onFinished(finished: router.Finished, finish: FinishName): ChoiceDelta {
    this.#counts.completionTokens = Math.max(this.#counts.completionTokens, finished.completionTokens);
    this.#counts.cachedTokens = finished.cachedTokens;
    this.#counts.decodeCachedTokens = finished.decodeCachedTokens;
    const last = this.#waiting;
    this.#waiting = null;
    const byToken = finish === 'stop' && finished.stopString === '';
    const isStop = last !== null && byToken && (finished.stopTokenId ?? last.id) === last.id;
    const said = last === null || (isStop && !this.#options.includeStop) ? emptyText() : this.#absorb(last);
    return this.#close(said, finished.stopString, finish, finished.stopTokenId ?? null);
  }

  /** Ends the choice at what was found here, without the router's word. */
  onEnded(): ChoiceDelta {
    return this.#close(emptyText(), '', 'stop', null);
  }

  #close(said: TextDelta, routerStop: string, finish: FinishName, stopTokenId: number | null): ChoiceDelta {
    const { detokenizer, parser } = this.#options;
    const last = detokenizer.flush();
    this.#contentTokens.addText(last);
    const rest = this.#scanner.push(last, true) + this.#scanner.finish(routerStop);
    const cut = finish === 'length';
    sayAll(said, parser.push(rest));
    sayAll(said, parser.finish(cut));
    const byCalls = parser.calls > 0 && (!cut || parser.ended);
    const askedId = stopTokenId !== null && this.#options.askedStopIds.has(stopTokenId) ? stopTokenId : null;
    const stopReason = this.#scanner.matched ?? askedId;
    return {
      ...this.#shown(said),
      finish: byCalls ? 'tool_calls' : finish,
      stopReason: finish === 'stop' && !byCalls ? stopReason : null,
    };
  }

  #absorb(event: router.TokenEvent): TextDelta {
    const { detokenizer, parser, minTokens, logprobs, topLogprobs = Infinity } = this.#options;
    if (this.ended) return emptyText();
    const text = detokenizer.push(event.id);
    if (logprobs) {
      const logged = { event: trimmed(event, topLogprobs), offset: this.#rawLength };
      this.#unsent.push(logged);
      this.#contentTokens.add(logged, text);
    }
    this.#rawLength += text.length;
    return parser.push(this.#scanner.push(text, event.index >= minTokens));
  }

  #count(event: router.TokenEvent): void {
    this.#counts.completionTokens = Math.max(this.#counts.completionTokens, event.index + 1);
    if (!this.#inReasoning) return;
    this.#counts.reasoningTokens += 1;
    if (event.id === this.#options.thinkEndId) this.#inReasoning = false;
  }

  /** What is said, with the tokens that have come since something was said last. */
  #shown({ parts }: TextDelta): Pick<ChoiceDelta, 'parts' | 'tokens' | 'tokenIds'> {
    const { logprobs, tokenIds } = this.#options;
    const shown = { parts: logprobs ? this.#tokensOf(parts) : parts, tokens: this.#unsent };
    this.#unsent = [];
    if (tokenIds !== true) return shown;
    const ids = this.#unsentIds;
    this.#unsentIds = [];
    return { ...shown, tokenIds: ids };
  }

  #tokensOf(parts: readonly TextPart[]): ChoicePart[] {
    return parts.map((part) => {
      if (part.kind === 'content') return { ...part, tokens: this.#contentTokens.take(part.text) };
      if (part.kind === 'reasoning') this.#contentTokens.skip(part.text);
      else this.#contentTokens.call();
      return part;
    });
  }
}

/** An event with at most so many alternatives: a router gives as many as the most that any part of the answer shows. */
export function trimmed(event: router.TokenEvent, alternatives: number): router.TokenEvent {
  return event.top.length <= alternatives ? event : { ...event, top: event.top.slice(0, Math.max(0, alternatives)) };
}

/** Whether a delta has neither text nor a piece of a call. */
export function saysNothing({ parts }: TextDelta): boolean {
  return parts.length === 0;
}
