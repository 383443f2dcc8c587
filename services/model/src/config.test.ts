import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isGuildhallError } from '@guildhall/common';
import { loadModelConfig, numFullLayers, numLinearLayers, parseModelConfig, type ModelConfig } from './config.ts';
import { assertFails } from './testing/errors.ts';
import { randomConfig, temporaryDirectory, type CheckpointVariant } from './testing/random-checkpoint.ts';

function parse(variant: CheckpointVariant = {}): ModelConfig {
  return parseModelConfig('config.json', randomConfig(variant));
}

test('a nested config and its flat text-only export give the same model', () => {
  const nested = parse();
  const flat = parse({ flat: true, top: { architectures: ['Qwen3_5MoeForCausalLM'] } });
  const { modelType: _a, textConfig: _b, tieWordEmbeddings: tied, ...a } = nested;
  const { modelType: _c, textConfig: _d, tieWordEmbeddings: open, ...b } = flat;
  assert.deepEqual(a, b);
  assert.equal(tied, false);
  assert.equal(open, null);
  assert.equal(nested.family, 'qwen3_5_moe');
  assert.equal(nested.linear?.convDim, 2 * 16 + 48);
  assert.deepEqual(nested.norm, { eps: 1e-6, zeroCentered: true });
});

test('layer types are listed or derived from the interval', () => {
  const expected = ['linear_attention', 'full_attention', 'linear_attention', 'full_attention'];
  assert.deepEqual(parse().layerTypes, expected);
  const listed = ['full_attention', 'linear_attention', 'linear_attention', 'full_attention'];
  const config = parse({ text: { layer_types: listed, full_attention_interval: undefined } });
  assert.deepEqual(config.layerTypes, listed);
  assert.equal(numFullLayers(config), 2);
  assert.equal(numLinearLayers(config), 2);
});

test('the families differ in norms, gates, shared expert and rotary share', () => {
  const next = parse({ family: 'qwen3_next' });
  assert.deepEqual([next.norm.zeroCentered, next.attention.outputGate], [true, true]);
  assert.equal(next.attention.rope.rotaryDim, 8);
  assert.deepEqual([...next.attention.rope.freqAxis], [0, 0, 0, 0]);
  const plain = parse({ family: 'qwen3_moe' });
  assert.deepEqual([plain.norm.zeroCentered, plain.attention.outputGate], [false, false]);
  assert.deepEqual([plain.linear, plain.moe.sharedIntermediate], [null, null]);
  assert.equal(plain.attention.rope.rotaryDim, 16);
  assert.deepEqual(plain.eosIds, [5]);
  assert.equal(parse({ family: 'qwen3_moe', text: { norm_topk_prob: false } }).moe.normTopk, false);
});

test('what derivatives add or move is accepted', () => {
  const extra = {
    output_gate_type: 'swish',
    bos_token_id: 1,
    hidden_size: 9,
    language_model_only: true,
    mlp_only_layers: [],
  };
  const config = parse({ top: extra, text: { mamba_ssm_dtype: 'float32', attention_bias: false, dtype: 'bfloat16' } });
  assert.equal(config.hidden, 32);
  const rope = {
    rope_parameters: null,
    rope_theta: 10000,
    partial_rotary_factor: 0.5,
    rope_scaling: { type: 'mrope', mrope_section: [2, 1, 1] },
  };
  assert.deepEqual(parse({ text: rope }).attention.rope, parse().attention.rope);
  const perLayer = {
    full_attention: { rope_type: 'default', rope_theta: 10000, partial_rotary_factor: 0.5, mrope_section: [2, 1, 1] },
  };
  assert.deepEqual(parse({ text: { rope_parameters: perLayer } }).attention.rope, parse().attention.rope);
  assert.deepEqual(parse({ text: { eos_token_id: 7 }, top: { eos_token_id: [7, 9] } }).eosIds, [7, 9]);
  assert.equal(parse({ family: 'qwen3_moe', text: { head_dim: undefined } }).attention.headDim, 8);
});

