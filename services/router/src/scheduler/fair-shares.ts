import { OrderedSet } from './ordered-set.ts';

/** What a token of a prompt counts that had to be computed; one from the cache counts nothing. */
export const INPUT_WEIGHT = 1;
/** What a generated token counts. */
export const OUTPUT_WEIGHT = 2;
/** Tenants without anything waiting whose counters are kept. */
const MAX_IDLE_TENANTS = 4096;

/** A tenant and what it was served, in weighted tokens over its weight. */
export interface Tenant {
  readonly name: string;
  /** Order of its first appearance, so that no two tenants compare equal. */
  readonly id: number;
  readonly weight: number;
  /** Changed by `FairShares` only. */
  counter: number;
  /** It has sequences in the queue. */
  waiting: boolean;
}

/**
 * Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): who was served least
 * goes first. A tenant that comes back is lifted to the least counter of those that wait, so that idleness earns no
 * claim. The names are the clients': of tenants that are not waiting only the latest are remembered.
 */
export class FairShares {
  readonly #weights: ReadonlyMap<string, number>;
  readonly #waiting = new OrderedSet<Tenant>((a, b) => a.counter - b.counter || a.id - b.id);
  readonly #known = new Map<string, Tenant>();
  /** Those of #known that are not waiting, the longest unchanged first. */
  readonly #idle = new Map<string, Tenant>();
  #lastServed: Tenant | null = null;
  #ids = 0;

  /** `weights` of tenants that are due more or less than the others' 1. */
  constructor(weights: ReadonlyMap<string, number> = new Map()) {
    this.#weights = weights;
  }

  /** Tenants with sequences in the queue. */
  get numWaiting(): number {
    return this.#waiting.size;
  }

  /** Tenants that are remembered. */
  get numKnown(): number {
    return this.#known.size;
  }

  /** How far the counters of waiting tenants are apart. */
  get spread(): number {
    return (this.#waiting.last()?.counter ?? 0) - (this.#waiting.first()?.counter ?? 0);
  }

  /** The tenant called `name`; one that is new, or was forgotten, was served nothing so far. */
  get(name: string): Tenant {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    this.#ids += 1;
    const weight = this.#weights.get(name) ?? 1;
    const tenant = { name, id: this.#ids, weight, counter: 0, waiting: false };
    this.#known.set(name, tenant);
    this.#rest(tenant);
    return tenant;
  }

  /**
   * A tenant begins to wait: lifts its counter to the least of those that wait and `counts` is true of, without any
   * to that of the tenant served last.
   */
  wait(tenant: Tenant, counts: (other: Tenant) => boolean): void {
    let least = this.#lastServed?.counter ?? 0;
    for (const other of this.#waiting) {
      if (!counts(other)) continue;
      least = other.counter;
      break;
    }
    tenant.counter = Math.max(tenant.counter, least);
    tenant.waiting = true;
    this.#idle.delete(tenant.name);
    this.#waiting.add(tenant);
  }

  /** Nothing of this tenant waits any more. */
  leave(tenant: Tenant): void {
    this.#waiting.delete(tenant);
    tenant.waiting = false;
    this.#rest(tenant);
  }

  /** A sequence of this tenant was admitted. */
  served(tenant: Tenant): void {
    this.#lastServed = tenant;
  }

  /** Counts tokens served. */
  charge(tenant: Tenant, inputTokens: number, outputTokens: number): void {
    const cost = (INPUT_WEIGHT * inputTokens + OUTPUT_WEIGHT * outputTokens) / tenant.weight;
    if (tenant.waiting) this.#waiting.delete(tenant);
    tenant.counter += cost;
    if (tenant.waiting) this.#waiting.add(tenant);
    else this.#rest(tenant);
  }

  #rest(tenant: Tenant): void {
    this.#idle.delete(tenant.name);
    this.#idle.set(tenant.name, tenant);
    if (this.#idle.size <= MAX_IDLE_TENANTS) return;
    for (const oldest of this.#idle.keys()) {
      this.#idle.delete(oldest);
      this.#known.delete(oldest);
      return;
    }
  }
}
