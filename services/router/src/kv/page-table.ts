import { fail } from '@guildhall/common';
import { PAGE_TOKENS, type PageId, type PagePool, pagesFor } from './page-pool.ts';

/** Pages of one sequence, in the order of its tokens. */
export class PageTable {
  readonly #pages: PageId[] = [];
  /** The same pages for native calls; grown by doubling. */
  #ids = new Int32Array(8);

  get pages(): readonly PageId[] {
    return this.#pages;
  }

  get numPages(): number {
    return this.#pages.length;
  }

  /** Tokens that fit in the pages it has. */
  get capacity(): number {
    return this.#pages.length * PAGE_TOKENS;
  }

  /** Pages missing for `tokens` tokens. */
  missing(tokens: number): number {
    return Math.max(0, pagesFor(tokens) - this.#pages.length);
  }

  /** Grows to hold `tokens` tokens. Errors: `out_of_pages`; ask the pool's `can(missing(tokens))` first. */
  grow(pool: PagePool, tokens: number): void {
    this.#append(pool.allocate(this.missing(tokens)));
  }

  /** Adds pages that others have too; takes a reference to each. */
  shareLast(pool: PagePool, pages: readonly PageId[]): void {
    for (const page of pages) pool.share(page);
    this.#append(pages);
  }

  /** Puts a page of the same contents in the place of page `index`, which is given back. */
  replace(pool: PagePool, index: number, page: PageId): void {
    const old = this.#pages[index];
    if (old === undefined) throw fail('integrity', `the table has no page ${index}`);
    if (old === page) return;
    pool.share(page);
    this.#pages[index] = page;
    this.#ids[index] = page;
    pool.free([old]);
  }

  #append(added: readonly PageId[]): void {
    const needed = this.#pages.length + added.length;
    if (needed > this.#ids.length) {
      const wider = new Int32Array(Math.max(needed, this.#ids.length * 2));
      wider.set(this.#ids);
      this.#ids = wider;
    }
    this.#ids.set(added, this.#pages.length);
    this.#pages.push(...added);
  }

  /** Page numbers [numPages], valid until the table changes. */
  ids(): Int32Array {
    return this.#ids.subarray(0, this.#pages.length);
  }

  /** Gives every page back. */
  release(pool: PagePool): void {
    pool.free(this.#pages);
    this.#pages.length = 0;
  }
}
