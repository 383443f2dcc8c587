import { best } from './best.ts';
import type { Draft } from './draft.ts';
import { LayerState } from './layer-state.ts';
import { workersPerToken } from './workers-per-token.ts';

/** What a search may use and what it goes for. */
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
  /** Microseconds that one more worker per token is worth. */
  usPerWorker: number;
  /** Microseconds that a copy must save that has to be loaded. */
  loadUs: (worker: number, layer: number, expert: number) => number;
  /** No worker becomes slower than this by a step of the search. */
  limitUs: number;
}

/**
 * One step of the search: an expert leaves a worker for another, and perhaps a second one comes back; -1 for no worker
 * and for no second expert.
 */
interface Change {
  expert: number;
  from: number;
  to: number;
  back: number;
  /** Estimated change of what the step is to lower, microseconds. */
  us: number;
}

/** What a step is to lower: the smooth objective, or the time of the slowest worker. */
type Aim = { kind: 'all'; slope: number } | { kind: 'slowest'; nowUs: number };

const NONE = -1;
const NOTHING: Change = { expert: NONE, from: NONE, to: NONE, back: NONE, us: 0 };
/** Passes over all experts, and the least part of the objective that one must gain for another to follow. */
const MOST_SWEEPS = 3;
const LEAST_SWEEP_GAIN = 0.002;
/** Workers that an expert is tried on: those that most of its tokens visit anyway, and those with least to do. */
const MOST_FRIENDS = 3;
/** Workers among which friends are looked for. */
const MOST_KNOWN = 24;
const MOST_IDLE = 2;
/** Least gain of a step, as a part of the slowest worker's time. */
const LEAST_GAIN = 1e-5;
/** Sampled tokens by which a search judges itself. */
const MOST_TOKENS = 512;
/** A layer is even when its slowest worker is within this of the mean. */
const EVEN = 1.001;

/**
 * Local search in one layer. Sweeps over the experts make every move, swap, replication or removal that lowers a smooth
 * objective; then the slowest worker is relieved for as long as that is possible.
 */
export class LayerSearch {
  readonly state: LayerState;
  readonly #o: SearchOptions;
  readonly #leastGain: number;
  #best: Change = NOTHING;

  constructor(draft: Draft, layer: number, options: SearchOptions) {
    this.state = new LayerState(draft, layer);
    this.#o = options;
    this.#leastGain = LEAST_GAIN * this.state.times.slowestUs();
  }

  /** @returns whether anything changed. */
  run(): boolean {
    let changed = false;
    let before = this.objectiveUs();
    for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
      if (this.#sweep() === 0) break;
      changed = true;
      const after = this.objectiveUs();
      if (after > before * (1 - LEAST_SWEEP_GAIN)) break;
      before = after;
    }
    return this.#relieve() || changed;
  }

  /** The layer's part of the objective, bytes apart. */
  objectiveUs(): number {
    const { problem, layer, draft, times } = this.state;
    const { usPerWorker } = this.#o;
    const tokensUs =
      usPerWorker === 0 ? 0 : usPerWorker * workersPerToken(problem, layer, draft.holders[layer] ?? [], MOST_TOKENS);
    return times.slowestUs() + tokensUs;
  }

  /** Tries every copy once, those of the hottest experts first. @returns the number of changes. */
  #sweep(): number {
    const { state } = this;
    const experts = Array.from({ length: state.problem.numExperts }, (_, expert) => expert);
    experts.sort((a, b) => state.rows(b) - state.rows(a) || a - b);
    let changes = 0;
    let idle = this.#idle();
    for (const expert of experts) {
      // The holders change while their copies are tried.
      for (const from of state.holders(expert).slice()) {
        this.#best = { ...NOTHING, us: -this.#leastGain };
        this.#try(expert, from, idle, { kind: 'all', slope: state.slope() });
        if (this.#best.expert === NONE || !this.#take(this.#best)) continue;
        changes += 1;
        idle = this.#idle();
      }
    }
    return changes;
  }

