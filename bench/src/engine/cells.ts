import type { ModelName, ModelSize, ModelSpec } from '../models/specs.ts';
import type { SubjectBytes, Work } from '../subjects/protocol.ts';

/** One figure of the engine suite and what it has to reach. */
export interface Cell {
  /** Last part of the row's name. */
  name: string;
  work: Work;
  /** Least acceptable ratio to the peer for each weight format, and the one worth more effort. */
  targets: Record<string, number>;
  stretches: Record<string, number>;
}

/** Share of the bandwidth probed around a decode that meets its target whatever the ratio is. */
export const DECODE_LIMIT_TARGET = 0.85;
/** Context in front of the tokens of a many-sequence decode. */
const BATCH_DEPTH = 64;

function ratios(bf16: number, q8: number, q4: number): Record<string, number> {
  return { bf16, q8, q4 };
}

function decode(depth: number, steps: number, targets: Record<string, number>): Cell {
  const name = depth === 0 ? 'decode-1' : `decode-1-depth-${depth}`;
  return { name, work: { kind: 'decode', depth, steps }, targets, stretches: {} };
}

function prefill(targets: Record<string, number>, stretches: Record<string, number>): Cell {
  return { name: 'prefill-512', work: { kind: 'prefill', tokens: 512 }, targets, stretches };
}

function batch(sequences: number, steps: number, targets: Record<string, number>): Cell {
  const work = { kind: 'batch', sequences, depth: BATCH_DEPTH, steps } as const;
  return { name: `decode-${sequences}`, work, targets, stretches: {} };
}

const HYBRID: Cell[] = [
  prefill(ratios(3.3, 5, 3.3), ratios(4, 5.5, 4)),
  decode(0, 48, ratios(1.15, 1.6, 1.5)),
  decode(8192, 24, ratios(1.8, 2.5, 2.8)),
  batch(16, 8, ratios(1.65, 3, 3)),
  batch(32, 6, ratios(2.2, 4.2, 4.2)),
];

const TWIN: Cell[] = [
  prefill(ratios(3.3, 4.5, 3.3), ratios(4, 5, 4)),
  decode(0, 64, ratios(1.15, 1.3, 1.25)),
  decode(8192, 24, {}),
  batch(16, 8, {}),
  batch(32, 6, {}),
];

/** Cells of a model, in the order in which they are measured. Small models have no targets. */
export function cellsOf(model: ModelName, size: ModelSize): Cell[] {
  const cells = model === 'qwen35moe' ? HYBRID : TWIN;
  return size === 'bench' ? cells : cells.map((cell) => ({ ...cell, targets: {}, stretches: {} }));
}

/** Tokens that a piece of work computes. */
export function tokensOf(work: Work): number {
  switch (work.kind) {
    case 'prefill':
      return work.tokens;
    case 'decode':
      return work.steps;
    case 'batch':
      return work.sequences * work.steps;
  }
}

/**
 * Bytes that one decode step moves: dense weights once, each expert that any of its tokens chose once, the keys and
 * values of its contexts, and the recurrent states twice (read and written). Experts are counted for even routing, which
 * random gates give.
 */
export function stepBytes(spec: ModelSpec, bytes: SubjectBytes, sequences: number, depth: number): number {
  const { num_experts: experts, num_experts_per_tok: chosen, num_hidden_layers: layers } = spec.text;
  const distinct = experts * (1 - (1 - chosen / experts) ** sequences);
  return bytes.dense + layers * distinct * bytes.expert + sequences * (depth * bytes.kvPerToken + 2 * bytes.state);
}

/**
 * Multiplications and additions that the matrices of one prompt token take, in FLOP: all weights that it touches but the
 * head, which only the last token goes through. Attention and delta rule are not counted.
 */
export function promptFlops(spec: ModelSpec): number {
  const { num_experts: experts, num_experts_per_tok: chosen } = spec.text;
  let weights = 0;
  for (const { name, shape } of spec.tensors) {
    const count = shape.reduce((product, size) => product * size, 1);
    if (shape.length < 2 || /embed_tokens|lm_head|conv1d/.test(name)) continue;
    weights += name.includes('.experts.') ? (count * chosen) / experts : count;
  }
  return 2 * weights;
}
