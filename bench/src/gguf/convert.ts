import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Checkpoint } from '@guildhall/model';
import { loadNative } from '@guildhall/native';
import type { HybridConfig, ModelSpec, TextConfig } from '../models/specs.ts';
import type { Progress } from '../progress.ts';
import { encode, type GgmlType } from './quantize.ts';
import { writeGguf, type GgufTensor, type GgufValue } from './writer.ts';

/** Weight formats of the peer's files. Q4_0 files keep the output matrix at Q6_K, as llama.cpp's own quantiser does. */
export const GGUF_FORMATS = ['BF16', 'Q8_0', 'Q4_0'] as const;
export type GgufFormat = (typeof GGUF_FORMATS)[number];

/** `general.file_type` of each format. */
const FILE_TYPES: Record<GgufFormat, number> = { BF16: 32, Q8_0: 7, Q4_0: 2 };
const CHUNK_VALUES = 1 << 20;

/**
 * The GGUF file of a bench model in a format, written beside its checkpoint if it is not there.
 * @returns its path.
 */
export function ensureGguf(dir: string, spec: ModelSpec, format: GgufFormat, progress: Progress): string {
  const path = join(dir, `${format}.gguf`);
  if (existsSync(path)) return path;
  const native = loadNative();
  const checkpoint = Checkpoint.open(dir, { mapFile: (fd, length) => native.mapFile(fd, length) });
  const partial = `${path}.${process.pid}.part`;
  const label = `${spec.name}: writing ${format}.gguf`;
  try {
    writeGguf(partial, metadata(spec, format), ggufTensors(checkpoint, spec, format), (done) => {
      progress.update(label, done);
    });
    renameSync(partial, path);
  } finally {
    rmSync(partial, { force: true });
  }
  progress.done(`${spec.name}: wrote ${format}.gguf`);
  return path;
}

/** Metadata by which llama.cpp builds the model. */
export function metadata(spec: ModelSpec, format: GgufFormat): Map<string, GgufValue> {
  const { name: arch, text } = spec;
  const entries: [string, GgufValue][] = [
    ['general.architecture', { string: arch }],
    ['general.name', { string: `guildhall bench ${arch}` }],
    ['general.file_type', { u32: FILE_TYPES[format] }],
    ['tokenizer.ggml.model', { string: 'none' }],
    [`${arch}.vocab_size`, { u32: text.vocab_size }],
    [`${arch}.context_length`, { u32: text.max_position_embeddings }],
    [`${arch}.embedding_length`, { u32: text.hidden_size }],
    [`${arch}.block_count`, { u32: text.num_hidden_layers }],
    [`${arch}.feed_forward_length`, { u32: text.moe_intermediate_size }],
    [`${arch}.attention.head_count`, { u32: text.num_attention_heads }],
    [`${arch}.attention.head_count_kv`, { u32: text.num_key_value_heads }],
    [`${arch}.attention.key_length`, { u32: text.head_dim }],
    [`${arch}.attention.value_length`, { u32: text.head_dim }],
    [`${arch}.attention.layer_norm_rms_epsilon`, { f32: text.rms_norm_eps }],
    [`${arch}.rope.freq_base`, { f32: text.rope_theta }],
    [`${arch}.rope.dimension_count`, { u32: spec.hybrid?.rotaryDim ?? text.head_dim }],
    [`${arch}.expert_count`, { u32: text.num_experts }],
    [`${arch}.expert_used_count`, { u32: text.num_experts_per_tok }],
    [`${arch}.expert_feed_forward_length`, { u32: text.moe_intermediate_size }],
  ];
  return new Map([...entries, ...(spec.hybrid === null ? [] : hybridMetadata(arch, spec.hybrid))]);
}

