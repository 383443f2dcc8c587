import {
  errorMessage,
  fail,
  type GuildhallError,
  MAX_SALT_LENGTH,
  parseHostPort,
  parseTraceparent,
} from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { SequenceSpec } from '../sequence.ts';

/** What requests are checked against. */
export interface RequestLimits {
  servedModels: readonly string[];
  numericsId: string;
  /** Ids at or above are not tokens. */
  tokenizerSize: number;
  /** Tokens of prompt and answer together. */
  maxContext: number;
  /** End ids of the checkpoint. */
  eosIds: readonly number[];
}

export const MAX_STOP_STRINGS = 64;
export const MAX_STOP_STRING_BYTES = 1024;
export const MAX_STOP_TOKENS = 256;
export const MAX_LOGIT_BIAS = 1024;
export const MAX_TOP_LOGPROBS = 20;
/** Log-probabilities (prompt tokens times alternatives) that one answer may carry. */
export const MAX_PROMPT_LOGPROBS = 1 << 18;
/** Longest text that closes a think block, tokens. */
export const MAX_END_IDS = 1024;
export const MAX_ID_LENGTH = 256;
/** Longest name of a tenant, characters: it is the client's. */
export const MAX_TENANT_LENGTH = 128;

function refuse(field: string, message: string): GuildhallError {
  return fail('invalid_value', `${field}: ${message}`, { field });
}

function within(field: string, value: number, least: number, most: number): number {
  if (!(value >= least && value <= most)) throw refuse(field, `must be ${least} to ${most}, is ${value}`);
  return value;
}

function tokenIds(field: string, ids: readonly number[], limits: RequestLimits): Int32Array {
  // Up to a million ids: an iterator of pairs would hold the event loop for 50 ms and more.
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index] as number;
    if (!(id < limits.tokenizerSize)) throw refuse(`${field}[${index}]`, `${id} is not below ${limits.tokenizerSize}`);
  }
  return Int32Array.from(ids);
}

/**
 * Checks a request whole and puts it into the engine's terms. Errors name the field as the proto spells it:
 * `missing_field`, `invalid_value`, `model_not_found`, `numerics_mismatch`, `context_length_exceeded`.
 */
export function toSpec(request: router.GenerateRequest, limits: RequestLimits, nowMs: number): SequenceSpec {
  const { sampling, stop } = request;
  if (sampling === undefined) throw fail('missing_field', 'sampling is missing', { field: 'sampling' });
  if (stop === undefined) throw fail('missing_field', 'stop is missing', { field: 'stop' });
  checkIdentity(request, limits);
  const promptIds = tokenIds('prompt_ids', request.promptIds, limits);
  const generatedIds = tokenIds('generated_ids', request.generatedIds, limits);
  if (promptIds.length === 0) throw fail('missing_field', 'prompt_ids is empty', { field: 'prompt_ids' });
  const stopSpec = stopOf(stop, limits, promptIds.length);
  const least = promptIds.length + (stop.maxTokens > 0 ? 1 : 0);
  if (least > limits.maxContext || promptIds.length + generatedIds.length > limits.maxContext) {
    const message = `${promptIds.length} prompt tokens and ${generatedIds.length} generated ones do not fit in a context of ${limits.maxContext}`;
    throw fail('context_length_exceeded', message, { field: 'prompt_ids' });
  }
  const spec: SequenceSpec = {
    requestId: request.requestId,
    choice: request.choice,
    priority: request.priority,
    promptIds,
    generatedIds,
    sampler: samplerOf(sampling, request.choice, stopSpec, limits),
    stop: stopSpec,
    thinking: thinkingOf(request.thinking, limits),
    deadlineAtMs: request.deadlineMs === 0 ? null : nowMs + request.deadlineMs,
    promptLogprobs: request.promptLogprobs,
    tenant: request.tenant,
    cacheSalt: request.cacheSalt,
    traceparent: parseTraceparent(request.traceparent) === null ? null : request.traceparent,
    holder: peerOf('holder', request.holder),
    moved: peerOf('moved', request.moved),
  };
  checkPromptLogprobs(spec);
  return spec;
}

/** Another router that the gateway names; its address is one that can be connected to. */
function peerOf<T extends { routerId: string; address: string }>(field: string, peer: T | undefined): T | null {
  if (peer === undefined) return null;
  within(`${field}.router_id`, peer.routerId.length, 1, MAX_ID_LENGTH);
  within(`${field}.address`, peer.address.length, 1, MAX_ID_LENGTH);
  try {
    parseHostPort(peer.address);
  } catch (err) {
    throw refuse(`${field}.address`, errorMessage(err));
  }
  return peer;
}

