import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isGuildhallError } from '@guildhall/common';
import { parseModelConfig } from '@guildhall/model';
import { router } from '@guildhall/proto';
import fc from 'fast-check';
import { type RequestLimits, toSpec } from './validate.ts';

const LIMITS: RequestLimits = {
  servedModels: ['tiny', 'alias'],
  numericsId: 'class-1',
  tokenizerSize: 100,
  maxContext: 50,
  eosIds: [90, 91],
};

function request(
  given: Partial<router.GenerateRequest> = {},
  sampling: Partial<router.SamplingParams> = {},
  stop: Partial<router.StopConditions> = {},
): router.GenerateRequest {
  return {
    ...router.GenerateRequest.create(),
    requestId: 'r',
    model: 'alias',
    promptIds: [1, 2, 3],
    ...given,
    sampling: { ...router.SamplingParams.create(), topP: 1, repetitionPenalty: 1, ...sampling },
    stop: { ...router.StopConditions.create(), maxTokens: 10, ...stop },
  };
}

test('a YaRN variant of tiny takes a prompt beyond the original context, and refuses one beyond its own', () => {
  const file = join(import.meta.dirname, '../../../../models/tiny/config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as { text_config: { rope_parameters: object } };
  const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 262_144 };
  Object.assign(config.text_config.rope_parameters, yarn);
  Object.assign(config.text_config, { max_position_embeddings: 1_010_000 });
  const { maxPositionEmbeddings } = parseModelConfig('config.json', config);
  const limits = { ...LIMITS, maxContext: maxPositionEmbeddings };
  const prompt = (length: number): number[] => Array.from({ length }, (_, i) => i % 100);
  assert.equal(toSpec(request({ promptIds: prompt(300_000) }), limits, 0).promptIds.length, 300_000);
  assert.equal(toSpec(request({ promptIds: prompt(1_009_999) }), limits, 0).stop.maxTokens, 1);
  assert.throws(() => toSpec(request({ promptIds: prompt(1_010_000) }), limits, 0), {
    code: 'context_length_exceeded',
    field: 'prompt_ids',
    message: /1010000 prompt tokens .* context of 1010000/,
  });
});

test('a good request is taken as it is', () => {
  const spec = toSpec(
    request(
      {
        deadlineMs: 500,
        choice: 2,
        priority: -1,
        tenant: 't'.repeat(128),
        cacheSalt: 's'.repeat(256),
        traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
      },
      {
        seed: 7n,
        logitBias: new Map([
          [9, 1.5],
          [3, -2],
        ]),
        topLogprobs: 4,
      },
      { stopTokenIds: [5, 90], stopStrings: ['x', 'x'] },
    ),
    LIMITS,
    1000,
  );
  assert.equal(spec.deadlineAtMs, 1500);
  assert.deepEqual(spec.stop, { maxTokens: 10, minTokens: 0, stopStrings: ['x'], stopIds: [90, 91, 5] });
  assert.deepEqual([...spec.sampler.biasIds], [3, 9]);
  assert.deepEqual([...spec.sampler.biasValues], [-2, 1.5]);
  assert.equal(spec.sampler.choice, 2);
  assert.equal(spec.tenant, 't'.repeat(128));
  assert.equal(spec.cacheSalt, 's'.repeat(256));
  assert.equal(spec.traceparent?.length, 55);
});

test('the answer is cut to the context, and ignore_eos leaves the own stop ids', () => {
  const spec = toSpec(request({}, {}, { maxTokens: 1000, ignoreEos: true, stopTokenIds: [8] }), LIMITS, 0);
  assert.equal(spec.stop.maxTokens, 47);
  assert.deepEqual(spec.stop.stopIds, [8]);
  assert.equal(spec.deadlineAtMs, null);
});