test('vision and multi-token prediction are recognised and set aside with a notice', () => {
  const config = parse({
    text: { mtp_num_hidden_layers: 1 },
    top: { vision_config: { depth: 2 }, image_token_id: 90 },
  });
  assert.equal(config.vision?.imageTokenId, 90);
  assert.equal(config.numMtpLayers, 1);
  assert.deepEqual(config.notices, ['vision_config is set aside: media input is not served']);
  assert.equal(parse({ top: { vision_config: {}, language_model_only: true } }).vision, null);
});

test('interleaved sections give each frequency its axis and clip as slices do', () => {
  const axes = (section: number[], headDim: number, factor: number): ModelConfig =>
    parse({
      text: {
        head_dim: headDim,
        rope_parameters: { rope_theta: 1e7, partial_rotary_factor: factor, mrope_section: section },
      },
    });
  const real = axes([11, 11, 10], 256, 0.25);
  assert.equal([...real.attention.rope.freqAxis].join(''), '01201201201201201201201201201201'.slice(0, 30) + '01');
  assert.deepEqual(real.notices, []);
  const clipped = axes([16, 8, 8], 16, 1);
  assert.equal([...clipped.attention.rope.freqAxis].join(''), '01201201');
  assert.match(clipped.notices.join(), /mrope_section sums to 32, not to the 8/);
  const short = axes([6, 1, 1], 16, 1);
  assert.equal([...short.attention.rope.freqAxis].join(''), '01200000');
});

// Frequencies 0, 1, 8, 14, 15, 16, 24, 31 and the attention factor, from transformers 5.24.0 / torch 2.15.0.
const SECTIONS = { mrope_section: [11, 11, 10], mrope_interleaved: true, partial_rotary_factor: 0.25 };
const YARN = { ...SECTIONS, rope_type: 'yarn', rope_theta: 1e7, factor: 4, original_max_position_embeddings: 262144 };
const YARN_FIELDS = { beta_fast: 16, beta_slow: 2, truncate: false, mscale: 1, mscale_all_dim: 0.5 };
const ROPE_CASES: [name: string, rope: Record<string, unknown>, freqs: number[], scale: number][] = [
  [
    'default',
    { ...SECTIONS, rope_theta: 1e7 },
    [
      1.0, 0.6042963862419128, 0.017782794311642647, 0.0008659643353894353, 0.0005232990952208638,
      0.0003162277862429619, 5.62341347176698e-6, 1.6548170833630138e-7,
    ],
    1.0,
  ],
  [
    'linear',
    { ...SECTIONS, rope_type: 'linear', rope_theta: 1e7, factor: 4 },
    [
      0.25, 0.1510740965604782, 0.004445698577910662, 0.00021649108384735882, 0.00013082477380521595,
      7.905694656074047e-5, 1.405853367941745e-6, 4.1370427084075345e-8,
    ],
    1.0,
  ],
  [
    'yarn',
    YARN,
    [
      1.0, 0.6042963862419128, 0.017782794311642647, 0.0008659643353894353, 0.00047423981595784426,
      0.00025693507632240653, 1.405853367941745e-6, 4.1370427084075345e-8,
    ],
    1.138629436111989,
  ],
  [
    'yarn-small',
    { ...YARN, ...YARN_FIELDS, rope_theta: 1e4, factor: 8, original_max_position_embeddings: 4096 },
    [
      1.0, 0.7498942017555237, 0.10000000149011612, 0.015371676534414291, 0.009912077337503433, 0.006221889052540064,
      0.0001250000059371814, 1.666901880525984e-5,
    ],
    1.094179988101349,
  ],
];

for (const [name, rope, expected, scale] of ROPE_CASES) {
  test(`rope frequencies equal the reference's bit for bit: ${name}`, () => {
    const config = parse({ text: { head_dim: 256, rope_parameters: rope } }).attention.rope;
    const picked = [0, 1, 8, 14, 15, 16, 24, 31].map((j) => config.invFreq[j]);
    assert.deepEqual(picked, expected);
    assert.equal(config.scale, scale);
  });
}

