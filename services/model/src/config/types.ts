/** Model families that the loader knows. Text-only exports share the family of the full model. */
export type ModelFamily = 'qwen3_5_moe' | 'qwen3_next' | 'qwen3_moe';

export type LayerType = 'linear_attention' | 'full_attention';

/** An RMS norm: `x * rsqrt(mean(x^2) + eps)` times `w`, or times `1 + w` where it is zero-centred. */
export interface NormConfig {
  eps: number;
  zeroCentered: boolean;
}

/** Rotary embedding of the leading `rotaryDim` dimensions of a head. */
export interface RopeConfig {
  theta: number;
  rotaryDim: number;
  /** [rotaryDim/2] radians per position, YaRN already applied. */
  invFreq: Float32Array;
  /** [rotaryDim/2] position axis of each frequency: 0 temporal, 1 height, 2 width. */
  freqAxis: Int32Array;
  /** Positions that the frequencies are made for. */
  positions: number;
  /** Factor on cos and sin; 1 unless YaRN asks for another. */
  scale: number;
}

/** Full-attention layers. */
export interface AttentionConfig {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  /** `q_proj` holds a gate beside each query head. */
  outputGate: boolean;
  rope: RopeConfig;
}

/** Gated DeltaNet layers. */
export interface LinearAttentionConfig {
  numKeyHeads: number;
  numValueHeads: number;
  keyHeadDim: number;
  valueHeadDim: number;
  convKernel: number;
  /** numKeyHeads * keyHeadDim. */
  keyDim: number;
  /** numValueHeads * valueHeadDim. */
  valueDim: number;
  /** 2 * keyDim + valueDim. */
  convDim: number;
}

/** Mixture of experts, the same in every layer. */
export interface MoeConfig {
  numExperts: number;
  topK: number;
  /** Width of a routed expert. */
  intermediate: number;
  /** Divide the chosen probabilities by their sum. */
  normTopk: boolean;
  /** Width of the shared expert; null without one. */
  sharedIntermediate: number | null;
}

/** What of the vision side matters to text: which ids stand for media. */
export interface VisionConfig {
  imageTokenId: number | null;
  videoTokenId: number | null;
  visionStartTokenId: number | null;
  visionEndTokenId: number | null;
}

/** Everything that config.json says about the text model, checked and without defaults left open. */
export interface ModelConfig {
  /** Path of the file it came from. */
  file: string;
  family: ModelFamily;
  /** `model_type` as stored. */
  modelType: string;
  hidden: number;
  vocab: number;
  numLayers: number;
  /** [numLayers]. */
  layerTypes: LayerType[];
  norm: NormConfig;
  attention: AttentionConfig;
  /** Null in models without DeltaNet layers. */
  linear: LinearAttentionConfig | null;
  moe: MoeConfig;
  /** Null when the file does not say: then the presence of `lm_head.weight` decides. */
  tieWordEmbeddings: boolean | null;
  /** Positions that the model is made for: `max_position_embeddings`, or what YaRN makes of it. */
  maxPositionEmbeddings: number;
  /** `eos_token_id` of the text config and the top level. */
  eosIds: number[];
  /** Weights may be FP8 with 128x128 block scales. */
  fp8: boolean;
  vision: VisionConfig | null;
  /** Multi-token-prediction layers that the file announces. */
  numMtpLayers: number;
  /** The raw text config, for the fingerprint. */
  textConfig: Record<string, unknown>;
  /** What was set aside or read differently than written. */
  notices: string[];
}

/** Full-attention layers: layers of the KV pool. */
export function numFullLayers(config: ModelConfig): number {
  return config.layerTypes.filter((type) => type === 'full_attention').length;
}

/** DeltaNet layers: layers of the state pool. */
export function numLinearLayers(config: ModelConfig): number {
  return config.layerTypes.length - numFullLayers(config);
}
