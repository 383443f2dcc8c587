import { fail } from '@guildhall/common';

/** Tokens of one KV page; also the grid on which prefill may be cut. */
export const PAGE_TOKENS = 64;

declare const pageBrand: unique symbol;
/** Number of a page of the KV pool. Only the pool makes them. */
export type PageId = number & { readonly [pageBrand]: true };

/** Pages that hold `tokens` tokens. */
export function pagesFor(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS);
}

/** Frees at least `count` idle pages if there are as many; the cache does it. */
export type Reclaim = (count: number) => void;

/**
 * Account of the KV pages: which are free, and how many tables refer to each of the others. The cache holds a reference
 * of its own to pages that others may share; a page that only the cache refers to is idle, and counts as available. The
 * pages' contents live in native memory; this class owns their numbers.
 */
export class PagePool {
  readonly numPages: number;
  readonly #refs: Uint32Array;
  /** 1 for pages that the cache refers to. */
  readonly #cached: Uint8Array;
  readonly #free: Int32Array;
  #numFree: number;
  #numIdle = 0;
  #reclaim: Reclaim = () => undefined;

  /** Errors: `config_invalid` without at least one page. */
  constructor(numPages: number) {
    if (!Number.isInteger(numPages) || numPages < 1) {
      throw fail('config_invalid', `a KV pool needs at least one page, got ${numPages}`, { field: 'numPages' });
    }
    this.numPages = numPages;
    this.#refs = new Uint32Array(numPages);
    this.#cached = new Uint8Array(numPages);
    // Taken from the end: the first page out is page 0.
    this.#free = Int32Array.from({ length: numPages }, (_, i) => numPages - 1 - i);
    this.#numFree = numPages;
  }

  /** Pages with nothing in them. */
  get numFree(): number {
    return this.#numFree;
  }

  /** Pages that only the cache refers to. */
  get numIdle(): number {
    return this.#numIdle;
  }

  /** Pages that sequences or transfers refer to. */
  get numUsed(): number {
    return this.numPages - this.#numFree - this.#numIdle;
  }

  /** Has `reclaim` make room when free pages do not suffice. */
  onShortage(reclaim: Reclaim): void {
    this.#reclaim = reclaim;
  }

  /** True if `count` pages can be allocated now, idle ones included. */
  can(count: number): boolean {
    return count <= this.#numFree + this.#numIdle;
  }

  /** Takes `count` pages with one reference each. Errors: `out_of_pages`; ask `can` first. */
  allocate(count: number): PageId[] {
    if (count > this.#numFree && this.can(count)) this.#reclaim(count - this.#numFree);
    if (count > this.#numFree) throw fail('out_of_pages', `${count} KV pages are needed and ${this.#numFree} are free`);
    const pages: PageId[] = [];
    for (let i = 0; i < count; i++) {
      this.#numFree -= 1;
      const page = this.#free[this.#numFree] as PageId;
      if (this.#refs[page] !== 0) throw fail('integrity', `free KV page ${page} has ${this.#refs[page]} references`);
      this.#refs[page] = 1;
      pages.push(page);
    }
    return pages;
  }

  /** Adds a reference to a page in use. Errors: `integrity` for a free page. */
  share(page: PageId): void {
    const refs = this.#checkUsed(page);
    if (refs === 1 && this.#cached[page] === 1) this.#numIdle -= 1;
    this.#refs[page] = refs + 1;
  }

  /** Adds the cache's reference. Errors: `integrity` for a free page or one that the cache has. */
  cache(page: PageId): void {
    if (this.#cached[page] === 1) throw fail('integrity', `KV page ${page} is in the cache already`);
    this.share(page);
    this.#cached[page] = 1;
  }

  /** Drops the cache's reference. Errors: `integrity` for a page that the cache does not have. */
  uncache(page: PageId): void {
    if (this.#cached[page] !== 1) throw fail('integrity', `KV page ${page} is not in the cache`);
    if (this.isIdle(page)) this.#numIdle -= 1;
    this.#cached[page] = 0;
    this.free([page]);
  }

  /** True if only the cache refers to the page. */
  isIdle(page: PageId): boolean {
    return this.#cached[page] === 1 && this.#refs[page] === 1;
  }

  /** References to a page; 0 when it is free. */
  references(page: PageId): number {
    return this.#refs[page] ?? 0;
  }

  /** Drops one reference of each page; those without any are free again. Errors: `integrity` for a free page. */
  free(pages: Iterable<PageId>): void {
    for (const page of pages) {
      const refs = this.#checkUsed(page) - 1;
      this.#refs[page] = refs;
      if (refs === 1 && this.#cached[page] === 1) this.#numIdle += 1;
      if (refs > 0) continue;
      if (this.#cached[page] === 1) throw fail('integrity', `KV page ${page} of the cache was freed by others`);
      this.#free[this.#numFree] = page;
      this.#numFree += 1;
    }
  }

  /**
   * Compares the references with the tables that exist, the cache's own among them. Errors: `integrity` when a page is
   * leaked, lost, free and in a table, or counted wrongly.
   */
  checkIntegrity(tables: Iterable<{ readonly pages: readonly PageId[] }>): void {
    const found = new Uint32Array(this.numPages);
    for (const { pages } of tables) {
      for (const page of pages) found[page] = (found[page] ?? 0) + 1;
    }
    const idle = this.#refs.reduce((sum, _, page) => sum + (this.isIdle(page as PageId) ? 1 : 0), 0);
    if (idle !== this.#numIdle) throw fail('integrity', `${idle} KV pages are idle, ${this.#numIdle} were counted`);
    const free = new Set(this.#free.subarray(0, this.#numFree));
    if (free.size !== this.#numFree) throw fail('integrity', 'a KV page is twice in the free list');
    for (let page = 0; page < this.numPages; page++) {
      const refs = this.#refs[page] ?? 0;
      if (refs !== found[page]) {
        throw fail('integrity', `KV page ${page} has ${refs} references, the tables hold ${found[page]}`);
      }
      if ((refs === 0) !== free.has(page)) throw fail('integrity', `KV page ${page} is both free and used, or neither`);
    }
  }

  #checkUsed(page: PageId): number {
    const refs = this.#refs[page];
    if (refs === undefined || refs === 0) throw fail('integrity', `KV page ${page} is not in use`);
    return refs;
  }
}
