import { fail } from '@guildhall/common';
import type { RouterPool } from './routing/router-pool.ts';

/** Under which names the model is served, and what routers call it. */
export class ServedModels {
  readonly #configured: readonly string[];
  readonly #pool: RouterPool;
  readonly #fallback: string;
  readonly #waits: boolean;

  /**
   * @param fallback name that is listed while no router has been seen.
   * @param waits requests wait for a first router, so that a name may be unknown for now.
   */
  constructor(configured: readonly string[], pool: RouterPool, fallback: string, waits = false) {
    this.#configured = configured;
    this.#pool = pool;
    this.#fallback = fallback;
    this.#waits = waits;
  }

  /** The names, for GET /v1/models. */
  get names(): readonly string[] {
    if (this.#configured.length > 0) return this.#configured;
    const seen = this.#pool.servedModels;
    return seen.length > 0 ? seen : [this.#fallback];
  }

  /** The name as metrics keep it: names that are not served, of which clients may think up any number, are one. */
  labelOf(name: string): string {
    return this.names.includes(name) ? name : 'unknown';
  }

  /**
   * The name to ask routers for; null means any router, by a name of its own, as names that only the gateway knows do.
   * Throws `model_not_found`, or `no_router` while no router has ever said what it serves.
   */
  resolve(name: string): string | null {
    if (this.#configured.includes(name)) return null;
    if (this.#configured.length === 0) {
      const seen = this.#pool.servedModels;
      if (seen.includes(name)) return name;
      if (seen.length === 0 && this.#waits) return name;
      if (seen.length === 0) throw fail('no_router', 'no router has been seen yet');
    }
    throw fail('model_not_found', `The model \`${name}\` does not exist.`, { field: 'model' });
  }
}