const long = (length: number): number[] => Array.from({ length }, () => 1);
const refusals: [string, router.GenerateRequest, string, string][] = [
  ['no sampling', { ...request(), sampling: undefined }, 'missing_field', 'sampling'],
  ['no stop', { ...request(), stop: undefined }, 'missing_field', 'stop'],
  ['no id', request({ requestId: '' }), 'missing_field', 'request_id'],
  ['a long id', request({ requestId: 'x'.repeat(300) }), 'invalid_value', 'request_id'],
  ['a long tenant', request({ tenant: 'x'.repeat(129) }), 'invalid_value', 'tenant'],
  ['a long salt', request({ cacheSalt: 'x'.repeat(257) }), 'invalid_value', 'cache_salt'],
  ['a huge choice', request({ choice: 1 << 20 }), 'invalid_value', 'choice'],
  ['another model', request({ model: 'gpt' }), 'model_not_found', 'model'],
  ['another class', request({ numericsId: 'class-2' }), 'numerics_mismatch', 'numerics_id'],
  ['a resume without a class', request({ generatedIds: [1] }), 'missing_field', 'numerics_id'],
  ['an empty prompt', request({ promptIds: [] }), 'missing_field', 'prompt_ids'],
  ['an id past the tokenizer', request({ promptIds: [1, 100] }), 'invalid_value', 'prompt_ids[1]'],
  [
    'a generated id past it',
    request({ numericsId: 'class-1', generatedIds: [100] }),
    'invalid_value',
    'generated_ids[0]',
  ],
  ['a prompt as long as the context', request({ promptIds: long(50) }), 'context_length_exceeded', 'prompt_ids'],
  [
    'a resume past it',
    request({ numericsId: 'class-1', generatedIds: long(48) }),
    'context_length_exceeded',
    'prompt_ids',
  ],
  ['min over max', request({}, {}, { minTokens: 11 }), 'invalid_value', 'stop.min_tokens'],
  [
    '65 stop strings',
    request({}, {}, { stopStrings: Array.from({ length: 65 }, (_, i) => `${i}`) }),
    'invalid_value',
    'stop.stop_strings',
  ],
  ['an empty stop string', request({}, {}, { stopStrings: ['a', ''] }), 'invalid_value', 'stop.stop_strings[1]'],
  ['a long stop string', request({}, {}, { stopStrings: ['é'.repeat(600)] }), 'invalid_value', 'stop.stop_strings[0]'],
  ['257 stop ids', request({}, {}, { stopTokenIds: long(257) }), 'invalid_value', 'stop.stop_token_ids'],
  ['a stop id past the tokenizer', request({}, {}, { stopTokenIds: [100] }), 'invalid_value', 'stop.stop_token_ids[0]'],
  ['a negative temperature', request({}, { temperature: -0.1 }), 'invalid_value', 'sampling.temperature'],
  [
    'a temperature that is no number',
    request({}, { temperature: Number.NaN }),
    'invalid_value',
    'sampling.temperature',
  ],
  ['top_p of 0', request({}, { topP: 0 }), 'invalid_value', 'sampling.top_p'],
  ['min_p over 1', request({}, { minP: 1.1 }), 'invalid_value', 'sampling.min_p'],
  ['a huge top_k', request({}, { topK: 4_000_000_000 }), 'invalid_value', 'sampling.top_k'],
  ['no repetition penalty', request({}, { repetitionPenalty: 0 }), 'invalid_value', 'sampling.repetition_penalty'],
  ['a huge presence penalty', request({}, { presencePenalty: 3 }), 'invalid_value', 'sampling.presence_penalty'],
  [
    'a huge frequency penalty',
    request({}, { frequencyPenalty: -Infinity }),
    'invalid_value',
    'sampling.frequency_penalty',
  ],
  [
    '1025 biases',
    request({}, { logitBias: new Map(Array.from({ length: 1025 }, (_, i) => [i, 1])) }),
    'invalid_value',
    'sampling.logit_bias',
  ],
  ['a huge bias', request({}, { logitBias: new Map([[4, 101]]) }), 'invalid_value', 'sampling.logit_bias[4]'],
  [
    'a bias past the tokenizer',
    request({}, { logitBias: new Map([[100, 1]]) }),
    'invalid_value',
    'sampling.logit_bias[0]',
  ],
  [
    'a think block closed by nothing',
    request({ thinking: { tokens: 1, endIds: [] } }),
    'invalid_value',
    'thinking.end_ids',
  ],
  [
    '1025 tokens that close',
    request({ thinking: { tokens: 1, endIds: long(1025) } }),
    'invalid_value',
    'thinking.end_ids',
  ],
  [
    'an end past the tokenizer',
    request({ thinking: { tokens: 1, endIds: [100] } }),
    'invalid_value',
    'thinking.end_ids[0]',
  ],
  ['21 alternatives', request({}, { topLogprobs: 21 }), 'invalid_value', 'sampling.top_logprobs'],
  ['-2 alternatives', request({}, { topLogprobs: -2 }), 'invalid_value', 'sampling.top_logprobs'],
];

for (const [what, bad, code, field] of refusals) {
  test(`refused: ${what}`, () => {
    assert.throws(() => toSpec(bad, LIMITS, 0), { code, field });
  });
}

test('a prompt whose log-probabilities would fill memory is refused', () => {
  const wide = { ...LIMITS, maxContext: 262_144 };
  const bad = request({ promptIds: long(20_000), promptLogprobs: true }, { topLogprobs: 20 });
  assert.throws(() => toSpec(bad, wide, 0), { code: 'invalid_value', field: 'prompt_logprobs' });
});

test('a broken traceparent is passed over', () => {
  assert.equal(toSpec(request({ traceparent: 'nonsense' }), LIMITS, 0).traceparent, null);
});

test('property: any decodable message is taken or refused with a code and a field', () => {
  const ids = fc.array(fc.nat(0xffffffff), { maxLength: 60 });
  const float = fc.float();
  const any = fc.record({
    given: fc.record({
      promptIds: ids,
      generatedIds: ids,
      choice: fc.nat(0xffffffff),
      numericsId: fc.constantFrom('', 'class-1'),
    }),
    sampling: fc.record({
      temperature: float,
      topP: float,
      minP: float,
      repetitionPenalty: float,
      presencePenalty: float,
      frequencyPenalty: float,
      topLogprobs: fc.integer(),
      topK: fc.nat(0xffffffff),
    }),
    stop: fc.record({
      maxTokens: fc.nat(0xffffffff),
      minTokens: fc.nat(0xffffffff),
      stopStrings: fc.array(fc.string()),
      stopTokenIds: ids,
    }),
  });
  fc.assert(
    fc.property(any, ({ given, sampling, stop }) => {
      const bytes = router.GenerateRequest.encode(request(given, sampling, stop)).finish();
      try {
        const spec = toSpec(router.GenerateRequest.decode(bytes), LIMITS, 0);
        assert.ok(spec.promptIds.length + spec.stop.maxTokens <= LIMITS.maxContext);
        assert.ok(spec.promptIds.every((id) => id < 100));
      } catch (err) {
        assert.ok(isGuildhallError(err) && err.field !== null, String(err));
      }
    }),
    { numRuns: 500 },
  );
});
