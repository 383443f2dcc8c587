/**
 * A subject is an engine in a process of its own that the harness times: ours, or the peer. Processes keep their memory
 * and threads apart, and what a subject does while another is timed is nothing: it waits for its next message.
 */
import type { ModelSize } from '../models/specs.ts';

/** What a subject loads. */
export interface SubjectSpec {
  /** Checkpoint folder (ours) or GGUF file (the peer). */
  model: string;
  /** Weight format under our names: `bf16`, `fp8`, `q8`, `q4`. */
  weights: string;
  threads: number;
  size: ModelSize;
  vocab: number;
  /** Tokens in the context of the deepest decode. */
  depth: number;
  /** Sequences of the largest decode. */
  sequences: number;
  /** Folder of things worth keeping between runs. */
  cacheDir: string;
  /** Deep contexts are pages of seeded random numbers; without it, one computed chunk repeated. */
  randomKv?: boolean;
  /** Overrides of the peer's configuration, for finding the best one. */
  tuning?: Record<string, unknown>;
}

/** One timed piece of work. Decodes go on from where the last one of the same kind ended. */
export type Work =
  /** One prompt of `tokens`, from an empty context, logits of the last token. */
  | { kind: 'prefill'; tokens: number }
  /** `steps` tokens of one sequence whose context holds `depth` tokens, logits of each. */
  | { kind: 'decode'; depth: number; steps: number }
  /** `steps` tokens of each of `sequences` sequences with short contexts of `depth` tokens, logits of each. */
  | { kind: 'batch'; sequences: number; depth: number; steps: number };

export type Request =
  | { call: 'load'; spec: SubjectSpec }
  /** Untimed preparation: contexts filled, buffers touched. */
  | { call: 'prepare'; work: Work }
  | { call: 'run'; work: Work }
  /** Most likely next token after each token of a prompt. */
  | { call: 'top'; tokens: number[] };

/** What a subject says of itself after loading. */
export interface SubjectInfo {
  /** Name and version of the engine. */
  engine: string;
  /** Configuration that matters for speed. */
  config: Record<string, unknown>;
  loadSeconds: number;
  /** What a step reads and writes; null where it is not known. */
  bytes: SubjectBytes | null;
}

/** Bytes in memory, by how often a step of several tokens touches them. */
export interface SubjectBytes {
  /** Packed weights that every step reads once: all but the routed experts and the embedding table. */
  dense: number;
  /** One routed expert of one layer. */
  expert: number;
  /** Keys and values of one token over all layers. */
  kvPerToken: number;
  /** Recurrent state of one sequence over all layers. */
  state: number;
}

/** Seconds that a piece of work took. */
export interface Timing {
  seconds: number;
}

/** A subject as the child process implements it. */
export interface SubjectEngine {
  load(spec: SubjectSpec): Promise<SubjectInfo>;
  prepare(work: Work): Promise<void>;
  run(work: Work): Promise<Timing>;
  top(tokens: number[]): Promise<number[]>;
}

/** The token that a sequence is fed at a position: the same for every subject, spread over the vocabulary. */
export function tokenAt(sequence: number, position: number, vocab: number): number {
  let hash = Math.imul(sequence + 1, 0x9e3779b1) ^ Math.imul(position + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash ^= hash >>> 13;
  return (hash >>> 0) % vocab;
}

/** Tokens of a sequence at positions from `first` on. */
export function tokensAt(sequence: number, first: number, count: number, vocab: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => tokenAt(sequence, first + i, vocab));
}