function hybridMetadata(arch: string, hybrid: HybridConfig): [string, GgufValue][] {
  const { linear_num_value_heads: valueHeads, linear_value_head_dim: dim } = hybrid;
  return [
    [`${arch}.rope.dimension_sections`, { i32s: [...hybrid.sections, 0] }],
    [`${arch}.expert_shared_feed_forward_length`, { u32: hybrid.shared_expert_intermediate_size }],
    [`${arch}.ssm.conv_kernel`, { u32: hybrid.linear_conv_kernel_dim }],
    [`${arch}.ssm.inner_size`, { u32: valueHeads * dim }],
    [`${arch}.ssm.state_size`, { u32: dim }],
    [`${arch}.ssm.time_step_rank`, { u32: valueHeads }],
    [`${arch}.ssm.group_count`, { u32: hybrid.linear_num_key_heads }],
    [`${arch}.full_attention_interval`, { u32: hybrid.full_attention_interval }],
  ];
}

/** Rows of checkpoint tensors that follow one another in a GGUF tensor. */
interface Slice {
  name: string;
  firstRow: number;
  numRows: number;
}

/** Makes the GGUF tensors of a checkpoint. */
class Converter {
  readonly #checkpoint: Checkpoint;
  readonly #format: GgufFormat;
  readonly #zeroCentred: boolean;
  readonly tensors: GgufTensor[] = [];

  constructor(checkpoint: Checkpoint, format: GgufFormat, zeroCentred: boolean) {
    this.#checkpoint = checkpoint;
    this.#format = format;
    this.#zeroCentred = zeroCentred;
  }

  /** A matrix in the file's format, made of row slices; `columns` reorders what lies in a row. */
  matrix(name: string, shape: number[], slices: Slice[], columns: Int32Array | null = null): void {
    const type: GgmlType = name === 'output.weight' && this.#format === 'Q4_0' ? 'Q6_K' : this.#format;
    const cols = shape.at(-1) as number;
    const encoded = (): Iterable<Uint8Array> => this.#encodeRows(type, cols, slices, columns);
    this.tensors.push({ name, shape, type, encoded });
  }

  /** A whole matrix as it is. */
  whole(name: string, source: string, shape: number[]): void {
    this.matrix(name, shape, [{ name: source, firstRow: 0, numRows: shape[0] as number }]);
  }

  /** A tensor in single precision, its values changed and its rows put in another order. */
  plain(name: string, source: string, shape: number[], change: (x: number) => number, order?: Int32Array): void {
    const encoded = (): Iterable<Uint8Array> => {
      const values = this.#numbers(source).map(change);
      const width = values.length / (order?.length ?? 1);
      if (order === undefined) return [encode('F32', values)];
      const ordered = new Float32Array(values.length);
      for (const [to, from] of order.entries()) {
        ordered.set(values.subarray(from * width, (from + 1) * width), to * width);
      }
      return [encode('F32', ordered)];
    };
    this.tensors.push({ name, shape, type: 'F32', encoded });
  }

  /** A norm weight: GGUF stores the factor itself. */
  norm(name: string, source: string, size: number): void {
    this.plain(name, source, [size], this.#zeroCentred ? (w) => w + 1 : (w) => w);
  }

  #numbers(name: string): Float32Array {
    const { dtype, data } = this.#checkpoint.tensor(name);
    return dtype === 'F32' ? new Float32Array(data.slice().buffer) : widen(data);
  }

  *#encodeRows(type: GgmlType, cols: number, slices: Slice[], columns: Int32Array | null): Iterable<Uint8Array> {
    const rowsAtOnce = Math.max(1, Math.floor(CHUNK_VALUES / cols));
    for (const { name, firstRow, numRows } of slices) {
      for (let row = 0; row < numRows; row += rowsAtOnce) {
        const from = firstRow + row;
        const to = firstRow + Math.min(row + rowsAtOnce, numRows);
        const data = this.#checkpoint.bytes(name, from * cols * 2, to * cols * 2);
        if (type === 'BF16' && columns === null) yield data;
        else yield encode(type, permute(widen(data), cols, columns));
      }
    }
  }
}

