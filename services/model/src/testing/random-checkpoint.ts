import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ModelFamily } from '../config.ts';
import { writeTensors, type RawTensor } from './safetensors-writer.ts';

/** What a random checkpoint looks like. */
export interface CheckpointVariant {
  family?: ModelFamily;
  /** Fields of the text config to change; undefined removes one. */
  text?: Record<string, unknown>;
  /** Fields of the top level to change. */
  top?: Record<string, unknown>;
  /** Flat text-only export. */
  flat?: boolean;
  prefix?: string;
  experts?: 'fused' | 'separate';
  projections?: 'split' | 'grouped';
  /** Matrices as FP8 with block scales. */
  fp8?: boolean;
  mtp?: 'fused' | 'separate' | null;
  vision?: boolean;
  numShards?: number;
  seed?: number;
  /** Last change to the tensors before they are written. */
  edit?: (tensors: RawTensor[]) => RawTensor[];
}

/** Sizes of the random checkpoints: small, none equal to another where a mix-up could hide. */
const SIZES = {
  hidden_size: 32,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 96,
  rms_norm_eps: 1e-6,
  hidden_act: 'silu',
  max_position_embeddings: 4096,
  moe_intermediate_size: 24,
  num_experts: 6,
  num_experts_per_tok: 3,
} as const;

const HYBRID = {
  linear_num_key_heads: 2,
  linear_num_value_heads: 4,
  linear_key_head_dim: 8,
  linear_value_head_dim: 12,
  linear_conv_kernel_dim: 4,
  full_attention_interval: 2,
  shared_expert_intermediate_size: 40,
};

/** A config.json of a family. */
export function randomConfig(variant: CheckpointVariant = {}): Record<string, unknown> {
  const family = variant.family ?? 'qwen3_5_moe';
  if (family === 'qwen3_moe') {
    return {
      model_type: family,
      ...SIZES,
      rope_theta: 10000,
      norm_topk_prob: true,
      eos_token_id: 5,
      ...variant.text,
      ...variant.top,
    };
  }
  if (family === 'qwen3_next') {
    const rope = { rope_theta: 10000, partial_rotary_factor: 0.5, rope_scaling: null };
    return { model_type: family, ...SIZES, ...HYBRID, ...rope, norm_topk_prob: true, ...variant.text, ...variant.top };
  }
  const rope_parameters = {
    rope_type: 'default',
    rope_theta: 10000,
    partial_rotary_factor: 0.5,
    mrope_section: [2, 1, 1],
    mrope_interleaved: true,
  };
  const text = { model_type: 'qwen3_5_moe_text', ...SIZES, ...HYBRID, rope_parameters, ...variant.text };
  if (variant.flat) return { ...text, ...variant.top };
  return { model_type: 'qwen3_5_moe', tie_word_embeddings: false, text_config: text, ...variant.top };
}

/** Numbers from 0 to 1 that depend on the seed only (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Writes tensors of one variant; the names are spelled out here, apart from the code under test. */
class TensorWriter {
  readonly tensors: RawTensor[] = [];
  readonly #random: () => number;
  readonly #fp8: boolean;

  constructor(seed: number, fp8: boolean) {
    this.#random = randomNumbers(seed);
    this.#fp8 = fp8;
  }

