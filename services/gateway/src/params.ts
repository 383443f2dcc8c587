import { randomBytes } from 'node:crypto';
import { fail } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { Assets } from './assets.ts';
import { checkTokenIds } from './prompt.ts';

/** Request fields that become sampling parameters. */
export interface SamplingInput {
  seed?: number | null | undefined;
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  top_k?: number | null | undefined;
  min_p?: number | null | undefined;
  repetition_penalty?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
  logit_bias?: Record<string, number> | null | undefined;
}

/** Request fields that become stop conditions. */
export interface StopInput {
  stop?: string | string[] | null | undefined;
  min_tokens?: number | null | undefined;
  ignore_eos?: boolean | null | undefined;
  stop_token_ids?: number[] | null | undefined;
  include_stop_str_in_output?: boolean | null | undefined;
}

/** A nucleus of this size holds the likeliest token only; top_p 0 means the same. */
const LEAST_TOP_P = 1e-6;

function seedOf(seed: number | null | undefined): bigint {
  return seed === null || seed === undefined ? randomBytes(8).readBigUInt64LE() : BigInt.asUintN(64, BigInt(seed));
}

function logitBias(assets: Assets, bias: Record<string, number> | null | undefined): Map<number, number> {
  const map = new Map(Object.entries(bias ?? {}).map(([id, value]) => [Number(id), value]));
  checkTokenIds(assets, map.keys(), 'logit_bias');
  return map;
}

/**
 * Sampling parameters of a request. What it does not give comes from the checkpoint's generation_config.json where
 * `useDefaults`, else is neutral. The seed is drawn here when there is none, so that a resumed stream has the same.
 * @param topLogprobs alternatives per token; -1 for no log-probabilities.
 */
export function samplingParams(
  assets: Assets,
  input: SamplingInput,
  useDefaults: boolean,
  topLogprobs: number,
): router.SamplingParams {
  const defaults = useDefaults ? assets.generation : null;
  const topK = input.top_k ?? defaults?.topK ?? 0;
  return {
    temperature: input.temperature ?? defaults?.temperature ?? 1,
    topP: Math.max(input.top_p ?? defaults?.topP ?? 1, LEAST_TOP_P),
    topK: topK <= 0 || topK >= assets.tokenizer.size ? 0 : topK,
    minP: input.min_p ?? defaults?.minP ?? 0,
    repetitionPenalty: input.repetition_penalty ?? defaults?.repetitionPenalty ?? 1,
    presencePenalty: input.presence_penalty ?? 0,
    frequencyPenalty: input.frequency_penalty ?? 0,
    seed: seedOf(input.seed),
    logitBias: logitBias(assets, input.logit_bias),
    topLogprobs,
  };
}

/** Stop conditions of a request. Throws `invalid_value` for token ids outside the vocabulary and for min_tokens over `maxTokens`. */
export function stopConditions(assets: Assets, input: StopInput, maxTokens: number): router.StopConditions {
  const stopTokenIds = [...new Set(input.stop_token_ids ?? [])];
  checkTokenIds(assets, stopTokenIds, 'stop_token_ids');
  const minTokens = input.min_tokens ?? 0;
  if (minTokens > maxTokens) {
    throw fail('invalid_value', `min_tokens: ${minTokens} is more than the ${maxTokens} tokens that may be generated`, {
      field: 'min_tokens',
    });
  }
  const stop = input.stop ?? [];
  return {
    maxTokens,
    minTokens,
    stopStrings: [...new Set(typeof stop === 'string' ? [stop] : stop)],
    stopTokenIds,
    ignoreEos: input.ignore_eos ?? false,
    includeStop: input.include_stop_str_in_output ?? false,
  };
}
