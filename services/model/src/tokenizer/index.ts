// Entry '@guildhall/model/tokenizer': text in and out of token ids, without the native addon.
export { loadModelConfig, numFullLayers, numLinearLayers, type ModelConfig } from '../config.ts';
export { ChatTemplate, type ChatMessage, type RenderInput } from './chat-template.ts';
export { IncrementalDetokenizer } from './detokenizer.ts';
export { loadGenerationConfig, type GenerationConfig } from './generation-config.ts';
export { MAX_UNCUT, PIECE_LENGTH } from './text-pieces.ts';
export { type EncodeOptions, Tokenizer, tokenizerSize } from './tokenizer.ts';
