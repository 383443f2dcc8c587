/** Something that waits for a place. */
export interface Waiter {
  tenant: string;
  /** Smaller goes first. */
  priority: number;
}

/** Waiters of one priority. Tenants are in the order in which they are served when nothing else tells them apart. */
type Level<T> = Map<string, T[]>;

/**
 * Who waits for a place, in a bounded queue. The most urgent priority goes first; within one, the tenant that has the fewest places,
 * of several the one that has waited for its turn the longest, and its requests in the order in which they came. When the queue is
 * full, the newest request of the tenant with most waiting gives way to one that is more urgent, or whose tenant has fewer.
 */
export class AdmissionQueue<T extends Waiter> {
  readonly #limit: number;
  readonly #levels = new Map<number, Level<T>>();
  readonly #queued = new Map<string, number>();
  #size = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds a waiter. Returns the one that finds no room for that: it, another one, or null. */
  offer(waiter: T): T | null {
    let out: T | null = null;
    if (this.#size >= this.#limit) {
      out = this.#victim(waiter);
      if (out === null) return waiter;
      this.remove(out);
    }
    const level = this.#levels.get(waiter.priority) ?? new Map<string, T[]>();
    this.#levels.set(waiter.priority, level);
    const waiting = level.get(waiter.tenant) ?? [];
    level.set(waiter.tenant, waiting);
    waiting.push(waiter);
    this.#count(waiter.tenant, 1);
    return out;
  }

  /** Takes who is to have the next place; null when nobody waits. `placesOf` says how many places a tenant has. */
  take(placesOf: (tenant: string) => number): T | null {
    if (this.#size === 0) return null;
    const priority = Math.min(...this.#levels.keys());
    const level = this.#levels.get(priority) ?? new Map<string, T[]>();
    let best: string | null = null;
    for (const tenant of level.keys()) if (best === null || placesOf(tenant) < placesOf(best)) best = tenant;
    const next = best === null ? undefined : level.get(best)?.[0];
    if (best === null || next === undefined) return null;
    const rest = level.get(best) ?? [];
    this.remove(next);
    // It was this tenant's turn: the others are before it now.
    if (rest.length > 0) {
      level.delete(best);
      level.set(best, rest);
    }
    return next;
  }

  /** Takes a waiter out; false when it is not there. */
  remove(waiter: T): boolean {
    const level = this.#levels.get(waiter.priority);
    const waiting = level?.get(waiter.tenant);
    const at = waiting?.indexOf(waiter) ?? -1;
    if (level === undefined || waiting === undefined || at < 0) return false;
    waiting.splice(at, 1);
    if (waiting.length === 0) level.delete(waiter.tenant);
    if (level.size === 0) this.#levels.delete(waiter.priority);
    this.#count(waiter.tenant, -1);
    return true;
  }

  /** Everybody who waits, in no order. */
  all(): T[] {
    return [...this.#levels.values()].flatMap((level) => [...level.values()].flat());
  }

  /** Who gives way to `newcomer`; null when nobody does. */
  #victim(newcomer: T): T | null {
    if (this.#size === 0) return null;
    const last = Math.max(...this.#levels.keys());
    if (newcomer.priority > last) return null;
    let most: string | null = null;
    for (const tenant of this.#levels.get(last)?.keys() ?? [])
      if (most === null || this.#queuedOf(tenant) >= this.#queuedOf(most)) most = tenant;
    const victim = most === null ? undefined : this.#levels.get(last)?.get(most)?.at(-1);
    if (most === null || victim === undefined) return null;
    if (newcomer.priority < last) return victim;
    return this.#queuedOf(newcomer.tenant) + 1 < this.#queuedOf(most) ? victim : null;
  }

  #queuedOf(tenant: string): number {
    return this.#queued.get(tenant) ?? 0;
  }

  #count(tenant: string, by: 1 | -1): void {
    this.#size += by;
    const count = this.#queuedOf(tenant) + by;
    if (count === 0) this.#queued.delete(tenant);
    else this.#queued.set(tenant, count);
  }
}