test('YaRN makes the context: what the file says beyond the original one, or the original times the factor', () => {
  const contextOf = (positions: number, rope: Record<string, unknown>): number =>
    parse({ text: { head_dim: 256, max_position_embeddings: positions, rope_parameters: rope } }).maxPositionEmbeddings;
  assert.equal(contextOf(1_010_000, YARN), 1_010_000);
  assert.equal(contextOf(262_144, YARN), 1_048_576);
  assert.equal(contextOf(262_144, { ...YARN, factor: 2.5 }), 655_360);
  assert.equal(contextOf(262_144, { ...YARN, rope_type: 'default' }), 262_144);
  // Without an original one the factor is what the file says, and the context too.
  assert.equal(contextOf(32_768, { ...YARN, original_max_position_embeddings: undefined, factor: 1 }), 32_768);
});

const REFUSED: [title: string, variant: CheckpointVariant, ...parts: string[]][] = [
  ['unknown model type', { top: { model_type: 'llama' } }, 'model_type', '"llama"', 'qwen3_next'],
  ['no model type', { top: { model_type: undefined }, flat: true }, 'model_type', 'nothing'],
  ['foreign text model', { text: { model_type: 'qwen3_next' } }, 'text_config.model_type'],
  [
    'text as hidden size',
    { text: { hidden_size: '32' } },
    'text_config.hidden_size',
    '"32"',
    'an integer from 1 to 65536',
  ],
  ['missing hidden size', { text: { hidden_size: undefined } }, 'text_config.hidden_size', 'nothing'],
  ['null hidden size', { text: { hidden_size: null } }, 'text_config.hidden_size'],
  ['fractional layers', { text: { num_hidden_layers: 1.5 } }, 'num_hidden_layers', '1.5'],
  ['huge layers', { text: { num_hidden_layers: 1e9 } }, 'num_hidden_layers', '1024'],
  ['negative vocab', { text: { vocab_size: -1 } }, 'vocab_size', '-1'],
  [
    'heads not a multiple',
    { text: { num_key_value_heads: 3 } },
    'num_key_value_heads',
    'a divisor of num_attention_heads 4',
  ],
  ['value heads not a multiple', { text: { linear_num_value_heads: 3 } }, 'linear_num_value_heads', 'a multiple'],
  ['more chosen than experts', { text: { num_experts_per_tok: 7 } }, 'num_experts_per_tok', 'at most num_experts 6'],
  ['too many experts', { text: { num_experts: 65536 } }, 'num_experts', '65535'],
  ['odd head', { text: { head_dim: 15 } }, 'head_dim', 'even'],
  ['missing head_dim of a hybrid', { text: { head_dim: undefined } }, 'head_dim', 'nothing'],
  ['missing eps', { text: { rms_norm_eps: undefined } }, 'rms_norm_eps'],
  ['zero eps', { text: { rms_norm_eps: 0 } }, 'rms_norm_eps', '0'],
  ['wrong number of layer types', { text: { layer_types: ['full_attention'] } }, 'layer_types', '4 entries'],
  [
    'foreign layer type',
    { text: { layer_types: ['sliding_attention', 'a', 'b', 'c'] } },
    'layer_types',
    'linear_attention',
  ],
  [
    'DeltaNet in a plain model',
    { family: 'qwen3_moe', text: { layer_types: Array.from('1234', () => 'linear_attention') } },
    'layer_types',
  ],
  ['no layer types at all', { text: { full_attention_interval: undefined } }, 'full_attention_interval'],
  ['dense layers', { text: { mlp_only_layers: [0] } }, 'mlp_only_layers', '[0]'],
  ['sparse step', { family: 'qwen3_moe', text: { decoder_sparse_step: 2 } }, 'decoder_sparse_step', '2'],
  ['bias', { text: { attention_bias: true } }, 'attention_bias', 'false'],
  ['other activation', { text: { hidden_act: 'gelu' } }, 'hidden_act', '"silu"'],
  ['unsaid renormalisation', { family: 'qwen3_moe', text: { norm_topk_prob: undefined } }, 'norm_topk_prob'],
  [
    'no rope theta',
    { text: { rope_parameters: { partial_rotary_factor: 0.5 } } },
    'rope_parameters.rope_theta',
    'nothing',
  ],
  ['no rotary share', { text: { rope_parameters: { rope_theta: 1e4 } } }, 'partial_rotary_factor'],
  [
    'rotary share above one',
    { text: { rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 2 } } },
    'partial_rotary_factor',
    '2',
  ],
  [
    'unknown rope',
    { text: { rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 1, rope_type: 'longrope' } } },
    'rope_type',
    '"yarn"',
  ],
  [
    'sections of a wrong kind',
    { text: { rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 1, mrope_section: [1, -1, 2] } } },
    'mrope_section',
  ],
  [
    'vision without sections',
    { top: { vision_config: {} }, text: { rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 1 } } },
    'mrope_section',
  ],
  [
    'foreign quantisation',
    { top: { quantization_config: { quant_method: 'gptq' } } },
    'quantization_config.quant_method',
    '"gptq"',
    '"fp8"',
  ],
  [
    'other block size',
    { top: { quantization_config: { quant_method: 'fp8', weight_block_size: [64, 64] } } },
    'weight_block_size',
    '[128, 128]',
  ],
  ['text as eos', { text: { eos_token_id: 'x' } }, 'eos_token_id'],
  ['list as text config', { top: { text_config: [] } }, 'text_config', 'an object'],
];