function checkIdentity(request: router.GenerateRequest, limits: RequestLimits): void {
  if (request.requestId === '') throw fail('missing_field', 'request_id is empty', { field: 'request_id' });
  within('request_id', request.requestId.length, 1, MAX_ID_LENGTH);
  within('tenant', request.tenant.length, 0, MAX_TENANT_LENGTH);
  // Characters, as gateways count them: the longest take two units.
  const { cacheSalt } = request;
  const salted = cacheSalt.length > 2 * MAX_SALT_LENGTH ? cacheSalt.length : Array.from(cacheSalt).length;
  within('cache_salt', salted, 0, MAX_SALT_LENGTH);
  within('choice', request.choice, 0, 0xffff);
  if (!limits.servedModels.includes(request.model)) {
    const message = `"${request.model.slice(0, MAX_ID_LENGTH)}" is not served here`;
    throw fail('model_not_found', message, { field: 'model' });
  }
  if (request.numericsId !== '' && request.numericsId !== limits.numericsId) {
    const message = `the sequence was begun in ${request.numericsId.slice(0, MAX_ID_LENGTH)}, this router computes in ${limits.numericsId}`;
    throw fail('numerics_mismatch', message, { field: 'numerics_id' });
  }
  if (request.generatedIds.length > 0 && request.numericsId === '') {
    throw fail('missing_field', 'numerics_id is needed to go on from generated_ids', { field: 'numerics_id' });
  }
}

function stopOf(stop: router.StopConditions, limits: RequestLimits, numPrompt: number): SequenceSpec['stop'] {
  within('stop.min_tokens', stop.minTokens, 0, stop.maxTokens);
  if (stop.stopStrings.length > MAX_STOP_STRINGS) {
    throw refuse('stop.stop_strings', `${stop.stopStrings.length} given, at most ${MAX_STOP_STRINGS} are allowed`);
  }
  for (const [index, text] of stop.stopStrings.entries()) {
    const bytes = Buffer.byteLength(text);
    if (bytes < 1 || bytes > MAX_STOP_STRING_BYTES) {
      throw refuse(`stop.stop_strings[${index}]`, `has ${bytes} bytes, 1 to ${MAX_STOP_STRING_BYTES} are allowed`);
    }
  }
  if (stop.stopTokenIds.length > MAX_STOP_TOKENS) {
    throw refuse('stop.stop_token_ids', `${stop.stopTokenIds.length} given, at most ${MAX_STOP_TOKENS} are allowed`);
  }
  const own = tokenIds('stop.stop_token_ids', stop.stopTokenIds, limits);
  return {
    maxTokens: Math.min(stop.maxTokens, limits.maxContext - numPrompt),
    minTokens: stop.minTokens,
    stopStrings: [...new Set(stop.stopStrings)],
    stopIds: [...new Set([...(stop.ignoreEos ? [] : limits.eosIds), ...own])],
  };
}

function thinkingOf(thinking: router.ThinkingBudget | undefined, limits: RequestLimits): SequenceSpec['thinking'] {
  if (thinking === undefined) return null;
  within('thinking.end_ids', thinking.endIds.length, 1, MAX_END_IDS);
  return { tokens: thinking.tokens, endIds: [...tokenIds('thinking.end_ids', thinking.endIds, limits)] };
}

function samplerOf(
  sampling: router.SamplingParams,
  choice: number,
  stop: SequenceSpec['stop'],
  limits: RequestLimits,
): SequenceSpec['sampler'] {
  const { topP, repetitionPenalty } = sampling;
  if (!(topP > 0 && topP <= 1)) throw refuse('sampling.top_p', `must be above 0 and at most 1, is ${topP}`);
  if (!(repetitionPenalty > 0 && repetitionPenalty <= 100)) {
    throw refuse('sampling.repetition_penalty', `must be above 0 and at most 100, is ${repetitionPenalty}`);
  }
  const bias = [...sampling.logitBias].sort(([a], [b]) => a - b);
  if (bias.length > MAX_LOGIT_BIAS) {
    throw refuse('sampling.logit_bias', `${bias.length} entries given, at most ${MAX_LOGIT_BIAS} are allowed`);
  }
  for (const [id, value] of bias) within(`sampling.logit_bias[${id}]`, value, -100, 100);
  return {
    temperature: within('sampling.temperature', sampling.temperature, 0, 100),
    topK: within('sampling.top_k', sampling.topK, 0, 0x7fffffff),
    topP,
    minP: within('sampling.min_p', sampling.minP, 0, 1),
    repetitionPenalty,
    presencePenalty: within('sampling.presence_penalty', sampling.presencePenalty, -2, 2),
    frequencyPenalty: within('sampling.frequency_penalty', sampling.frequencyPenalty, -2, 2),
    seed: sampling.seed,
    choice,
    biasIds: tokenIds(
      'sampling.logit_bias',
      bias.map(([id]) => id),
      limits,
    ),
    biasValues: Float32Array.from(bias, ([, value]) => value),
    stopIds: Int32Array.from(stop.stopIds),
    minTokens: stop.minTokens,
    topLogprobs: within('sampling.top_logprobs', sampling.topLogprobs, -1, MAX_TOP_LOGPROBS),
  };
}

function checkPromptLogprobs(spec: SequenceSpec): void {
  if (!spec.promptLogprobs) return;
  const values = spec.promptIds.length * (1 + Math.max(0, spec.sampler.topLogprobs));
  if (values > MAX_PROMPT_LOGPROBS) {
    throw refuse('prompt_logprobs', `would be ${values} values, at most ${MAX_PROMPT_LOGPROBS} are returned`);
  }
}
