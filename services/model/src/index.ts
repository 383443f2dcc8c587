// Entry '@guildhall/model': everything, with the native blocks.
export * from './weights/index.ts';
export {
  ChatTemplate,
  IncrementalDetokenizer,
  loadGenerationConfig,
  Tokenizer,
  tokenizerSize,
  type ChatMessage,
  type GenerationConfig,
  type RenderInput,
} from './tokenizer/index.ts';
export type { DispatchHandle, ExpertDispatch, StepContext } from './moe/expert-dispatch.ts';
export { DEFAULT_MAX_MESSAGE_BYTES, LocalExperts, type LocalExpertsOptions } from './moe/local-experts.ts';
export { planMessages, type PlanInput, type RowMessage } from './moe/plan.ts';
export type { ModelPools } from './models/definition.ts';
export { TextModel, type ForwardOptions, type LoadOptions } from './models/text-model.ts';
export { samplerParams, type SamplingOptions } from './sampler.ts';
