import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { SubjectInfo, Timing, Work } from './protocol.ts';

/** One result of `llama-bench -o json`. */
interface LlamaBenchResult {
  build_commit?: string;
  avg_ns: number;
}

/**
 * A `llama-bench` binary in the peer's place: prompts and single sequences, each run a process of its own. It has no
 * test of many sequences.
 */
export class LlamaBench {
  readonly info: SubjectInfo;
  /** It loads the model in each run, so that foreign load cannot be told from its own. */
  readonly isolated = false;
  readonly #path: string;
  readonly #model: string;
  readonly #threads: number;

  constructor(path: string, model: string, threads: number) {
    this.#path = path;
    this.#model = model;
    this.#threads = threads;
    this.info = { engine: 'llama-bench', config: { path }, loadSeconds: 0, bytes: null };
  }

  get pid(): number {
    return process.pid;
  }

  /** @returns 'unable' for work that the program cannot measure. */
  async prepare(work: Work): Promise<'unable' | void> {
    if (work.kind === 'batch') return 'unable';
  }

  async run(work: Work): Promise<Timing> {
    const test = work.kind === 'prefill' ? ['-p', String(work.tokens), '-n', '0'] : this.#decodeTest(work);
    const fixed = ['-m', this.#model, '-t', String(this.#threads), '-r', '1', '-fa', '1', '-mmp', '0', '-o', 'json'];
    const { stdout } = await promisify(execFile)(this.#path, [...fixed, ...test], { maxBuffer: 1 << 24 });
    const results = JSON.parse(stdout) as LlamaBenchResult[];
    const last = results.at(-1);
    if (last === undefined) throw new Error(`${this.#path} printed no result`);
    return { seconds: last.avg_ns / 1e9 };
  }

  async close(): Promise<void> {}

  #decodeTest(work: Work): string[] {
    if (work.kind !== 'decode') throw new Error('llama-bench cannot measure many sequences');
    return ['-p', '0', '-n', String(work.steps), '-d', String(work.depth)];
  }
}