/** BF16 bytes as numbers. */
function widen(data: Uint8Array): Float32Array {
  const aligned = data.byteOffset % 2 === 0 ? data : data.slice();
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2);
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = (halves[i] as number) << 16;
  return new Float32Array(words.buffer);
}

function permute(values: Float32Array, cols: number, columns: Int32Array | null): Float32Array {
  if (columns === null) return values;
  const out = new Float32Array(values.length);
  for (let row = 0; row < values.length; row += cols) {
    for (let c = 0; c < cols; c++) out[row + c] = values[row + (columns[c] as number)] as number;
  }
  return out;
}

/** The tensors of a bench model under llama.cpp's names. */
export function ggufTensors(checkpoint: Checkpoint, spec: ModelSpec, format: GgufFormat): GgufTensor[] {
  const { text, hybrid } = spec;
  const { hidden_size: hidden, vocab_size: vocab } = text;
  const out = new Converter(checkpoint, format, hybrid !== null);
  const prefix = checkpoint.layout.prefix;
  out.whole('token_embd.weight', `${prefix}embed_tokens.weight`, [vocab, hidden]);
  for (let i = 0; i < text.num_hidden_layers; i++) {
    const from = `${prefix}layers.${i}.`;
    const to = `blk.${i}.`;
    out.norm(`${to}attn_norm.weight`, `${from}input_layernorm.weight`, hidden);
    const afterMixer = hybrid === null ? 'ffn_norm' : 'post_attention_norm';
    out.norm(`${to}${afterMixer}.weight`, `${from}post_attention_layernorm.weight`, hidden);
    const full = hybrid === null || (i + 1) % hybrid.full_attention_interval === 0;
    if (full) attention(out, `${from}self_attn.`, to, text, hybrid !== null);
    else deltaNet(out, `${from}linear_attn.`, to, hybrid);
    experts(out, `${from}mlp.`, to, text, hybrid !== null);
    if (hybrid !== null) sharedExpert(out, `${from}mlp.`, to, hybrid);
  }
  out.norm('output_norm.weight', `${prefix}norm.weight`, hidden);
  out.whole('output.weight', 'lm_head.weight', [vocab, hidden]);
  return out.tensors;
}

function attention(out: Converter, from: string, to: string, text: TextConfig, gate: boolean): void {
  const { hidden_size: hidden, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: dim } = text;
  out.whole(`${to}attn_q.weight`, `${from}q_proj.weight`, [heads * dim * (gate ? 2 : 1), hidden]);
  out.whole(`${to}attn_k.weight`, `${from}k_proj.weight`, [kvHeads * dim, hidden]);
  out.whole(`${to}attn_v.weight`, `${from}v_proj.weight`, [kvHeads * dim, hidden]);
  out.whole(`${to}attn_output.weight`, `${from}o_proj.weight`, [hidden, heads * dim]);
  out.norm(`${to}attn_q_norm.weight`, `${from}q_norm.weight`, dim);
  out.norm(`${to}attn_k_norm.weight`, `${from}k_norm.weight`, dim);
}

/**
 * Source value head of each value head in GGUF: llama.cpp repeats the key heads as a whole (0 1 2 .. 0 1 2 ..), the
 * checkpoint each of them in place (0 0 1 1 ..).
 */
export function tiledHeads(keyHeads: number, valueHeads: number): Int32Array {
  const each = valueHeads / keyHeads;
  return Int32Array.from({ length: valueHeads }, (_, j) => (j % keyHeads) * each + Math.floor(j / keyHeads));
}

