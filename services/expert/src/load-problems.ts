import type { Clock, ErrorCode, EventKind, GuildhallError } from '@guildhall/common';

/** Why experts cannot be loaded, as others see it. */
export interface LoadProblem {
  code: ErrorCode;
  message: string;
}

/** What can be wrong at the same time: files of the checkpoint, getting an expert at all, memory for it. */
export type ProblemKind = 'memory' | 'expert' | 'files';

export interface LoadProblemsOptions {
  /** This worker. */
  id: string;
  clock: Clock;
  /** Writes to the cluster's event log. */
  append: (kind: EventKind, source: string, message: string, details: Record<string, unknown>) => void;
  onChange: () => void;
}

const KINDS: readonly ProblemKind[] = ['memory', 'expert', 'files'];
const MAX_TEXT = 500;
/** A problem that stays is said again after this time, a thousand experts that fail alike are said once. */
const AGAIN_MS = 60_000;

/** What keeps the worker from loading experts: in its entry in Redis, and as events. */
export class LoadProblems {
  readonly #o: LoadProblemsOptions;
  readonly #current = new Map<ProblemKind, LoadProblem>();
  readonly #said = new Map<string, number>();

  constructor(options: LoadProblemsOptions) {
    this.#o = options;
  }

  /** The gravest; null when nothing is wrong. */
  get current(): LoadProblem | null {
    for (const kind of KINDS) {
      const problem = this.#current.get(kind);
      if (problem !== undefined) return problem;
    }
    return null;
  }

  /** Notes a problem, or that it is over. `details` go into the event. */
  set(kind: ProblemKind, error: GuildhallError | null, details: Record<string, unknown> = {}): void {
    const before = this.#current.get(kind);
    if (error === null) {
      if (this.#current.delete(kind)) this.#o.onChange();
      return;
    }
    const { code } = error;
    const message = error.message.slice(0, MAX_TEXT);
    this.#current.set(kind, { code, message });
    if (before?.code !== code || before.message !== message) this.#o.onChange();
    this.#say(kind, { code, message }, details);
  }

  #say(kind: ProblemKind, { code, message }: LoadProblem, details: Record<string, unknown>): void {
    const { clock, append, id } = this.#o;
    const key = `${kind}/${code}`;
    const nowMs = clock.monotonicMs();
    if (nowMs - (this.#said.get(key) ?? -Infinity) < AGAIN_MS) return;
    this.#said.set(key, nowMs);
    append('load_failed', id, `${id} cannot load experts: ${message}`, { code, problem: kind, ...details });
  }
}
