import { errorInfo, type GuildhallError } from '@guildhall/common';
import { usageOf } from '../answers/usage.ts';
import type { ChoiceCounts } from '../choice-assembler.ts';
import type { ResponseObject, ResponseUsage } from '../schema/responses.ts';

/** Counts as Responses show them. Nothing is charged for writing to the cache, so no tokens are said to be. */
export function responseUsage(promptTokens: number, counts: readonly ChoiceCounts[]): ResponseUsage {
  const usage = usageOf([promptTokens], counts);
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: usage.prompt_tokens_details.cached_tokens, cache_write_tokens: 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: usage.completion_tokens_details.reasoning_tokens },
    total_tokens: usage.total_tokens,
  };
}

/** An error as a response shows it: OpenAI has a few codes for all of them. */
export function responseError({ code, message }: GuildhallError): NonNullable<ResponseObject['error']> {
  const { http } = errorInfo(code);
  if (http === 429) return { code: 'rate_limit_exceeded', message };
  return { code: http >= 500 ? 'server_error' : 'invalid_prompt', message };
}
