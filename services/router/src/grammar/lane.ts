import type { Clock, Logger } from '@guildhall/common';
import { EngineThread } from './engine-thread.ts';
import type { GrammarSource, MatcherState, ThreadOptions } from './messages.ts';

/** Time that matchers may take for their answers, milliseconds: beyond it their thread is replaced. */
const ANSWER_MS = 10_000;

export interface LaneOptions {
  thread: ThreadOptions;
  clock: Clock;
  logger: Logger;
}

interface Advance {
  matcher: number;
  token: number;
  resolve: (state: MatcherState) => void;
  reject: (error: unknown) => void;
}

/**
 * A thread in which matchers live, replaced when it is lost: `generation` tells matchers that they have to be opened
 * again. What is asked in one turn of the event loop goes to it as one message.
 */
export class Lane {
  readonly #o: LaneOptions;
  #thread: EngineThread;
  #advances: Advance[] = [];
  #closes: number[] = [];
  #flushing = false;
  #matchers = 0;
  #generation = 0;
  #stopped = false;

  /** In a thread of its own, or in one that has compiled something already. */
  constructor(options: LaneOptions, thread = new EngineThread(options.thread, options.clock)) {
    this.#o = options;
    this.#thread = thread;
  }

  /** Changes with the thread. */
  get generation(): number {
    this.#renew();
    return this.#generation;
  }

  /** Compiles a grammar that is known to compile in about `expectedMs`. Returns the bytes that the engine has taken. */
  async compile(source: GrammarSource, expectedMs: number): Promise<number> {
    this.#renew();
    return (await this.#thread.compile(source, ANSWER_MS + 4 * expectedMs)).heapBytes;
  }

  newMatcher(): number {
    return this.#matchers++;
  }

  async open(
    matcher: number,
    key: string,
    stopIds: readonly number[],
    tokens: readonly number[],
  ): Promise<MatcherState> {
    const call = { kind: 'open', matcher, key, stopIds, tokens: Int32Array.from(tokens) } as const;
    return (await this.#thread.states(call, ANSWER_MS))[0] as MatcherState;
  }

  advance(matcher: number, token: number): Promise<MatcherState> {
    const { promise, resolve, reject } = Promise.withResolvers<MatcherState>();
    this.#advances.push({ matcher, token, resolve, reject });
    this.#flushSoon();
    return promise;
  }

  async rollback(matcher: number, count: number): Promise<MatcherState> {
    return (await this.#thread.states({ kind: 'rollback', matcher, count }, ANSWER_MS))[0] as MatcherState;
  }

  close(matcher: number): void {
    this.#closes.push(matcher);
    this.#flushSoon();
  }

  forget(key: string): void {
    this.#thread.tell({ kind: 'forget', key });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#thread.terminate();
  }

  #renew(): void {
    if (this.#thread.lost === null || this.#stopped) return;
    this.#o.logger.error({ err: this.#thread.lost }, 'the grammar thread is replaced');
    this.#generation += 1;
    this.#thread = new EngineThread(this.#o.thread, this.#o.clock);
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    const [advances, closes] = [this.#advances, this.#closes];
    [this.#advances, this.#closes, this.#flushing] = [[], [], false];
    if (advances.length > 0) {
      const matchers = advances.map(({ matcher }) => matcher);
      const tokens = advances.map(({ token }) => token);
      this.#thread.states({ kind: 'advance', matchers, tokens }, ANSWER_MS).then(
        (states) => advances.forEach(({ resolve }, i) => resolve(states[i] as MatcherState)),
        (err: unknown) => advances.forEach(({ reject }) => reject(err)),
      );
    }
    for (const matcher of closes) this.#thread.tell({ kind: 'close', matcher });
  }
}
