import type { SequenceSpec } from './sequence.ts';

/** What a sequence is to generate: greedy, up to `maxTokens` tokens, nothing else asked for. */
export function plainSpec(promptIds: Int32Array, maxTokens: number): SequenceSpec {
  return {
    requestId: 'request',
    choice: 0,
    priority: 0,
    promptIds,
    generatedIds: new Int32Array(0),
    sampler: {
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      seed: 0n,
      choice: 0,
      biasIds: new Int32Array(0),
      biasValues: new Float32Array(0),
      stopIds: new Int32Array(0),
      minTokens: 0,
      topLogprobs: -1,
    },
    stop: { maxTokens, minTokens: 0, stopStrings: [], stopIds: [] },
    thinking: null,
    deadlineAtMs: null,
    promptLogprobs: false,
    tenant: '',
    cacheSalt: '',
    traceparent: null,
    holder: null,
    moved: null,
  };
}
