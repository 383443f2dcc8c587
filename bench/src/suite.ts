import type { Bandwidth } from './bandwidth.ts';
import type { ModelName, ModelSize } from './models/specs.ts';
import type { Progress } from './progress.ts';
import type { BenchRow, Machine } from './report.ts';

/** What the command line asks for. */
export interface BenchOptions {
  root: string;
  /** Folder of the bench models, written on demand. */
  modelsDir: string;
  size: ModelSize;
  models: ModelName[];
  threads: number;
  /** Timed repetitions of each measurement. */
  runs: number;
  /** Weight formats under our names; null where the suite is to choose. */
  weights: string[] | null;
  /** Compare with the peer. */
  peer: boolean;
  /** A `llama-bench` binary to use in the peer's place where it can. */
  llamaBench: string | null;
}

/** What a suite gets. */
export interface BenchContext {
  options: BenchOptions;
  machine: Machine;
  progress: Progress;
  bandwidth: Bandwidth;
  /** Whether the row is asked for (`--only`) and not already known (`--resume`). Ask before loading anything for it. */
  readonly wants: (name: string) => boolean;
  /** Adds a finished row to the report and to what `--resume` can go on from. Rows that were not asked for are dropped. */
  readonly add: (row: BenchRow) => void;
  /** Rows of the report so far, those of an interrupted run among them. */
  readonly rows: () => readonly BenchRow[];
  /** Puts a file beside the report, such as a picture; its name is appended to the report's. */
  readonly attach: (name: string, data: Buffer) => void;
}

/** One suite of the harness. */
export interface Suite {
  name: string;
  /** What it measures, one line for the usage text. */
  about: string;
  /** Measures and adds rows to the context, in the order of the report. */
  run(context: BenchContext): Promise<void>;
}
