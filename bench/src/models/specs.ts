import type { TensorPlan } from './tensor-plan.ts';
import { hybridTensors, twinTensors } from './tensor-plan.ts';

/** The two bench models: the hybrid of DeltaNet and attention layers, and its twin with full attention everywhere. */
export const MODEL_NAMES = ['qwen35moe', 'qwen3moe'] as const;
export type ModelName = (typeof MODEL_NAMES)[number];

/**
 * `bench` is what figures are quoted for (3.7 GB in BF16); `multilingual` is the same with as many tokens as Qwen3.5 has
 * (4.6 GB); `small` (a few MB) lets tests and first tries be quick.
 */
export const MODEL_SIZES = ['bench', 'multilingual', 'small'] as const;
export type ModelSize = (typeof MODEL_SIZES)[number];

/** Hyper-parameters as config.json names them. */
export interface TextConfig {
  model_type: string;
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  vocab_size: number;
  rms_norm_eps: number;
  hidden_act: 'silu';
  max_position_embeddings: number;
  moe_intermediate_size: number;
  num_experts: number;
  num_experts_per_tok: number;
  rope_theta: number;
}

/** The hyper-parameters that only the hybrid has. */
export interface HybridConfig extends TextConfig {
  linear_num_key_heads: number;
  linear_num_value_heads: number;
  linear_key_head_dim: number;
  linear_value_head_dim: number;
  linear_conv_kernel_dim: number;
  full_attention_interval: number;
  shared_expert_intermediate_size: number;
  /** Leading dimensions of a head that are rotated, and how they are split between the three position axes. */
  rotaryDim: number;
  sections: [number, number, number];
}

/** Everything that defines one bench model. */
export interface ModelSpec {
  name: ModelName;
  size: ModelSize;
  text: TextConfig;
  hybrid: HybridConfig | null;
  /** Contents of config.json. */
  config: Record<string, unknown>;
  /** Every tensor, in the order in which it lies in the file. */
  tensors: TensorPlan[];
}

const BENCH = {
  hidden_size: 1024,
  num_hidden_layers: 16,
  num_attention_heads: 16,
  num_key_value_heads: 2,
  vocab_size: 32000,
  moe_intermediate_size: 512,
  num_experts: 64,
  num_experts_per_tok: 8,
};

/** Size of Qwen3.5's vocabulary, padding included. */
const MULTILINGUAL = { ...BENCH, vocab_size: 248_320 };

const SMALL = {
  hidden_size: 256,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 4096,
  moe_intermediate_size: 64,
  num_experts: 8,
  num_experts_per_tok: 2,
};

const COMMON = { rms_norm_eps: 1e-6, hidden_act: 'silu', max_position_embeddings: 262144, rope_theta: 1e7 } as const;

const BASE = { bench: BENCH, multilingual: MULTILINGUAL, small: SMALL } as const;

/** The spec of a bench model. */
export function modelSpec(name: ModelName, size: ModelSize): ModelSpec {
  return name === 'qwen35moe' ? hybridSpec(size) : twinSpec(size);
}

function hybridSpec(size: ModelSize): ModelSpec {
  const bench = size !== 'small';
  const hybrid: HybridConfig = {
    model_type: 'qwen3_5_moe_text',
    ...BASE[size],
    ...COMMON,
    head_dim: bench ? 256 : 64,
    linear_num_key_heads: bench ? 8 : 2,
    linear_num_value_heads: bench ? 16 : 4,
    linear_key_head_dim: 128,
    linear_value_head_dim: 128,
    linear_conv_kernel_dim: 4,
    full_attention_interval: 4,
    shared_expert_intermediate_size: bench ? 512 : 64,
    rotaryDim: bench ? 64 : 16,
    sections: bench ? [11, 11, 10] : [3, 3, 2],
  };
  return {
    name: 'qwen35moe',
    size,
    text: hybrid,
    hybrid,
    config: hybridConfig(hybrid),
    tensors: hybridTensors(hybrid),
  };
}

function hybridConfig(hybrid: HybridConfig): Record<string, unknown> {
  const { rotaryDim, sections, rope_theta, ...text } = hybrid;
  const rope_parameters = {
    rope_type: 'default',
    rope_theta,
    partial_rotary_factor: rotaryDim / hybrid.head_dim,
    mrope_section: sections,
    mrope_interleaved: true,
  };
  return {
    architectures: ['Qwen3_5MoeForConditionalGeneration'],
    model_type: 'qwen3_5_moe',
    tie_word_embeddings: false,
    text_config: { ...text, attn_output_gate: true, dtype: 'bfloat16', mlp_only_layers: [], rope_parameters },
  };
}

function twinSpec(size: ModelSize): ModelSpec {
  const bench = size !== 'small';
  const text: TextConfig = {
    model_type: 'qwen3_moe',
    ...BASE[size],
    ...COMMON,
    head_dim: bench ? 128 : 64,
  };
  const config = {
    architectures: ['Qwen3MoeForCausalLM'],
    ...text,
    dtype: 'bfloat16',
    tie_word_embeddings: false,
    norm_topk_prob: true,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
  };
  return { name: 'qwen3moe', size, text, hybrid: null, config, tensors: twinTensors(text) };
}