  /**
   * Makes the slowest worker faster while there is a way. Since another one may be as slow, a step alone may be a loss:
   * what stays is the best of what came by. @returns whether anything changed.
   */
  #relieve(): boolean {
    const { state } = this;
    const made: Change[] = [];
    let bestUs = state.times.slowestUs();
    let kept = 0;
    let besideUs = 0;
    while (made.length < 2 * state.problem.numExperts) {
      const change = this.#relief();
      if (change === null) break;
      besideUs += this.#besideUs(change);
      this.#apply(change);
      made.push(change);
      const us = state.times.slowestUs() + besideUs;
      if (us >= bestUs) continue;
      bestUs = us;
      kept = made.length;
    }
    for (const change of made.splice(kept).reverse()) this.#apply(reversed(change));
    return kept > 0;
  }

  /** The best change that makes the slowest worker faster. */
  #relief(): Change | null {
    const { state } = this;
    const slowest = this.#slowest();
    if (slowest === NONE) return null;
    const idle = this.#idle();
    this.#best = { ...NOTHING, us: -this.#leastGain };
    for (const expert of state.on[slowest] ?? []) {
      this.#try(expert, slowest, idle, { kind: 'slowest', nowUs: state.times.time(slowest) });
    }
    return this.#best.expert === NONE ? null : this.#best;
  }

  /** The slowest worker; none where it is about as fast as the mean of those that take part. */
  #slowest(): number {
    const { targets } = this.#o;
    const { times } = this.state;
    let slowest = NONE;
    let sum = 0;
    let count = 0;
    for (let worker = 0; worker < targets.length; worker++) {
      const us = times.time(worker);
      if (us === 0 && targets[worker] !== 1) continue;
      sum += us;
      count += 1;
      if (slowest === NONE || us > times.time(slowest)) slowest = worker;
    }
    return slowest === NONE || times.time(slowest) * count <= sum * EVEN ? NONE : slowest;
  }

  /** Makes a change if it is as good as estimated, more or less: the estimate takes the norm for linear. */
  #take(change: Change): boolean {
    const { state } = this;
    const { from, to, expert } = change;
    const normUs = state.norm();
    const besideUs = this.#besideUs(change);
    this.#move(change);
    const touched = [from, to, ...state.holders(expert)].filter((worker) => worker !== NONE);
    const slow = touched.some((worker) => state.times.time(worker) > this.#o.limitUs);
    if (slow || normUs - state.norm() - besideUs < this.#leastGain / 2) {
      this.#move(reversed(change));
      return false;
    }
    this.#settle(change);
    return true;
  }

  #apply(change: Change): void {
    this.#move(change);
    this.#settle(change);
  }

  #move({ expert, from, to, back }: Change): void {
    const { left } = this.#o;
    this.state.change(expert, from, to);
    if (back !== NONE) {
      this.state.change(back, to, from);
      return;
    }
    if (to !== NONE) left[to] = (left[to] as number) - 1;
    if (from !== NONE) left[from] = (left[from] as number) + 1;
  }

  #settle({ expert, from, to, back }: Change): void {
    this.state.settle(expert, from);
    if (back !== NONE) this.state.settle(back, to);
  }

  /** Tries everything that can be done with one copy, and keeps the best in `#best`. */
  #try(expert: number, from: number, idle: readonly number[], aim: Aim): void {
    const { state } = this;
    const { least, most, enough, left } = this.#o;
    const copies = state.holders(expert).length;
    if (copies > least && this.#mayDrop(expert, from)) this.#consider(expert, from, NONE, aim);
    const replicates = copies < most && state.rows(expert) > enough * copies;
    for (const to of this.#candidates(expert, from, idle)) {
      const room = state.draft.hasRoom(to) && (left[to] as number) > 0;
      if (room && replicates && state.draft.fits(state.layer, expert, to)) this.#consider(expert, NONE, to, aim);
      if (!this.#mayMove(expert, from, to)) continue;
      if (room) this.#consider(expert, from, to, aim);
      this.#considerSwaps(expert, from, to, aim);
    }
  }

  /** A move, a new copy (`from` is none) or a removal (`to` is none). */
  #consider(expert: number, from: number, to: number, aim: Aim): void {
    const { state } = this;
    const gone = from === NONE ? 0 : state.rows(expert) * state.share(expert, from);
    const come = to === NONE ? 0 : state.rows(expert) * state.shareAfter(expert, from, to);
    let us = this.#loadUs(expert, from, to) + this.#tokensUs(expert, from, to);
    if (aim.kind === 'all') {
      let powers = state.othersPower(expert, from, to);
      if (from !== NONE) powers += state.powerChange(from, -gone, -1);
      if (to !== NONE) powers += state.powerChange(to, come, 1);
      us += aim.slope * powers;
    } else {
      let peakUs = state.othersPeakUs(expert, from, to);
      if (from !== NONE) peakUs = Math.max(peakUs, state.timeAfter(from, -gone, -1));
      if (to !== NONE) peakUs = Math.max(peakUs, state.timeAfter(to, come, 1));
      if (peakUs >= aim.nowUs - this.#leastGain) return;
      us += peakUs - aim.nowUs;
    }
    this.#keep(expert, from, to, NONE, us);
  }

  #considerSwaps(expert: number, from: number, to: number, aim: Aim): void {
    const { state } = this;
    const { usPerWorker } = this.#o;
    const gone = state.rows(expert) * state.share(expert, from);
    const come = state.rows(expert) * state.shareAfter(expert, from, to);
    const ownUs = this.#loadUs(expert, from, to);
    const ownTokens = state.tokensChange(expert, from, to);
    for (const back of state.on[to] ?? []) {
      const toRows = come - state.rows(back) * state.share(back, to);
      const fromRows = state.rows(back) * state.shareAfter(back, to, from) - gone;
      let us = ownUs;
      if (aim.kind === 'all') {
        us += aim.slope * (state.powerChange(from, fromRows, 0) + state.powerChange(to, toRows, 0));
      } else {
        const peakUs = Math.max(state.timeAfter(from, fromRows, 0), state.timeAfter(to, toRows, 0));
        if (peakUs >= aim.nowUs - this.#leastGain) continue;
        us += peakUs - aim.nowUs;
      }
      // Two moves apart are a little better than the swap, and cheaper to tell.
      if (us + usPerWorker * (ownTokens + state.tokensChange(back, to, from)) >= this.#best.us) continue;
      if (usPerWorker !== 0) us += usPerWorker * state.tokensChangeOfSwap(expert, from, to, back);
      if (us >= this.#best.us) continue;
      us += this.#loadUs(back, to, from);
      if (us < this.#best.us && this.#mayMove(back, to, from)) this.#keep(expert, from, to, back, us);
    }
  }

  #keep(expert: number, from: number, to: number, back: number, us: number): void {
    if (us >= this.#best.us) return;
    this.#best = { expert, from, to, back, us };
  }

  /** What a move changes in the workers per token, in microseconds. */
  #tokensUs(expert: number, from: number, to: number): number {
    const { usPerWorker } = this.#o;
    return usPerWorker === 0 ? 0 : usPerWorker * this.state.tokensChange(expert, from, to);
  }

  /** What a move costs in bytes, in microseconds; a copy that was to be loaded and goes again gives them back. */
  #loadUs(expert: number, from: number, to: number): number {
    const { layer } = this.state;
    const { loadUs } = this.#o;
    return (to === NONE ? 0 : loadUs(to, layer, expert)) - (from === NONE ? 0 : loadUs(from, layer, expert));
  }

  /** What a change costs besides time, in microseconds. */
  #besideUs({ expert, from, to, back }: Change): number {
    const { usPerWorker } = this.#o;
    if (back === NONE) return this.#loadUs(expert, from, to) + this.#tokensUs(expert, from, to);
    const tokens = usPerWorker === 0 ? 0 : usPerWorker * this.state.tokensChangeOfSwap(expert, from, to, back);
    return this.#loadUs(expert, from, to) + this.#loadUs(back, to, from) + tokens;
  }

  /** Workers that an expert might rather be on. */
  #candidates(expert: number, from: number, idle: readonly number[]): number[] {
    const found = idle.filter((worker) => worker !== from);
    if (this.#o.usPerWorker === 0) return found;
    const { targets } = this.#o;
    const { company } = this.state;
    const known = new Set<number>();
    for (const partner of company.partners(expert)) {
      if (known.size >= MOST_KNOWN) break;
      for (const worker of this.state.holders(partner)) known.add(worker);
    }
    const own = company.alone(expert, from);
    const friends: { worker: number; alone: number }[] = [];
    for (const worker of known) {
      if (targets[worker] !== 1 || worker === from) continue;
      const alone = company.alone(expert, worker);
      if (alone < own) friends.push({ worker, alone });
    }
    friends.sort((a, b) => a.alone - b.alone || a.worker - b.worker);
    for (const { worker } of friends.slice(0, MOST_FRIENDS)) if (!found.includes(worker)) found.push(worker);
    return found;
  }

  /** Workers with least to do. */
  #idle(): number[] {
    const { targets } = this.#o;
    const { times } = this.state;
    return best(
      targets.length,
      MOST_IDLE,
      (worker) => targets[worker] === 1,
      (worker) => times.time(worker),
    );
  }

  #mayMove(expert: number, from: number, to: number): boolean {
    const { draft, layer } = this.state;
    if (!draft.fits(layer, expert, to, from)) return false;
    return !draft.sharesDomain(layer, expert, to, from) || draft.sharesDomain(layer, expert, from, from);
  }

  /** A copy may go that leaves enough of them in as many domains as they must be in. */
  #mayDrop(expert: number, worker: number): boolean {
    const { draft, layer } = this.state;
    return draft.sharesDomain(layer, expert, worker, worker) || draft.domainsOf(layer, expert) > this.#o.least;
  }
}

function reversed(change: Change): Change {
  return { ...change, from: change.to, to: change.from };
}