function deltaNet(out: Converter, from: string, to: string, config: HybridConfig): void {
  const { hidden_size: hidden, linear_num_key_heads: keyHeads, linear_num_value_heads: valueHeads } = config;
  const dim = config.linear_value_head_dim;
  const keyRows = 2 * keyHeads * config.linear_key_head_dim;
  const valueDim = valueHeads * dim;
  const heads = tiledHeads(keyHeads, valueHeads);
  const headRows = (name: string, first: number, width: number): Slice[] =>
    [...heads].map((head) => ({ name, firstRow: first + head * width, numRows: width }));
  const elements = Int32Array.from(
    { length: valueDim },
    (_, i) => (heads[Math.floor(i / dim)] as number) * dim + (i % dim),
  );
  const channels = Int32Array.from({ length: keyRows + valueDim }, (_, i) =>
    i < keyRows ? i : keyRows + (elements[i - keyRows] as number),
  );
  const qkv = `${from}in_proj_qkv.weight`;
  const keys = { name: qkv, firstRow: 0, numRows: keyRows };
  const same = (x: number): number => x;
  out.matrix(`${to}attn_qkv.weight`, [keyRows + valueDim, hidden], [keys, ...headRows(qkv, keyRows, dim)]);
  out.matrix(`${to}attn_gate.weight`, [valueDim, hidden], headRows(`${from}in_proj_z.weight`, 0, dim));
  out.matrix(`${to}ssm_beta.weight`, [valueHeads, hidden], headRows(`${from}in_proj_b.weight`, 0, 1));
  out.matrix(`${to}ssm_alpha.weight`, [valueHeads, hidden], headRows(`${from}in_proj_a.weight`, 0, 1));
  const kernel = config.linear_conv_kernel_dim;
  out.plain(`${to}ssm_conv1d.weight`, `${from}conv1d.weight`, [keyRows + valueDim, kernel], same, channels);
  out.plain(`${to}ssm_dt.bias`, `${from}dt_bias`, [valueHeads], same, heads);
  out.plain(`${to}ssm_a`, `${from}A_log`, [valueHeads], (x) => -Math.exp(x), heads);
  out.plain(`${to}ssm_norm.weight`, `${from}norm.weight`, [dim], same);
  const outProj = { name: `${from}out_proj.weight`, firstRow: 0, numRows: hidden };
  out.matrix(`${to}ssm_out.weight`, [hidden, valueDim], [outProj], elements);
}

function experts(out: Converter, from: string, to: string, text: TextConfig, fused: boolean): void {
  const { hidden_size: hidden, num_experts: count, moe_intermediate_size: width } = text;
  out.plain(`${to}ffn_gate_inp.weight`, `${from}gate.weight`, [count, hidden], (x) => x);
  const separate = (kind: string, numRows: number): Slice[] =>
    Array.from({ length: count }, (_, e) => ({
      name: `${from}experts.${e}.${kind}_proj.weight`,
      firstRow: 0,
      numRows,
    }));
  const half = (offset: number): Slice[] =>
    Array.from({ length: count }, (_, e) => ({
      name: `${from}experts.gate_up_proj`,
      firstRow: e * 2 * width + offset,
      numRows: width,
    }));
  const down = { name: `${from}experts.down_proj`, firstRow: 0, numRows: count * hidden };
  out.matrix(`${to}ffn_gate_exps.weight`, [count, width, hidden], fused ? half(0) : separate('gate', width));
  out.matrix(`${to}ffn_up_exps.weight`, [count, width, hidden], fused ? half(width) : separate('up', width));
  out.matrix(`${to}ffn_down_exps.weight`, [count, hidden, width], fused ? [down] : separate('down', hidden));
}

function sharedExpert(out: Converter, from: string, to: string, config: HybridConfig): void {
  const { hidden_size: hidden, shared_expert_intermediate_size: width } = config;
  out.whole(`${to}ffn_gate_shexp.weight`, `${from}shared_expert.gate_proj.weight`, [width, hidden]);
  out.whole(`${to}ffn_up_shexp.weight`, `${from}shared_expert.up_proj.weight`, [width, hidden]);
  out.whole(`${to}ffn_down_shexp.weight`, `${from}shared_expert.down_proj.weight`, [hidden, width]);
  out.plain(`${to}ffn_gate_inp_shexp.weight`, `${from}shared_expert_gate.weight`, [hidden], (x) => x);
}