for (const [title, variant, ...parts] of REFUSED) {
  test(`refused: ${title}`, () => assertFails(() => parse(variant), 'checkpoint_invalid', 'config.json', ...parts));
}

test('files that are no JSON object, too deep or missing are refused by name', () => {
  using dir = temporaryDirectory();
  const path = join(dir.path, 'config.json');
  assertFails(() => loadModelConfig(dir.path), 'checkpoint_not_found', path);
  for (const text of ['', '{', '[]', 'null', '"x"', '{"a":'.repeat(100) + '1' + '}'.repeat(100)]) {
    writeFileSync(path, text);
    assertFails(() => loadModelConfig(dir.path), 'checkpoint_invalid', path);
  }
  writeFileSync(path, Buffer.from([0x7b, 0xff, 0x7d]));
  assertFails(() => loadModelConfig(dir.path), 'checkpoint_invalid', 'UTF-8');
  writeFileSync(path, '{"__proto__": {"model_type": "qwen3_5_moe_text"}}');
  assertFails(() => loadModelConfig(dir.path), 'checkpoint_invalid', 'model_type');
});

test('any value in any field is either a model or an error that names the file', () => {
  const text = randomConfig()['text_config'] as Record<string, unknown>;
  const fields = [...Object.keys(text), 'layer_types', 'rope_scaling', 'rope_theta', 'norm_topk_prob', 'eos_token_id'];
  const rope = Object.keys(text['rope_parameters'] as object);
  const value = fc.oneof(fc.jsonValue(), fc.integer(), fc.double(), fc.constantFrom(-1, 0, 1, 1e18, NaN));
  fc.assert(
    fc.property(fc.constantFrom(...fields), fc.constantFrom(...rope), value, value, (field, ropeField, a, b) => {
      const rope_parameters = { ...(text['rope_parameters'] as object), [ropeField]: b };
      try {
        parse({ text: { rope_parameters, [field]: a } });
      } catch (err) {
        assert.ok(isGuildhallError(err), String(err));
        assert.match(err.message, /^config\.json: /);
      }
    }),
    { numRuns: 2000 },
  );
});
