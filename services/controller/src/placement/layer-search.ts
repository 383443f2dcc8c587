import type { Draft } from './draft.ts';
import { type LayerTimes, timesOf } from './layer-times.ts';
import type { Problem } from './problem.ts';

/** What a search may use. */
export interface SearchOptions {
  /** 1 for workers that may get copies. */
  targets: Uint8Array;
  /** Copies that each worker may get more than it has, besides what memory allows. */
  left: Int32Array;
  /** Copies that every expert keeps, and that one has at most. */
  least: number;
  most: number;
  /** An expert is replicated while a copy has more rows than this. */
  enough: number;
  /** Microseconds of step time that a copy must save that has to be loaded. */
  loadUs: (worker: number, layer: number, expert: number) => number;
}

/** A change of one layer: copies that go and copies that come. */
interface Change {
  /** Expert, worker. */
  drops: readonly (readonly [number, number])[];
  adds: readonly (readonly [number, number])[];
}

interface Scored extends Change {
  /** Slowest of the workers that the change touches, afterwards. */
  peakUs: number;
  /** What the change costs besides. */
  priceUs: number;
}

/** Lightest workers that the slowest one's experts are tried on. */
const MOST_TARGETS = 12;
/** Experts of a lighter worker that an expert is tried to be swapped with: those that would even the two best. */
const MOST_SWAPS = 3;
/** A layer is even when its slowest worker is within this of the mean. */
const EVEN = 1.002;
/** Least part of the slowest worker's time that a change must save. */
const LEAST_GAIN = 1e-6;

/**
 * Local search in one layer: moves, swaps, replicates or drops experts of the slowest worker while that makes it faster
 * and nobody slower than it was.
 */
export class LayerSearch {
  readonly #draft: Draft;
  readonly #problem: Problem;
  readonly #layer: number;
  readonly #o: SearchOptions;
  readonly #times: LayerTimes;
  /** Experts of each worker in this layer. */
  readonly #on: number[][];

  constructor(draft: Draft, layer: number, options: SearchOptions) {
    this.#draft = draft;
    this.#problem = draft.problem;
    this.#layer = layer;
    this.#o = options;
    const holders = draft.holders[layer] as number[][];
    this.#times = timesOf(draft.problem, layer, holders);
    this.#on = draft.problem.workers.map(() => []);
    for (const [expert, workers] of holders.entries()) for (const worker of workers) this.#on[worker]?.push(expert);
  }

  slowestUs(): number {
    return this.#times.slowestUs();
  }

  /** Evens the layer out. @returns the number of changes. */
  balance(): number {
    const most = 64 + 2 * this.#on.reduce((sum, experts) => sum + experts.length, 0);
    for (let changes = 0; changes < most; changes++) {
      const slowest = this.#slowest();
      const best = slowest === null ? null : this.#bestChange(slowest);
      if (best === null) return changes;
      this.#apply(best);
    }
    return most;
  }

