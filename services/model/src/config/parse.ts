import { FieldReader, type Range } from './fields.ts';
import { parseRope } from './rope.ts';
import type {
  AttentionConfig,
  LayerType,
  LinearAttentionConfig,
  ModelConfig,
  ModelFamily,
  MoeConfig,
  VisionConfig,
} from './types.ts';

const FAMILIES: Record<string, ModelFamily> = {
  qwen3_5_moe: 'qwen3_5_moe',
  qwen3_5_moe_text: 'qwen3_5_moe',
  qwen3_next: 'qwen3_next',
  qwen3_moe: 'qwen3_moe',
};

// Far above any published model and low enough that products of two stay exact and allocations bounded.
const WIDTH: Range = { min: 1, max: 65536 };
const LAYERS: Range = { min: 1, max: 1024 };
const HEADS: Range = { min: 1, max: 1024 };
const HEAD_DIM: Range = { min: 2, max: 1024 };
const VOCAB: Range = { min: 1, max: 4_194_304 };
/** Expert numbers travel as u16. */
const EXPERTS: Range = { min: 1, max: 65535 };
const TOP_K: Range = { min: 1, max: 128 };
const KERNEL: Range = { min: 2, max: 16 };
const POSITIONS: Range = { min: 1, max: 16_777_216 };
const EPS: Range = { min: 1e-12, max: 0.1 };
const TOKEN_ID: Range = { min: 0, max: 0x7fffffff };
const BLOCK = 128;

/** Features that change the arithmetic and that no supported checkpoint uses: anything but the listed value is refused. */
const FIXED_FIELDS: [name: string, allowed: unknown, expected: string][] = [
  ['hidden_act', 'silu', '"silu"'],
  ['attention_bias', false, 'false'],
  ['use_sliding_window', false, 'false'],
  ['decoder_sparse_step', 1, '1: every layer is a mixture of experts'],
];

/**
 * Turns the object in a config.json into a ModelConfig. Nested (`text_config`) and flat text-only files, rope fields
 * in all their places, listed or derived layer types and unknown extra keys are accepted; a field that decides about
 * the arithmetic and is missing is an error, never a default.
 * @throws checkpoint_invalid naming file, field, found and expected.
 */
export function parseModelConfig(file: string, root: Record<string, unknown>): ModelConfig {
  const top = new FieldReader(file, '', root);
  const nested = top.child('text_config');
  const text = nested ?? top;
  const notices: string[] = [];
  const { family, modelType } = parseFamily(top, nested);
  const hybrid = family !== 'qwen3_moe';
  refuseForeignFeatures(text);

  const hidden = text.int('hidden_size', WIDTH);
  const numLayers = text.int('num_hidden_layers', LAYERS);
  const maxPositionEmbeddings = text.int('max_position_embeddings', POSITIONS);
  const vision = parseVision(top, notices);
  const layerTypes = parseLayerTypes(text, numLayers, hybrid);
  const linear = layerTypes.includes('linear_attention') ? parseLinearAttention(text) : null;
  const attention = parseAttention(text, family, hidden, {
    maxPositionEmbeddings,
    needsSections: vision !== null,
    notices,
  });
  return {
    file,
    family,
    modelType,
    hidden,
    vocab: text.int('vocab_size', VOCAB),
    numLayers,
    layerTypes,
    norm: { eps: text.number('rms_norm_eps', EPS), zeroCentered: hybrid },
    attention,
    linear,
    moe: parseMoe(text, family),
    tieWordEmbeddings: text.optionalBool('tie_word_embeddings') ?? top.optionalBool('tie_word_embeddings'),
    maxPositionEmbeddings: attention.rope.positions,
    eosIds: [...new Set([...text.ids('eos_token_id'), ...top.ids('eos_token_id')])],
    fp8: parseQuantization(top, text),
    vision,
    numMtpLayers: text.optionalInt('mtp_num_hidden_layers', { min: 0, max: 64 }) ?? 0,
    textConfig: text.record,
    notices,
  };
}

function parseFamily(top: FieldReader, nested: FieldReader | null): { family: ModelFamily; modelType: string } {
  const expected = Object.keys(FAMILIES).join(', ');
  const place = top.has('model_type') || nested === null ? top : nested;
  const modelType = place.optionalString('model_type');
  const family = modelType === null ? undefined : FAMILIES[modelType];
  if (modelType === null || family === undefined) throw place.invalid('model_type', `one of ${expected}`);
  const inner = nested?.optionalString('model_type') ?? null;
  if (nested !== null && inner !== null && FAMILIES[inner] !== family) {
    throw nested.invalid('model_type', `a text model of the family ${family}`);
  }
  return { family, modelType };
}

function refuseForeignFeatures(text: FieldReader): void {
  for (const [name, allowed, expected] of FIXED_FIELDS) {
    if (text.has(name) && text.raw(name) !== allowed) throw text.invalid(name, expected);
  }
  const dense = text.optionalArray('mlp_only_layers');
  if (dense !== null && dense.length > 0)
    throw text.invalid('mlp_only_layers', '[]: every layer is a mixture of experts');
}

