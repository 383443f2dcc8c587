/**
 * Hyper-parameters of published checkpoints as their config.json says them, for planning without a checkpoint at hand.
 * The text model only. Sources: the configs of the Qwen repositories of the hub as maxtext keeps them
 * (src/maxtext/checkpoint_conversion/utils/hf_model_configs.py), and for the 122B its model card.
 */

/** What all members of a generation have alike. */
const COMMON = {
  hidden_act: 'silu',
  attention_bias: false,
  dtype: 'bfloat16',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 262_144,
  mlp_only_layers: [],
};

interface Hybrid {
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  linear_num_value_heads: number;
  num_experts: number;
  num_experts_per_tok: number;
  /** Width of routed and shared experts, which is the same. */
  width: number;
}

const DELTA_NET = {
  num_key_value_heads: 2,
  head_dim: 256,
  linear_num_key_heads: 16,
  linear_key_head_dim: 128,
  linear_value_head_dim: 128,
  linear_conv_kernel_dim: 4,
  full_attention_interval: 4,
};

function qwen35({ width, ...text }: Hybrid): Record<string, unknown> {
  return {
    model_type: 'qwen3_5_moe',
    tie_word_embeddings: false,
    text_config: {
      model_type: 'qwen3_5_moe_text',
      ...COMMON,
      ...DELTA_NET,
      ...text,
      attn_output_gate: true,
      vocab_size: 248_320,
      moe_intermediate_size: width,
      shared_expert_intermediate_size: width,
      mtp_num_hidden_layers: 1,
      eos_token_id: 248_044,
      rope_parameters: {
        rope_type: 'default',
        rope_theta: 1e7,
        partial_rotary_factor: 0.25,
        mrope_section: [11, 11, 10],
        mrope_interleaved: true,
      },
    },
  };
}

function qwen3(text: Record<string, unknown>): Record<string, unknown> {
  return {
    model_type: 'qwen3_moe',
    ...COMMON,
    num_key_value_heads: 4,
    head_dim: 128,
    num_experts: 128,
    num_experts_per_tok: 8,
    vocab_size: 151_936,
    norm_topk_prob: true,
    decoder_sparse_step: 1,
    tie_word_embeddings: false,
    eos_token_id: 151_645,
    ...text,
  };
}

/** Contents of config.json by the name of a checkpoint, in lower case. */
export const PUBLISHED: Readonly<Record<string, Record<string, unknown>>> = {
  'qwen3.5-397b-a17b': qwen35({
    hidden_size: 4096,
    num_hidden_layers: 60,
    num_attention_heads: 32,
    linear_num_value_heads: 64,
    num_experts: 512,
    num_experts_per_tok: 10,
    width: 1024,
  }),
  'qwen3.5-122b-a10b': qwen35({
    hidden_size: 3072,
    num_hidden_layers: 48,
    num_attention_heads: 32,
    linear_num_value_heads: 64,
    num_experts: 256,
    num_experts_per_tok: 8,
    width: 1024,
  }),
  'qwen3.5-35b-a3b': qwen35({
    hidden_size: 2048,
    num_hidden_layers: 40,
    num_attention_heads: 16,
    linear_num_value_heads: 32,
    num_experts: 256,
    num_experts_per_tok: 8,
    width: 512,
  }),
  'qwen3-next-80b-a3b': {
    model_type: 'qwen3_next',
    ...COMMON,
    ...DELTA_NET,
    hidden_size: 2048,
    num_hidden_layers: 48,
    num_attention_heads: 16,
    linear_num_value_heads: 32,
    num_experts: 512,
    num_experts_per_tok: 10,
    moe_intermediate_size: 512,
    shared_expert_intermediate_size: 512,
    vocab_size: 151_936,
    norm_topk_prob: true,
    rope_theta: 1e7,
    partial_rotary_factor: 0.25,
    tie_word_embeddings: false,
    eos_token_id: 151_645,
  },
  'qwen3-30b-a3b-2507': qwen3({
    hidden_size: 2048,
    num_hidden_layers: 48,
    num_attention_heads: 32,
    moe_intermediate_size: 768,
    rope_theta: 1e7,
  }),
  'qwen3-235b-a22b-2507': qwen3({
    hidden_size: 4096,
    num_hidden_layers: 94,
    num_attention_heads: 64,
    moe_intermediate_size: 1536,
    rope_theta: 5e6,
  }),
};
