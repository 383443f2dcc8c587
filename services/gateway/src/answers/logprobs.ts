import type { router } from '@guildhall/proto';
import type { LoggedToken } from '../choice-assembler.ts';
import type { ChatLogprobs } from '../schema/chat.ts';
import type { CompletionLogprobs } from '../schema/completion.ts';
import { tokenKey, type TokenSource, tokenText } from '../token-text.ts';

/** JSON has no infinity; OpenAI writes this for what cannot happen. */
const LEAST = -9999;

/** A log-probability that JSON can carry. */
export function finite(logprob: number): number {
  return logprob >= LEAST ? logprob : LEAST;
}

function chatEntry(source: TokenSource, id: number, logprob: number) {
  const { text, bytes } = tokenText(source, id);
  return { token: text, logprob: finite(logprob), bytes };
}

/** Log-probabilities as chat completions show them. */
export function chatLogprobs(source: TokenSource, tokens: readonly LoggedToken[]): ChatLogprobs {
  return {
    content: tokens.map(({ event }) => ({
      ...chatEntry(source, event.id, event.logprob),
      top_logprobs: event.top.map(({ id, logprob }) => chatEntry(source, id, logprob)),
    })),
    refusal: null,
  };
}

/** Collects log-probabilities as text completions show them: four arrays of equal length. */
export class CompletionLogprobList {
  readonly #source: TokenSource;
  readonly #list: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };

  constructor(source: TokenSource) {
    this.#source = source;
  }

  /** Adds a token that stands `offset` characters into the text. */
  add(event: router.TokenEvent, offset: number): void {
    const top = Object.fromEntries(event.top.map(({ id, logprob }) => [tokenKey(this.#source, id), finite(logprob)]));
    const key = tokenKey(this.#source, event.id);
    this.#push(key, finite(event.logprob), { ...top, [key]: finite(event.logprob) }, offset);
  }

  /** Adds the first token of a prompt, which has no log-probability. */
  addFirst(id: number): void {
    this.#push(tokenKey(this.#source, id), null, null, 0);
  }

  /** Takes what was collected; what comes later starts a new list. */
  take(): CompletionLogprobs {
    const { tokens, token_logprobs, top_logprobs, text_offset } = this.#list;
    return {
      tokens: tokens.splice(0),
      token_logprobs: token_logprobs.splice(0),
      top_logprobs: top_logprobs.splice(0),
      text_offset: text_offset.splice(0),
    };
  }

  #push(token: string, logprob: number | null, top: Record<string, number> | null, offset: number): void {
    this.#list.tokens.push(token);
    this.#list.token_logprobs.push(logprob);
    this.#list.top_logprobs.push(top);
    this.#list.text_offset.push(offset);
  }
}