function parseLayerTypes(text: FieldReader, numLayers: number, hybrid: boolean): LayerType[] {
  const listed = text.optionalArray('layer_types');
  if (listed !== null) {
    if (listed.length !== numLayers) throw text.invalid('layer_types', `${numLayers} entries, one for each layer`);
    const known = listed.every((type) => type === 'full_attention' || (hybrid && type === 'linear_attention'));
    const names = hybrid ? '"linear_attention" or "full_attention"' : '"full_attention"';
    if (!known) throw text.invalid('layer_types', `only ${names}`);
    return listed as LayerType[];
  }
  if (!hybrid) return Array.from({ length: numLayers }, () => 'full_attention');
  const interval = text.int('full_attention_interval', { min: 1, max: LAYERS.max });
  return Array.from({ length: numLayers }, (_, i) =>
    (i + 1) % interval === 0 ? 'full_attention' : 'linear_attention',
  );
}

function parseLinearAttention(text: FieldReader): LinearAttentionConfig {
  const numKeyHeads = text.int('linear_num_key_heads', HEADS);
  const numValueHeads = text.int('linear_num_value_heads', HEADS);
  if (numValueHeads % numKeyHeads !== 0) {
    throw text.invalid('linear_num_value_heads', `a multiple of linear_num_key_heads ${numKeyHeads}`);
  }
  const keyHeadDim = text.int('linear_key_head_dim', HEAD_DIM);
  const valueHeadDim = text.int('linear_value_head_dim', HEAD_DIM);
  const keyDim = numKeyHeads * keyHeadDim;
  const valueDim = numValueHeads * valueHeadDim;
  return {
    numKeyHeads,
    numValueHeads,
    keyHeadDim,
    valueHeadDim,
    convKernel: text.int('linear_conv_kernel_dim', KERNEL),
    keyDim,
    valueDim,
    convDim: 2 * keyDim + valueDim,
  };
}

function parseAttention(
  text: FieldReader,
  family: ModelFamily,
  hidden: number,
  context: { maxPositionEmbeddings: number; needsSections: boolean; notices: string[] },
): AttentionConfig {
  const numHeads = text.int('num_attention_heads', HEADS);
  const numKvHeads = text.int('num_key_value_heads', HEADS);
  if (numHeads % numKvHeads !== 0) {
    throw text.invalid('num_key_value_heads', `a divisor of num_attention_heads ${numHeads}`);
  }
  const headDim = parseHeadDim(text, family, hidden, numHeads);
  const rope = parseRope(text, { ...context, headDim, defaultPartialFactor: family === 'qwen3_moe' ? 1 : null });
  // The gate is part of the hybrid architectures: files of qwen3_next do not name it.
  const outputGate = text.optionalBool('attn_output_gate') ?? family !== 'qwen3_moe';
  return { numHeads, numKvHeads, headDim, outputGate, rope };
}

function parseHeadDim(text: FieldReader, family: ModelFamily, hidden: number, numHeads: number): number {
  // Older dense-attention files leave head_dim out and mean hidden / heads; hybrid ones always differ from that.
  const implied = family === 'qwen3_moe' && !text.has('head_dim') && hidden % numHeads === 0;
  const headDim = implied ? hidden / numHeads : text.int('head_dim', HEAD_DIM);
  if (headDim % 2 !== 0) throw text.invalid('head_dim', 'an even number');
  return headDim;
}

function parseMoe(text: FieldReader, family: ModelFamily): MoeConfig {
  const numExperts = text.int('num_experts', EXPERTS);
  const topK = text.int('num_experts_per_tok', TOP_K);
  if (topK > numExperts) throw text.invalid('num_experts_per_tok', `at most num_experts ${numExperts}`);
  const renormalise = text.optionalBool('norm_topk_prob');
  if (renormalise === null && family !== 'qwen3_5_moe') throw text.invalid('norm_topk_prob', 'true or false');
  return {
    numExperts,
    topK,
    intermediate: text.int('moe_intermediate_size', WIDTH),
    normTopk: renormalise ?? true,
    sharedIntermediate: family === 'qwen3_moe' ? null : text.int('shared_expert_intermediate_size', WIDTH),
  };
}

function parseVision(top: FieldReader, notices: string[]): VisionConfig | null {
  if (top.child('vision_config') === null || top.optionalBool('language_model_only') === true) return null;
  notices.push('vision_config is set aside: media input is not served');
  return {
    imageTokenId: top.optionalInt('image_token_id', TOKEN_ID),
    videoTokenId: top.optionalInt('video_token_id', TOKEN_ID),
    visionStartTokenId: top.optionalInt('vision_start_token_id', TOKEN_ID),
    visionEndTokenId: top.optionalInt('vision_end_token_id', TOKEN_ID),
  };
}

function parseQuantization(top: FieldReader, text: FieldReader): boolean {
  const quantization = top.child('quantization_config') ?? text.child('quantization_config');
  if (quantization === null) return false;
  const method = quantization.optionalString('quant_method');
  if (method !== 'fp8') throw quantization.invalid('quant_method', '"fp8"');
  const block = quantization.optionalArray('weight_block_size');
  if (block === null || block.length !== 2 || block.some((size) => size !== BLOCK)) {
    throw quantization.invalid('weight_block_size', `[${BLOCK}, ${BLOCK}]`);
  }
  return true;
}
