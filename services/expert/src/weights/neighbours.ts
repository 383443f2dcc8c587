import type { MemberEntry, MemberView } from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { LayerExperts } from '../shard.ts';

/** Another worker of the same checkpoint. */
export interface Neighbour {
  id: string;
  address: string;
  numericsId: string;
  /** Can be asked for weights. */
  serves: boolean;
  /** Experts that it has on disk; null for all. */
  stored: ReadonlySet<number> | null;
  /** Experts that it computes. */
  held: ReadonlySet<number>;
}

export interface NeighboursOptions {
  members: Pick<MemberView, 'members' | 'onChange'>;
  /** This worker. */
  id: string;
  fingerprint: string;
  numericsId: string;
  numLayers: number;
  numExperts: number;
}

/** What the neighbours have together. */
interface Known {
  list: readonly Neighbour[];
  held: ReadonlySet<number>;
  /** Null for everything. */
  stored: ReadonlySet<number> | null;
}

interface Read {
  value: Buffer;
  neighbour: Neighbour | null;
}

/** The other workers of the checkpoint as they describe themselves in Redis; the last ones known while it is away. */
export class Neighbours {
  readonly #options: NeighboursOptions;
  #read = new Map<string, Read>();
  #list: Neighbour[] | null = null;
  #union: Known | null = null;
  readonly #unsubscribe: () => void;

  constructor(options: NeighboursOptions) {
    this.#options = options;
    this.#unsubscribe = options.members.onChange(() => (this.#list = null));
  }

  stop(): void {
    this.#unsubscribe();
  }

  list(): readonly Neighbour[] {
    this.#list ??= this.#readAll();
    return this.#list;
  }

  /** True where another live worker of the same numerics class can compute the expert now. */
  covers(layer: number, expert: number): boolean {
    return this.#known().held.has(this.#key(layer, expert));
  }

  /** True where some worker can be asked for the expert's weights. */
  supplies(layer: number, expert: number): boolean {
    const { stored } = this.#known();
    return stored === null || stored.has(this.#key(layer, expert));
  }

  /** Workers that can be asked for the expert's weights. */
  suppliersOf(layer: number, expert: number): Neighbour[] {
    const key = this.#key(layer, expert);
    return this.list().filter(({ serves, stored }) => serves && (stored === null || stored.has(key)));
  }

  #known(): Known {
    const list = this.list();
    if (this.#union?.list === list) return this.#union;
    const held = new Set<number>();
    let stored: Set<number> | null = new Set<number>();
    for (const neighbour of list) {
      if (neighbour.numericsId === this.#options.numericsId) for (const key of neighbour.held) held.add(key);
      if (!neighbour.serves) continue;
      if (neighbour.stored === null) stored = null;
      else if (stored !== null) for (const key of neighbour.stored) stored.add(key);
    }
    this.#union = { list, held, stored };
    return this.#union;
  }

  #key(layer: number, expert: number): number {
    return layer * this.#options.numExperts + expert;
  }

  #readAll(): Neighbour[] {
    const before = this.#read;
    this.#read = new Map();
    const found: Neighbour[] = [];
    for (const entry of this.#options.members.members()) {
      if (entry.kind !== 'expert' || entry.id === this.#options.id) continue;
      const known = before.get(entry.id);
      const read =
        known?.value.equals(entry.value) === true ? known : { value: entry.value, neighbour: this.#decode(entry) };
      this.#read.set(entry.id, read);
      if (read.neighbour !== null) found.push(read.neighbour);
    }
    return found;
  }

  #decode(entry: MemberEntry): Neighbour | null {
    try {
      const member = control.Member.decode(entry.value);
      if (member.modelFingerprint !== this.#options.fingerprint) return null;
      return {
        id: entry.id,
        address: member.address,
        numericsId: member.numericsId,
        serves: member.servesWeights,
        stored: member.partialCheckpoint ? this.#keysOf(member.stored) : null,
        held: this.#keysOf(member.holdings),
      };
    } catch {
      return null;
    }
  }

  #keysOf(layers: readonly LayerExperts[]): Set<number> {
    const { numLayers, numExperts } = this.#options;
    const keys = new Set<number>();
    for (const { layer, experts } of layers) {
      for (const expert of experts) if (layer < numLayers && expert < numExperts) keys.add(this.#key(layer, expert));
    }
    return keys;
  }
}
