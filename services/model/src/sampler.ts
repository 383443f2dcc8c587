import type { SamplerParams } from '@guildhall/native';

/** Sampling of one choice. What is left out takes its default: plain sampling from the whole distribution. */
export interface SamplingOptions {
  /** 0 takes the most probable token. */
  temperature?: number;
  /** 0 means all. */
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  seed: bigint;
  /** Number of the choice within its request; part of the random key. */
  choice?: number;
  logitBias?: ReadonlyMap<number, number>;
  /** Ids that end the answer; they cannot be sampled before `minTokens`. */
  stopIds?: readonly number[];
  minTokens?: number;
  /** -1 none, 0 the sampled token's, n its n best alternatives. */
  topLogprobs?: number;
}

/** Options of the native sampler, defaults filled in. */
export function samplerParams(options: SamplingOptions): SamplerParams {
  const bias = [...(options.logitBias ?? [])];
  return {
    temperature: options.temperature ?? 1,
    topK: options.topK ?? 0,
    topP: options.topP ?? 1,
    minP: options.minP ?? 0,
    repetitionPenalty: options.repetitionPenalty ?? 1,
    presencePenalty: options.presencePenalty ?? 0,
    frequencyPenalty: options.frequencyPenalty ?? 0,
    seed: BigInt.asUintN(64, options.seed),
    choice: options.choice ?? 0,
    biasIds: Int32Array.from(bias, ([id]) => id),
    biasValues: Float32Array.from(bias, ([, value]) => value),
    stopIds: Int32Array.from(options.stopIds ?? []),
    minTokens: options.minTokens ?? 0,
    topLogprobs: options.topLogprobs ?? -1,
  };
}
