import { fail } from '@guildhall/common';
import { type Checkpoint, type ExpertBytes, expertRanges, type ExpertStore } from '@guildhall/model/weights';
import type { LayerExperts } from '../shard.ts';
import type { LoadPace } from './load-pace.ts';
import type { Neighbours } from './neighbours.ts';
import type { OwnFiles } from './own-files.ts';
import type { Peers } from './peers.ts';

/** Where an expert's bytes came from. */
export type LoadSource = 'disk' | 'store' | 'peer';

export interface WeightSourcesOptions {
  checkpoint: Checkpoint;
  files: OwnFiles;
  /** Experts kept beside the outlines of a checkpoint that comes from peers; null where the checkpoint is this machine's. */
  store: ExpertStore | null;
  peers: Peers;
  neighbours: Neighbours;
  pace: LoadPace;
}

/** Where the worker gets weights: its own files, its store, other workers, in this order. */
export class WeightSources {
  readonly #o: WeightSourcesOptions;

  constructor(options: WeightSourcesOptions) {
    this.#o = options;
  }

  /**
   * The bytes of an expert. Urgent ones are not held up by others.
   * Errors: `checkpoint_partial` where nobody has them; `checkpoint_invalid`, `checkpoint_not_found`, `peer_unavailable`,
   * `cancelled`.
   */
  async read(
    layer: number,
    expert: number,
    options: { urgent: boolean; signal: AbortSignal },
  ): Promise<{ bytes: ExpertBytes; source: LoadSource }> {
    const { files, store, pace } = this.#o;
    const { urgent, signal } = options;
    let problem: unknown = null;
    if (files.has(layer, expert)) {
      try {
        return { bytes: await files.read(layer, expert), source: 'disk' };
      } catch (err) {
        problem = err;
      }
    }
    const kept = (await store?.read(layer, expert)) ?? null;
    if (kept !== null) return { bytes: kept, source: 'store' };
    const paced = (bytes: number): Promise<void> => pace.part(bytes, urgent, signal);
    return { bytes: await this.#fromPeers(layer, expert, { signal, paced, problem }), source: 'peer' };
  }

  /** An expert out of what is on this machine; null where it is not. Errors: those of files. */
  async readHere(layer: number, expert: number): Promise<ExpertBytes | null> {
    const { files, store, checkpoint } = this.#o;
    const { numLayers, moe } = checkpoint.config;
    if (layer >= numLayers || expert >= moe.numExperts) return null;
    if (files.has(layer, expert)) return files.read(layer, expert);
    return (await store?.read(layer, expert)) ?? null;
  }

  /** Keeps what came from a peer, so that others and the next start find it here. */
  async keep(bytes: ExpertBytes, needs: (layer: number, expert: number) => boolean): Promise<void> {
    await this.#o.store?.write(bytes, needs);
  }

  /** Experts that are stored on this machine; null for all. */
  stored(): LayerExperts[] | null {
    const { files, store } = this.#o;
    if (files.list() === null) return null;
    return this.#where((layer, expert) => files.has(layer, expert) || store?.has(layer, expert) === true);
  }

  /**
   * Experts that a placement may give this worker, `held` ones included; null for all. A worker that is told to take weights
   * from peers, or has lost files, can load what some peer has.
   */
  loadable(held: (layer: number, expert: number) => boolean): LayerExperts[] | null {
    const { files, store, neighbours } = this.#o;
    if (files.list() === null) return null;
    const fromPeers = store !== null || files.lost;
    return this.#where(
      (layer, expert) =>
        files.has(layer, expert) ||
        store?.has(layer, expert) === true ||
        (fromPeers && (held(layer, expert) || neighbours.supplies(layer, expert))),
    );
  }

  #where(test: (layer: number, expert: number) => boolean): LayerExperts[] {
    const { numLayers, moe } = this.#o.checkpoint.config;
    const layers: LayerExperts[] = [];
    for (let layer = 0; layer < numLayers; layer++) {
      const experts: number[] = [];
      for (let expert = 0; expert < moe.numExperts; expert++) if (test(layer, expert)) experts.push(expert);
      if (experts.length > 0) layers.push({ layer, experts });
    }
    return layers;
  }

  async #fromPeers(
    layer: number,
    expert: number,
    options: { signal: AbortSignal; paced: (bytes: number) => Promise<void>; problem: unknown },
  ): Promise<ExpertBytes> {
    const { checkpoint, neighbours, peers } = this.#o;
    const { signal, paced, problem } = options;
    const suppliers = neighbours.suppliersOf(layer, expert);
    peers.keepOnly(new Set(neighbours.list().map(({ address }) => address)));
    if (suppliers.length === 0) {
      if (problem !== null) throw problem;
      throw fail('checkpoint_partial', `expert ${expert} of layer ${layer} is not on this machine, and no peer has it`);
    }
    return peers.fetch(suppliers, { layer, expert }, expertRanges(checkpoint, layer, expert), {
      fingerprint: checkpoint.fingerprint,
      signal,
      paced,
      check: (bytes) => bytes.checkAgainst(checkpoint),
    });
  }
}