  f32(name: string, shape: number[], spread = 0.5, centre = 0): void {
    const count = shape.reduce((a, b) => a * b, 1);
    const values = Float32Array.from({ length: count }, () => centre + spread * (2 * this.#random() - 1));
    this.tensors.push({ name, dtype: 'F32', shape, data: new Uint8Array(values.buffer) });
  }

  bf16(name: string, shape: number[], spread = 0.5, centre = 0): void {
    const count = shape.reduce((a, b) => a * b, 1);
    const values = Float32Array.from({ length: count }, () => centre + spread * (2 * this.#random() - 1));
    const halves = Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
    this.tensors.push({ name, dtype: 'BF16', shape, data: new Uint8Array(halves.buffer) });
  }

  matrix(name: string, shape: number[]): void {
    if (!this.#fp8) {
      this.bf16(name, shape, 0.4);
      return;
    }
    const count = shape.reduce((a, b) => a * b, 1);
    // Exponents up to 7: no NaN code among them, values up to 1.875.
    const data = Uint8Array.from(
      { length: count },
      () => Math.floor(this.#random() * 64) | (this.#random() < 0.5 ? 0x80 : 0),
    );
    this.tensors.push({ name, dtype: 'F8_E4M3', shape, data });
    const blocks = [...shape.slice(0, -2), Math.ceil((shape.at(-2) ?? 1) / 128), Math.ceil((shape.at(-1) ?? 1) / 128)];
    this.bf16(`${name}_scale_inv`, blocks, 0.1, 0.3);
  }
}

/** Tensors of a variant whose config is `config`. */
export function randomTensors(variant: CheckpointVariant, config: Record<string, unknown>): RawTensor[] {
  const family = variant.family ?? 'qwen3_5_moe';
  const text = (config['text_config'] ?? config) as typeof SIZES & typeof HYBRID & { layer_types?: string[] };
  const writer = new TensorWriter(variant.seed ?? 1, variant.fp8 ?? false);
  const prefix = variant.prefix ?? (family === 'qwen3_5_moe' && !variant.flat ? 'model.language_model.' : 'model.');
  const experts = variant.experts ?? (family === 'qwen3_5_moe' ? 'fused' : 'separate');
  const grouped = (variant.projections ?? (family === 'qwen3_next' ? 'grouped' : 'split')) === 'grouped';
  const norm = family === 'qwen3_moe' ? 1 : 0;
  writer.bf16(`${prefix}embed_tokens.weight`, [text.vocab_size, text.hidden_size], 1);
  for (let i = 0; i < text.num_hidden_layers; i++) {
    const layer = `${prefix}layers.${i}.`;
    const derived = (i + 1) % text.full_attention_interval === 0 ? 'full_attention' : 'linear_attention';
    const full = family === 'qwen3_moe' || (text.layer_types?.[i] ?? derived) === 'full_attention';
    writer.bf16(`${layer}input_layernorm.weight`, [text.hidden_size], 0.2, norm);
    writer.bf16(`${layer}post_attention_layernorm.weight`, [text.hidden_size], 0.2, norm);
    if (full) writeAttention(writer, `${layer}self_attn.`, text, family !== 'qwen3_moe');
    else writeDeltaNet(writer, `${layer}linear_attn.`, text, grouped);
    writeMoe(writer, `${layer}mlp.`, text, experts, family !== 'qwen3_moe');
  }
  writer.bf16(`${prefix}norm.weight`, [text.hidden_size], 0.2, norm);
  if (config['tie_word_embeddings'] !== true) writer.bf16('lm_head.weight', [text.vocab_size, text.hidden_size], 1);
  if (variant.mtp) {
    writer.bf16('mtp.fc.weight', [text.hidden_size, 2 * text.hidden_size]);
    writeMoe(writer, 'mtp.layers.0.mlp.', text, variant.mtp, true);
  }
  if (variant.vision) writer.bf16('model.visual.patch_embed.proj.weight', [8, 3, 2, 4, 4]);
  return writer.tensors;
}

function writeAttention(writer: TensorWriter, prefix: string, text: typeof SIZES, gate: boolean): void {
  const { hidden_size: hidden, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: dim } = text;
  writer.matrix(`${prefix}q_proj.weight`, [heads * dim * (gate ? 2 : 1), hidden]);
  writer.matrix(`${prefix}k_proj.weight`, [kvHeads * dim, hidden]);
  writer.matrix(`${prefix}v_proj.weight`, [kvHeads * dim, hidden]);
  writer.matrix(`${prefix}o_proj.weight`, [hidden, heads * dim]);
  writer.bf16(`${prefix}q_norm.weight`, [dim], 0.2, gate ? 0 : 1);
  writer.bf16(`${prefix}k_norm.weight`, [dim], 0.2, gate ? 0 : 1);
}

function writeDeltaNet(
  writer: TensorWriter,
  prefix: string,
  text: typeof SIZES & typeof HYBRID,
  grouped: boolean,
): void {
  const { hidden_size: hidden, linear_num_value_heads: valueHeads } = text;
  const keyDim = text.linear_num_key_heads * text.linear_key_head_dim;
  const valueDim = valueHeads * text.linear_value_head_dim;
  if (grouped) {
    writer.matrix(`${prefix}in_proj_qkvz.weight`, [2 * keyDim + 2 * valueDim, hidden]);
    writer.bf16(`${prefix}in_proj_ba.weight`, [2 * valueHeads, hidden]);
  } else {
    writer.matrix(`${prefix}in_proj_qkv.weight`, [2 * keyDim + valueDim, hidden]);
    writer.matrix(`${prefix}in_proj_z.weight`, [valueDim, hidden]);
    writer.bf16(`${prefix}in_proj_b.weight`, [valueHeads, hidden]);
    writer.bf16(`${prefix}in_proj_a.weight`, [valueHeads, hidden]);
  }
  writer.bf16(`${prefix}conv1d.weight`, [2 * keyDim + valueDim, 1, text.linear_conv_kernel_dim]);
  writer.bf16(`${prefix}dt_bias`, [valueHeads]);
  writer.f32(`${prefix}A_log`, [valueHeads], 1, 0.5);
  writer.f32(`${prefix}norm.weight`, [text.linear_value_head_dim], 0.2, 1);
  writer.matrix(`${prefix}out_proj.weight`, [hidden, valueDim]);
}

function writeMoe(
  writer: TensorWriter,
  prefix: string,
  text: typeof SIZES & typeof HYBRID,
  experts: 'fused' | 'separate',
  shared: boolean,
): void {
  const { hidden_size: hidden, num_experts: count, moe_intermediate_size: width } = text;
  writer.bf16(`${prefix}gate.weight`, [count, hidden], 1);
  if (experts === 'fused') {
    writer.matrix(`${prefix}experts.gate_up_proj`, [count, 2 * width, hidden]);
    writer.matrix(`${prefix}experts.down_proj`, [count, hidden, width]);
  } else {
    for (let e = 0; e < count; e++) {
      writer.matrix(`${prefix}experts.${e}.gate_proj.weight`, [width, hidden]);
      writer.matrix(`${prefix}experts.${e}.up_proj.weight`, [width, hidden]);
      writer.matrix(`${prefix}experts.${e}.down_proj.weight`, [hidden, width]);
    }
  }
  if (!shared) return;
  const sharedWidth = text.shared_expert_intermediate_size;
  writer.matrix(`${prefix}shared_expert.gate_proj.weight`, [sharedWidth, hidden]);
  writer.matrix(`${prefix}shared_expert.up_proj.weight`, [sharedWidth, hidden]);
  writer.matrix(`${prefix}shared_expert.down_proj.weight`, [hidden, sharedWidth]);
  writer.bf16(`${prefix}shared_expert_gate.weight`, [1, hidden]);
}

/** A directory of its own that ends with the block: `using dir = temporaryDirectory()`. */
export interface TemporaryDirectory extends Disposable {
  path: string;
}

export function temporaryDirectory(): TemporaryDirectory {
  const path = mkdtempSync(join(tmpdir(), 'guildhall-model-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Writes a checkpoint of a variant into a directory of its own. */
export function randomCheckpoint(variant: CheckpointVariant = {}): TemporaryDirectory {
  const dir = temporaryDirectory();
  const config = randomConfig(variant);
  const tensors = randomTensors(variant, config);
  writeFileSync(join(dir.path, 'config.json'), JSON.stringify(config));
  writeTensors(dir.path, variant.edit?.(tensors) ?? tensors, variant.numShards ?? 1);
  return dir;
}
