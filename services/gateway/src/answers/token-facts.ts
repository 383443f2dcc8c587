import { fail } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { PromptLogprobs } from '../schema/token-fields.ts';
import { type TokenSource, tokenText } from '../token-text.ts';
import { finite } from './logprobs.ts';

/** Log-probabilities of a prompt (tokens times alternatives) that one answer may carry, as routers limit it. */
const MAX_PROMPT_LOGPROBS = 1 << 18;

/** Throws `invalid_value` naming the field when a prompt would have more log-probabilities than an answer may carry. */
export function checkPromptLogprobs(promptTokens: number, alternatives: number | null, field: string): void {
  const values = alternatives === null ? 0 : promptTokens * (1 + alternatives);
  if (values <= MAX_PROMPT_LOGPROBS) return;
  const message = `${field}: ${values} values for the prompt, at most ${MAX_PROMPT_LOGPROBS} are returned`;
  throw fail('invalid_value', message, { field });
}

type TokenEntry = NonNullable<PromptLogprobs[number]>[string];

/** Fields of a request that ask for the tokens behind texts. */
export interface TokenAsk {
  prompt_logprobs?: number | null | undefined;
  return_token_ids?: boolean | null | undefined;
  return_tokens_as_token_ids?: boolean | null | undefined;
}

/** What an answer says of the tokens of one prompt beside its text. */
export interface PromptFacts {
  ids: readonly number[];
  source: TokenSource;
  /** Whether token ids are shown. */
  showIds: boolean;
  /** Alternatives of each token of the prompt; null without them. */
  alternatives: number | null;
}

/** What is asked about a prompt; null when nothing is. */
export function promptFacts(source: TokenSource, body: TokenAsk, ids: readonly number[]): PromptFacts | null {
  const showIds = body.return_token_ids === true;
  const alternatives = body.prompt_logprobs ?? null;
  return showIds || alternatives !== null ? { ids, source, showIds, alternatives } : null;
}

/** Ids of the prompt, as a field that is there when it is asked for. */
export function promptIdsField(facts: PromptFacts | null | undefined): { prompt_token_ids?: number[] } {
  return facts?.showIds === true ? { prompt_token_ids: [...facts.ids] } : {};
}

/** Ids of a piece of an answer, as a field that is there when it is asked for. */
export function tokenIdsField(ids: readonly number[] | undefined): { token_ids?: number[] } {
  return ids === undefined ? {} : { token_ids: [...ids] };
}

/** Adds the ids of a piece to those that came before; undefined where none are asked for. */
export function addIds(ids: number[] | undefined, more: readonly number[] | undefined): number[] | undefined {
  if (more === undefined) return ids;
  const all = ids ?? [];
  all.push(...more);
  return all;
}

/**
 * Log-probabilities of a prompt as vLLM shows them: its own token and the alternatives, by id; undefined where none are asked
 * for.
 */
export function promptLogprobsOf(
  facts: PromptFacts | null | undefined,
  events: readonly router.TokenEvent[],
): PromptLogprobs | undefined {
  if (facts === null || facts === undefined || facts.alternatives === null) return undefined;
  const { source, alternatives } = facts;
  const entry = (id: number, logprob: number, rank: number | null): TokenEntry => {
    return { logprob: finite(logprob), rank, decoded_token: tokenText(source, id).text };
  };
  const all = events.map((event) => {
    const top = event.top.slice(0, alternatives);
    const known = top.map(({ id, logprob }, index) => [String(id), entry(id, logprob, index + 1)] as const);
    const place = event.top.findIndex(({ id }) => id === event.id);
    const own = entry(event.id, event.logprob, place < 0 ? null : place + 1);
    return { ...Object.fromEntries(known), [String(event.id)]: own };
  });
  return [null, ...all];
}

const utf8 = new TextEncoder();

/** Writes tokens as `token_id:ID`, for log-probabilities of clients that want ids. */
export const ID_SOURCE: TokenSource = { tokenBytes: (id) => utf8.encode(`token_id:${id}`) };
