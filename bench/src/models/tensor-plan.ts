import type { HybridConfig, TextConfig } from './specs.ts';

/** How a tensor is filled. Matrices are normal with deviation 1/sqrt(inputs), so that activations keep their size. */
export interface TensorPlan {
  name: string;
  shape: number[];
  dtype: 'BF16' | 'F32';
  mean: number;
  deviation: number;
}

function matrix(name: string, shape: number[]): TensorPlan {
  return { name, shape, dtype: 'BF16', mean: 0, deviation: 1 / Math.sqrt(shape.at(-1) ?? 1) };
}

function vector(name: string, size: number, mean: number, deviation = 0.1): TensorPlan {
  return { name, shape: [size], dtype: 'BF16', mean, deviation };
}

/** Tensors of the hybrid, under the names of the published Qwen3.5 checkpoints: experts fused, norms around zero. */
export function hybridTensors(config: HybridConfig): TensorPlan[] {
  const { hidden_size: hidden } = config;
  const prefix = 'model.language_model.';
  const tensors = [embedding(`${prefix}embed_tokens.weight`, config)];
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `${prefix}layers.${i}.`;
    const full = (i + 1) % config.full_attention_interval === 0;
    tensors.push(vector(`${layer}input_layernorm.weight`, hidden, 0));
    tensors.push(vector(`${layer}post_attention_layernorm.weight`, hidden, 0));
    tensors.push(...(full ? attention(`${layer}self_attn.`, config, true) : deltaNet(`${layer}linear_attn.`, config)));
    tensors.push(...fusedExperts(`${layer}mlp.`, config), ...sharedExpert(`${layer}mlp.`, config));
  }
  return [...tensors, vector(`${prefix}norm.weight`, hidden, 0), head(config)];
}

/** Tensors of the full-attention twin, under the names of the published Qwen3-MoE checkpoints: one by one, plain norms. */
export function twinTensors(config: TextConfig): TensorPlan[] {
  const { hidden_size: hidden } = config;
  const tensors = [embedding('model.embed_tokens.weight', config)];
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `model.layers.${i}.`;
    tensors.push(vector(`${layer}input_layernorm.weight`, hidden, 1));
    tensors.push(vector(`${layer}post_attention_layernorm.weight`, hidden, 1));
    tensors.push(...attention(`${layer}self_attn.`, config, false), ...separateExperts(`${layer}mlp.`, config));
  }
  return [...tensors, vector('model.norm.weight', hidden, 1), head(config)];
}

function embedding(name: string, config: TextConfig): TensorPlan {
  return { name, shape: [config.vocab_size, config.hidden_size], dtype: 'BF16', mean: 0, deviation: 1 };
}

function head(config: TextConfig): TensorPlan {
  return matrix('lm_head.weight', [config.vocab_size, config.hidden_size]);
}

function attention(prefix: string, config: TextConfig, gate: boolean): TensorPlan[] {
  const { hidden_size: hidden, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: dim } = config;
  const mean = gate ? 0 : 1;
  return [
    matrix(`${prefix}q_proj.weight`, [heads * dim * (gate ? 2 : 1), hidden]),
    matrix(`${prefix}k_proj.weight`, [kvHeads * dim, hidden]),
    matrix(`${prefix}v_proj.weight`, [kvHeads * dim, hidden]),
    matrix(`${prefix}o_proj.weight`, [hidden, heads * dim]),
    vector(`${prefix}q_norm.weight`, dim, mean),
    vector(`${prefix}k_norm.weight`, dim, mean),
  ];
}

function deltaNet(prefix: string, config: HybridConfig): TensorPlan[] {
  const { hidden_size: hidden, linear_num_value_heads: valueHeads, linear_conv_kernel_dim: kernel } = config;
  const keyDim = config.linear_num_key_heads * config.linear_key_head_dim;
  const valueDim = valueHeads * config.linear_value_head_dim;
  const channels = 2 * keyDim + valueDim;
  return [
    matrix(`${prefix}in_proj_qkv.weight`, [channels, hidden]),
    matrix(`${prefix}in_proj_z.weight`, [valueDim, hidden]),
    matrix(`${prefix}in_proj_b.weight`, [valueHeads, hidden]),
    matrix(`${prefix}in_proj_a.weight`, [valueHeads, hidden]),
    matrix(`${prefix}conv1d.weight`, [channels, 1, kernel]),
    vector(`${prefix}dt_bias`, valueHeads, -1, 1),
    // Decays between a few tokens and a few hundred, as in trained models.
    { name: `${prefix}A_log`, shape: [valueHeads], dtype: 'F32', mean: -1.5, deviation: 1 },
    { name: `${prefix}norm.weight`, shape: [config.linear_value_head_dim], dtype: 'F32', mean: 1, deviation: 0.1 },
    matrix(`${prefix}out_proj.weight`, [hidden, valueDim]),
  ];
}

function fusedExperts(prefix: string, config: TextConfig): TensorPlan[] {
  const { hidden_size: hidden, num_experts: experts, moe_intermediate_size: width } = config;
  return [
    matrix(`${prefix}gate.weight`, [experts, hidden]),
    matrix(`${prefix}experts.gate_up_proj`, [experts, 2 * width, hidden]),
    matrix(`${prefix}experts.down_proj`, [experts, hidden, width]),
  ];
}

function separateExperts(prefix: string, config: TextConfig): TensorPlan[] {
  const { hidden_size: hidden, num_experts: experts, moe_intermediate_size: width } = config;
  const tensors = [matrix(`${prefix}gate.weight`, [experts, hidden])];
  for (let e = 0; e < experts; e++) {
    tensors.push(matrix(`${prefix}experts.${e}.gate_proj.weight`, [width, hidden]));
    tensors.push(matrix(`${prefix}experts.${e}.up_proj.weight`, [width, hidden]));
    tensors.push(matrix(`${prefix}experts.${e}.down_proj.weight`, [hidden, width]));
  }
  return tensors;
}

function sharedExpert(prefix: string, config: HybridConfig): TensorPlan[] {
  const { hidden_size: hidden, shared_expert_intermediate_size: width } = config;
  return [
    matrix(`${prefix}shared_expert.gate_proj.weight`, [width, hidden]),
    matrix(`${prefix}shared_expert.up_proj.weight`, [width, hidden]),
    matrix(`${prefix}shared_expert.down_proj.weight`, [hidden, width]),
    matrix(`${prefix}shared_expert_gate.weight`, [1, hidden]),
  ];
}
