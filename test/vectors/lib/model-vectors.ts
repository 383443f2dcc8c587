import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { checkpointDir, readJson, vectorsDir } from './paths.ts';
import { TensorFile } from './tensor-file.ts';

interface Manifest {
  checkpoint_sha256: string;
  vocab: number;
  tokenizer_size: number;
  near_tie: number;
  reference_bf16_mean_kl: number;
  reference_bf16_kl_positions: number;
  prompts: { name: string; length: number }[];
  greedy: { name: string; length: number; prompts: number; steps: number }[];
  batch: number[];
}

/** One prompt with the reference's logits at some positions. */
export interface PromptVector {
  name: string;
  ids: Int32Array;
  /** Ascending. */
  positions: Int32Array;
  /** [positions][vocab]. */
  logits: Float32Array[];
  /** First position whose smallest gate gap is a near-tie; the prompt's length without one. */
  firstNearTie: number;
}

/** A prompt with the reference's greedy continuation. */
export interface GreedyVector {
  name: string;
  ids: Int32Array;
  tokens: Int32Array;
  /** First step at or before which the reference met a near-tie; the number of steps without one. */
  firstNearTie: number;
}

/** Whole-model vectors of one checkpoint. */
export class ModelVectors {
  readonly name: string;
  readonly manifest: Manifest;
  readonly #file: TensorFile;

  constructor(name: string) {
    this.name = name;
    this.manifest = readJson<Manifest>(vectorsDir(name), 'manifest.json');
    this.#file = new TensorFile(join(vectorsDir(name), 'vectors.safetensors'));
  }

  /** Whether the vectors were made from the checkpoint that is there now. */
  matchesCheckpoint(): boolean {
    const dir = checkpointDir(this.name);
    const weights = readdirSync(dir).filter((file) => file.endsWith('.safetensors'));
    const hash = createHash('sha256');
    for (const file of ['config.json', ...weights.sort()]) hash.update(file).update(readFileSync(join(dir, file)));
    return hash.digest('hex') === this.manifest.checkpoint_sha256;
  }

  /** Skips a test whose vectors are of another checkpoint; one test of logits.test.ts fails for that. */
  skipIfStale(t: TestContext): boolean {
    const stale = !this.matchesCheckpoint();
    if (stale) t.skip('the vectors belong to another checkpoint');
    return stale;
  }

  prompts(): PromptVector[] {
    return this.manifest.prompts.map(({ name }) => {
      const gaps = this.#file.floats(`${name}.gate_gap`);
      const tie = gaps.findIndex((gap) => gap < this.manifest.near_tie);
      return {
        name,
        ids: this.#file.ints(`${name}.ids`),
        positions: this.#file.ints(`${name}.positions`),
        logits: rowsOf(this.#file.floats(`${name}.logits`), this.manifest.vocab),
        firstNearTie: tie < 0 ? gaps.length : tie,
      };
    });
  }

  /** Prompts that the reference ran as one padded batch, with the logits of their last two positions. */
  batch(): { ids: Int32Array; logits: Float32Array[] }[] {
    return this.manifest.batch.map((length) => ({
      ids: this.#file.ints(`batch${length}.ids`),
      logits: rowsOf(this.#file.floats(`batch${length}.logits`), this.manifest.vocab),
    }));
  }

  greedy(): GreedyVector[] {
    return this.manifest.greedy.flatMap(({ name, prompts, steps }) =>
      Array.from({ length: prompts }, (_, i) => this.#greedyOf(name, i, steps)),
    );
  }

  #greedyOf(name: string, index: number, steps: number): GreedyVector {
    const row = (part: string): Float32Array =>
      this.#file.floats(`${name}.${part}`).slice(index * steps, (index + 1) * steps);
    const [argmaxGap, gateGap] = [row('argmax_gap'), row('gate_gap')];
    const limit = this.manifest.near_tie;
    const tie = argmaxGap.findIndex((gap, step) => gap < limit || (gateGap[step] as number) < limit);
    return {
      name: `${name}[${index}]`,
      ids: this.#file.intRow(`${name}.ids`, index),
      tokens: this.#file.intRow(`${name}.tokens`, index),
      firstNearTie: tie < 0 ? steps : tie,
    };
  }
}

function rowsOf(matrix: Float32Array, columns: number): Float32Array[] {
  return Array.from({ length: matrix.length / columns }, (_, i) => matrix.slice(i * columns, (i + 1) * columns));
}
