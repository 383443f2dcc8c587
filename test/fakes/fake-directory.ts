import { type NameSpace, type PageName, PageNames } from '@guildhall/common';

interface Holding {
  names: Set<PageName>;
  /** Names of pages with a state behind them. */
  states: Set<PageName>;
}

interface Answer {
  router: string;
  pages: number;
  resumePages: number;
  resumeTier: string | null;
}

/** A directory of shared pages in memory, as gateways ask it. It can be slow, or away. */
export class FakeDirectory {
  /** Names of each lookup. */
  readonly lookups: (readonly PageName[])[] = [];
  /** Thrown by lookups while set. */
  failure: Error | null = null;
  readonly #holdings = new Map<string, Holding>();
  #hold: Promise<void> | null = null;
  #release: () => void = () => undefined;

  /** Says that a router has the first `pages` pages of a prompt, with the state behind the last one. */
  add(router: string, space: NameSpace, promptIds: readonly number[], pages: number): void {
    const names = new PageNames(space, Int32Array.from(promptIds)).first(pages);
    const holding = this.#holdings.get(router) ?? { names: new Set(), states: new Set() };
    for (const name of names) holding.names.add(name);
    const last = names.at(-1);
    if (last !== undefined) holding.states.add(last);
    this.#holdings.set(router, holding);
  }

  /** Forgets everything. */
  clear(): void {
    this.#holdings.clear();
    this.lookups.length = 0;
    this.failure = null;
    this.release();
  }

  /** Lookups answer only after `release`. */
  hang(): void {
    this.#hold = new Promise((resolve) => (this.#release = resolve));
  }

  release(): void {
    this.#hold = null;
    this.#release();
  }

  async lookup(names: readonly PageName[], options: { stateless: boolean }): Promise<Answer[]> {
    this.lookups.push(names);
    if (this.failure !== null) throw this.failure;
    await this.#hold;
    return [...this.#holdings].flatMap(([router, { names: held, states }]) => {
      const missing = names.findIndex((name) => !held.has(name));
      const pages = missing < 0 ? names.length : missing;
      const deepest = names.slice(0, pages).findLastIndex((name) => options.stateless || states.has(name));
      return pages === 0 ? [] : [{ router, pages, resumePages: deepest + 1, resumeTier: 'device' }];
    });
  }
}