  /** The slowest worker; null where it is about as fast as the mean of those that take part. */
  #slowest(): number | null {
    const { targets } = this.#o;
    let slowest = -1;
    let most = 0;
    let sum = 0;
    let count = 0;
    for (let worker = 0; worker < targets.length; worker++) {
      const us = this.#times.time(worker);
      if (us === 0 && targets[worker] !== 1) continue;
      sum += us;
      count += 1;
      if (us <= most) continue;
      most = us;
      slowest = worker;
    }
    return count === 0 || most * count <= sum * EVEN ? null : slowest;
  }

  #bestChange(slowest: number): Scored | null {
    const now = this.#times.time(slowest);
    let best: Scored | null = null;
    for (const change of this.#changesOf(slowest)) {
      const scored = this.#score(change);
      if (scored.peakUs >= now * (1 - LEAST_GAIN) || scored.peakUs + scored.priceUs >= now) continue;
      if (best === null || scored.peakUs + scored.priceUs < best.peakUs + best.priceUs) best = scored;
    }
    return best;
  }

  *#changesOf(from: number): Generator<Change> {
    const targets = this.#lightest(from);
    const { least } = this.#o;
    const sorted = new Map(targets.map((to) => [to, this.#byRows(to)]));
    for (const expert of this.#on[from] ?? []) {
      const copies = this.#holders(expert).length;
      if (copies > least && this.#mayDrop(expert, from)) yield { drops: [[expert, from]], adds: [] };
      for (const to of targets) {
        if (!this.#draft.fits(this.#layer, expert, to, from)) continue;
        if (this.#takes(to)) {
          if (this.#mayReplicate(expert, to)) yield { drops: [], adds: [[expert, to]] };
          if (this.#mayMove(expert, from, to)) yield { drops: [[expert, from]], adds: [[expert, to]] };
        }
        if (this.#mayMove(expert, from, to)) yield* this.#swaps(expert, from, to, sorted.get(to) ?? []);
      }
    }
  }

  /** Swaps with the experts of `to` that come closest to evening the two workers out. */
  *#swaps(expert: number, from: number, to: number, experts: readonly number[]): Generator<Change> {
    const gap = (this.#times.time(from) - this.#times.time(to)) / 2;
    const ideal = this.#rowsOn(expert, from) - gap * (this.#problem.speed[from] as number);
    let at = experts.findIndex((other) => this.#rowsOn(other, to) >= ideal);
    if (at === -1) at = experts.length;
    const begin = Math.max(0, at - Math.ceil(MOST_SWAPS / 2));
    for (const other of experts.slice(begin, begin + MOST_SWAPS)) {
      if (!this.#draft.fits(this.#layer, other, from, to) || !this.#mayMove(other, to, from)) continue;
      yield {
        drops: [
          [expert, from],
          [other, to],
        ],
        adds: [
          [expert, to],
          [other, from],
        ],
      };
    }
  }

  #holders(expert: number): number[] {
    return this.#draft.of(this.#layer, expert);
  }

  #rows(expert: number): number {
    return this.#problem.rows[this.#layer * this.#problem.numExperts + expert] as number;
  }

  #rowsOn(expert: number, worker: number): number {
    const { speed } = this.#problem;
    const total = this.#holders(expert).reduce((sum, holder) => sum + (speed[holder] as number), 0);
    return (this.#rows(expert) * (speed[worker] as number)) / total;
  }

  #byRows(worker: number): number[] {
    return [...(this.#on[worker] ?? [])].sort((a, b) => this.#rowsOn(a, worker) - this.#rowsOn(b, worker) || a - b);
  }

  #lightest(from: number): number[] {
    const { targets } = this.#o;
    const now = this.#times.time(from);
    const lighter: number[] = [];
    for (let worker = 0; worker < targets.length; worker++) {
      if (targets[worker] === 1 && worker !== from && this.#times.time(worker) < now) lighter.push(worker);
    }
    return lighter.sort((a, b) => this.#times.time(a) - this.#times.time(b) || a - b).slice(0, MOST_TARGETS);
  }

  #mayReplicate(expert: number, to: number): boolean {
    const copies = this.#holders(expert).length;
    if (copies >= this.#o.most || this.#rows(expert) <= this.#o.enough * copies) return false;
    return this.#draft.fits(this.#layer, expert, to);
  }

  #takes(worker: number): boolean {
    return this.#draft.hasRoom(worker) && (this.#o.left[worker] as number) > 0;
  }

  #mayMove(expert: number, from: number, to: number): boolean {
    if (!this.#draft.sharesDomain(this.#layer, expert, to, from)) return true;
    return this.#draft.sharesDomain(this.#layer, expert, from, from);
  }

  /** A copy may go that leaves enough of them in as many domains as they must be in. */
  #mayDrop(expert: number, worker: number): boolean {
    if (this.#draft.sharesDomain(this.#layer, expert, worker, worker)) return true;
    return this.#draft.domainsOf(this.#layer, expert) > this.#o.least;
  }

  /** What a change comes to: of the workers that it touches, those count that get something or get slower. */
  #score({ drops, adds }: Change): Scored {
    const touched = new Map<number, number>();
    for (const [expert, worker] of [...drops, ...adds]) {
      for (const holder of [worker, ...this.#holders(expert)]) touched.set(holder, this.#times.time(holder));
    }
    this.#shift(drops, adds);
    let peakUs = 0;
    for (const [worker, beforeUs] of touched) {
      const us = this.#times.time(worker);
      const counts = us > beforeUs || drops.some(([, from]) => from === worker) || adds.some(([, to]) => to === worker);
      if (counts) peakUs = Math.max(peakUs, us);
    }
    this.#shift(adds, drops);
    const priceUs = adds.reduce((sum, [expert, worker]) => sum + this.#o.loadUs(worker, this.#layer, expert), 0);
    return { drops, adds, peakUs, priceUs };
  }

  /** Changes holders and times, memory apart. */
  #shift(drops: Change['drops'], adds: Change['adds']): void {
    const experts = new Set([...drops, ...adds].map(([expert]) => expert));
    for (const expert of experts) this.#times.spread(this.#rows(expert), this.#holders(expert), -1);
    for (const [expert, worker] of drops) this.#draft.remove(this.#layer, expert, worker);
    for (const [expert, worker] of adds) this.#draft.add(this.#layer, expert, worker);
    for (const expert of experts) this.#times.spread(this.#rows(expert), this.#holders(expert), 1);
  }

  #apply({ drops, adds }: Change): void {
    this.#shift(drops, adds);
    const { left } = this.#o;
    for (const [expert, worker] of drops) {
      const experts = this.#on[worker] as number[];
      experts.splice(experts.indexOf(expert), 1);
      left[worker] = (left[worker] as number) + 1;
    }
    for (const [expert, worker] of adds) {
      this.#on[worker]?.push(expert);
      left[worker] = (left[worker] as number) - 1;
    }
  }
}
