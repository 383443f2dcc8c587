import { type Clock, errorMessage, type LoadStore, type Logger, type StoredLoad } from '@guildhall/common';
import type { LiveWorkers } from '../workers/controller.ts';
import { type ExpertShape, type LoadFacts, readReport } from './report.ts';

export interface LoadsDeps {
  loads: Pick<LoadStore, 'read'>;
  clock: Clock;
  logger: Logger;
  /** After this time a token counts half. */
  halfLifeMs: number;
}

/** What the routers have measured of the model's experts. */
export interface MeasuredLoads {
  /** Tokens of each expert, older ones counting less: [layer*numExperts+expert]. */
  tokens: Float64Array;
  /** Sum of those. */
  total: number;
  /** The newest sampled sets of each layer, u16[n][topK] flat; null where there are none. */
  sets: (Uint16Array | null)[];
  /** 0 until a router has said it. */
  topK: number;
  /** Tokens of a forward pass, mean; 0 until known. */
  tokensPerStep: number;
  /** Expert rows that each worker says it has computed, older ones counting less. */
  rowsOf: ReadonlyMap<string, number>;
}

/** Sampled sets kept of each layer. */
const SETS_KEPT = 512;
/** Reports come every few seconds; reading more often finds nothing new. */
const READ_EVERY_MS = 2000;

/** Sampled sets of one layer, the newest ones. */
class SetWindow {
  #sets: Uint16Array = new Uint16Array(0);

  add(sets: Uint16Array, topK: number): void {
    const all = new Uint16Array(this.#sets.length + sets.length);
    all.set(this.#sets);
    all.set(sets, this.#sets.length);
    this.#sets = all.slice(Math.max(0, all.length - SETS_KEPT * topK));
  }

  get sets(): Uint16Array | null {
    return this.#sets.length === 0 ? null : this.#sets;
  }
}

/**
 * Sums the load reports. The routers' reports say which experts tokens want; the workers' reports count the same tokens a
 * second time and tell only how the work was in fact divided. Reports of others, of another model or shape, and those
 * that were counted before are passed over.
 */
export class LoadsController {
  readonly #deps: LoadsDeps;
  #model = '';
  #shape: ExpertShape = { numLayers: 0, numExperts: 0 };
  #tokens = new Float64Array(0);
  #sets: SetWindow[] = [];
  #topK = 0;
  #stepTokens = 0;
  #steps = 0;
  readonly #rows = new Map<string, number>();
  /** What was counted last of each reporter: a number, or the bytes of a report without one. */
  readonly #counted = new Map<string, string>();
  readonly #refused = new Map<string, string>();
  #decayedMs: number;
  #readMs = Number.NEGATIVE_INFINITY;

  constructor(deps: LoadsDeps) {
    this.#deps = deps;
    this.#decayedMs = deps.clock.monotonicMs();
  }

  /** Reads what is new; while Redis is away what was measured stays. */
  async reconcile(live: LiveWorkers): Promise<void> {
    const { clock, loads, logger } = this.#deps;
    this.#follow(live);
    this.#decay();
    if (clock.monotonicMs() - this.#readMs < READ_EVERY_MS) return;
    this.#readMs = clock.monotonicMs();
    try {
      const stored = await loads.read();
      const routers = new Set(live.routers.map((router) => router.id));
      const workers = new Set(live.workers.map((worker) => worker.id));
      for (const load of stored) {
        if (routers.has(load.reporter)) this.#take(load, (facts) => this.#addRouter(facts));
        else if (workers.has(load.reporter)) this.#take(load, (facts) => this.#addWorker(load.reporter, facts));
      }
      for (const id of this.#rows.keys()) if (!workers.has(id)) this.#rows.delete(id);
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'load reports cannot be read');
    }
  }

  measured(): MeasuredLoads {
    return {
      tokens: this.#tokens,
      total: this.#tokens.reduce((sum, count) => sum + count, 0),
      sets: this.#sets.map((window) => window.sets),
      topK: this.#topK,
      tokensPerStep: this.#steps > 0 ? this.#stepTokens / this.#steps : 0,
      rowsOf: this.#rows,
    };
  }

  /** Begins anew with another model. */
  #follow({ model, workers }: LiveWorkers): void {
    const [first] = workers;
    if (model === null || first === undefined) return;
    const { numLayers, numExperts } = first;
    const key = JSON.stringify([model.fingerprint, numLayers, numExperts]);
    if (key === this.#model) return;
    this.#model = key;
    this.#shape = { numLayers, numExperts };
    this.#tokens = new Float64Array(numLayers * numExperts);
    this.#sets = Array.from({ length: numLayers }, () => new SetWindow());
    this.#topK = 0;
    this.#stepTokens = 0;
    this.#steps = 0;
    this.#rows.clear();
    this.#counted.clear();
  }

  #decay(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    const left = 2 ** (-(nowMs - this.#decayedMs) / this.#deps.halfLifeMs);
    this.#decayedMs = nowMs;
    for (let at = 0; at < this.#tokens.length; at++) this.#tokens[at] = (this.#tokens[at] as number) * left;
    this.#stepTokens *= left;
    this.#steps *= left;
    for (const [id, rows] of this.#rows) this.#rows.set(id, rows * left);
  }

  #take({ reporter, bytes }: StoredLoad, add: (facts: LoadFacts) => void): void {
    const facts = readReport(bytes, this.#shape);
    if (typeof facts === 'string') {
      if (this.#refused.get(reporter) !== facts)
        this.#deps.logger.warn({ reporter, reason: facts }, 'a load report does not count');
      this.#refused.set(reporter, facts);
      return;
    }
    this.#refused.delete(reporter);
    const mark = facts.sequence > 0 ? String(facts.sequence) : bytes.toString('latin1');
    if (this.#counted.get(reporter) === mark) return;
    this.#counted.set(reporter, mark);
    add(facts);
  }

  #addRouter({ tokens, sets, topK, steps }: LoadFacts): void {
    let sum = 0;
    for (const [at, count] of tokens.entries()) {
      this.#tokens[at] = (this.#tokens[at] ?? 0) + count;
      sum += count;
    }
    // Sets of another width cannot stand beside each other.
    if (topK > 0 && topK !== this.#topK) {
      this.#topK = topK;
      this.#sets = this.#sets.map(() => new SetWindow());
    }
    for (const [layer, added] of sets) this.#sets[layer]?.add(added, topK);
    if (topK === 0 || steps === 0) return;
    this.#stepTokens += sum / (topK * this.#shape.numLayers);
    this.#steps += steps;
  }

  #addWorker(id: string, { tokens }: LoadFacts): void {
    this.#rows.set(
      id,
      tokens.reduce((sum, count) => sum + count, this.#rows.get(id) ?? 0),
    );
  }
}
