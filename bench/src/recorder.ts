import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchRow } from './report.ts';
import type { BenchOptions } from './suite.ts';

/** Rows of an interrupted run, and what they are valid for. */
interface Kept {
  key: string;
  rows: BenchRow[];
}

/** Collects the rows of one run and keeps them on disk as they come, so that an interrupted run can go on. */
export class Recorder {
  readonly #path: string;
  readonly #key: string;
  readonly #only: RegExp | null;
  readonly #rows = new Map<string, BenchRow>();
  /** Rows of the interrupted run that have not been asked for yet. */
  readonly #kept: Map<string, BenchRow>;

  constructor(run: { suite: string; commit: string; options: BenchOptions; only: RegExp | null; resume: boolean }) {
    const { suite, commit, options } = run;
    const { threads, runs, size, peer, llamaBench } = options;
    this.#path = join(options.root, '.guildhall', `bench-${suite}.json`);
    this.#key = JSON.stringify({ commit, threads, runs, size, peer, llamaBench });
    this.#only = run.only;
    this.#kept = new Map((run.resume ? this.#load() : []).map((row) => [row.name, row]));
  }

  /** Whether a row is asked for and not known yet; a known one joins the report. */
  readonly wants = (name: string): boolean => {
    if (this.#only !== null && !this.#only.test(name)) return false;
    const kept = this.#kept.get(name);
    if (kept !== undefined) this.#rows.set(name, kept);
    return !this.#rows.has(name);
  };

  readonly add = (row: BenchRow): void => {
    if (this.#only !== null && !this.#only.test(row.name)) return;
    this.#rows.set(row.name, row);
    this.#store();
  };

  rows(): BenchRow[] {
    return [...this.#rows.values()];
  }

  #load(): BenchRow[] {
    try {
      const kept = JSON.parse(readFileSync(this.#path, 'utf8')) as Kept;
      return kept.key === this.#key ? kept.rows.filter(({ value }) => value !== null) : [];
    } catch {
      return [];
    }
  }

  #store(): void {
    const rows = new Map([...this.#kept, ...this.#rows]);
    mkdirSync(join(this.#path, '..'), { recursive: true });
    writeFileSync(`${this.#path}.part`, JSON.stringify({ key: this.#key, rows: [...rows.values()] } satisfies Kept));
    renameSync(`${this.#path}.part`, this.#path);
  }
}
