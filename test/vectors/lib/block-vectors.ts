import { loadNative } from '@guildhall/native';
import type {
  BatchSpec,
  GatedAttention,
  GatedDeltaNet,
  KvPool,
  NormSpec,
  Runtime,
  StatePool,
  StepBuffers,
  WeightFormat,
} from '@guildhall/native';
import { blockFile, readJson } from './paths.ts';
import { TensorFile } from './tensor-file.ts';

interface BlockSpecs {
  gated_delta_net: {
    hidden_size: number;
    linear_num_key_heads: number;
    linear_num_value_heads: number;
    linear_key_head_dim: number;
    linear_value_head_dim: number;
    linear_conv_kernel_dim: number;
    rms_norm_eps: number;
    state_lengths: number[];
  };
  gated_attention: {
    hidden_size: number;
    num_attention_heads: number;
    num_key_value_heads: number;
    head_dim: number;
    rms_norm_eps: number;
    rotary_dim: number;
    rope_scale: number;
    freq_axis: number[];
    output_gate: boolean;
    zero_centered: boolean;
  };
  moe: {
    hidden_size: number;
    num_experts: number;
    num_experts_per_tok: number;
    moe_intermediate_size: number;
    shared_expert_intermediate_size: number | null;
    rms_norm_eps: number;
    norm_topk: boolean;
    zero_centered: boolean;
  };
  embedding_and_head: {
    hidden_size: number;
    vocab: number;
    tokenizer_size: number;
    rms_norm_eps: number;
    zero_centered: boolean;
  };
}

export type BlockKind = keyof BlockSpecs;

/** One case of the block vectors. */
export interface BlockCase<K extends BlockKind> {
  name: string;
  kind: K;
  spec: BlockSpecs[K];
  file: TensorFile;
}

/** All cases of a kind. */
export function blockCases<K extends BlockKind>(kind: K): BlockCase<K>[] {
  const manifest = readJson<{ cases: BlockCase<BlockKind>[] }>(blockFile('manifest.json'));
  const found = manifest.cases.filter((entry): entry is BlockCase<K> => entry.kind === kind);
  return found.map((entry) => ({ ...entry, file: new TensorFile(blockFile(`${entry.name}.safetensors`)) }));
}

/** A step for blocks that use neither experts nor logits. */
export function mixerStep(runtime: Runtime, hidden: number, maxTokens: number): StepBuffers {
  return new (loadNative().StepBuffers)(runtime, {
    maxTokens,
    hidden,
    numExperts: 2,
    topK: 1,
    rowFormat: 'f32',
    maxLogitRows: 1,
    vocab: 2,
  });
}

/** Rows [from, to) of one sequence, with its pages in descending order. */
export function singleSequence(
  from: number,
  to: number,
  options: { mode: 0 | 1; slot?: number; pages?: number; positions?: Int32Array },
): BatchSpec {
  const count = to - from;
  const total = (options.positions?.length ?? 0) / 3;
  const positions = Int32Array.from({ length: 3 * count }, (_, i) => {
    const token = from + (i % count);
    return options.positions ? (options.positions[Math.floor(i / count) * total + token] as number) : token;
  });
  const maxPages = options.pages ?? 0;
  return {
    tokenIds: new Int32Array(count),
    positions,
    rowStart: Int32Array.of(0),
    rowCount: Int32Array.of(count),
    contextLen: Int32Array.of(from),
    stateSlot: Int32Array.of(options.slot ?? -1),
    initState: Int32Array.of(-1),
    snapshotSlot: Int32Array.of(-1),
    snapshotRows: Int32Array.of(0),
    mode: Int32Array.of(options.mode),
    pageTable: Int32Array.from({ length: maxPages }, (_, i) => maxPages - 1 - i),
    maxPages,
  };
}

/** Rows [from, to) of a matrix with `columns` columns. */
export function rowsBetween(matrix: Float32Array, columns: number, from: number, to: number): Float32Array {
  return matrix.slice(from * columns, to * columns);
}

/** The native DeltaNet block of a case with a pool of `slots`. */
export function buildDeltaNet(
  runtime: Runtime,
  { spec, file }: BlockCase<'gated_delta_net'>,
  slots: number,
  format: WeightFormat = 'f32',
): { block: GatedDeltaNet; states: StatePool } {
  const native = loadNative();
  const [hk, hv] = [spec.linear_num_key_heads, spec.linear_num_value_heads];
  const [dk, dv] = [spec.linear_key_head_dim, spec.linear_value_head_dim];
  const convKernel = spec.linear_conv_kernel_dim;
  const heads = { numKeyHeads: hk, numValueHeads: hv, keyHeadDim: dk, valueHeadDim: dv, convKernel };
  const weight = (name: string) => file.source(`weights.${name}`);
  const block = new native.GatedDeltaNet(
    runtime,
    {
      hidden: spec.hidden_size,
      ...heads,
      inputNorm: { eps: spec.rms_norm_eps, zeroCentered: true },
      outputEps: spec.rms_norm_eps,
      format,
      stateLayer: 0,
    },
    {
      inputNorm: weight('input_norm'),
      inProjQkv: weight('in_proj_qkv.weight'),
      inProjZ: weight('in_proj_z.weight'),
      inProjB: weight('in_proj_b.weight'),
      inProjA: weight('in_proj_a.weight'),
      conv: weight('conv1d.weight'),
      dtBias: weight('dt_bias'),
      aLog: weight('A_log'),
      norm: weight('norm.weight'),
      outProj: weight('out_proj.weight'),
    },
  );
  const convDim = 2 * hk * dk + hv * dv;
  const states = new native.StatePool(runtime, {
    numSlots: slots,
    numLayers: 1,
    numValueHeads: hv,
    keyHeadDim: dk,
    valueHeadDim: dv,
    convDim,
    convKernel,
  });
  return { block, states };
}

/** The native attention block of a case with a pool of `pages`. */
export function buildAttention(
  runtime: Runtime,
  { spec, file }: BlockCase<'gated_attention'>,
  pages: number,
): { block: GatedAttention; kv: KvPool } {
  const native = loadNative();
  const norm: NormSpec = { eps: spec.rms_norm_eps, zeroCentered: spec.zero_centered };
  const [numKvHeads, headDim] = [spec.num_key_value_heads, spec.head_dim];
  const weight = (name: string) => file.source(`weights.${name}`);
  const block = new native.GatedAttention(
    runtime,
    {
      hidden: spec.hidden_size,
      numHeads: spec.num_attention_heads,
      numKvHeads,
      headDim,
      rotaryDim: spec.rotary_dim,
      invFreq: file.floats('in.inv_freq'),
      freqAxis: Int32Array.from(spec.freq_axis),
      ropeScale: spec.rope_scale,
      outputGate: spec.output_gate,
      inputNorm: norm,
      qkNorm: norm,
      format: 'f32',
      kvLayer: 0,
    },
    {
      inputNorm: weight('input_norm'),
      qProj: weight('q_proj.weight'),
      kProj: weight('k_proj.weight'),
      vProj: weight('v_proj.weight'),
      oProj: weight('o_proj.weight'),
      qNorm: weight('q_norm.weight'),
      kNorm: weight('k_norm.weight'),
    },
  );
  const kv = new native.KvPool(runtime, { numPages: pages, numLayers: 1, numKvHeads, headDim, format: 'f32' });
  return { block, kv };
}
