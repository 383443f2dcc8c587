/** Label of tenants that have none of their own. */
export const OTHER_TENANTS = 'other';

/** Labels of tenants in metrics: the first ones get their names, so that there are never more series than that. */
export class TenantLabels {
  readonly #most: number;
  readonly #names = new Set<string>();

  constructor(most: number) {
    this.#most = most;
  }

  of(tenant: string): string {
    if (this.#names.has(tenant)) return tenant;
    if (this.#names.size >= this.#most) return OTHER_TENANTS;
    this.#names.add(tenant);
    return tenant;
  }
}
