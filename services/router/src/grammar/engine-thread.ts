import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type Clock, errorMessage, fail, type GuildhallError, type Timer } from '@guildhall/common';
import type {
  CompileResult,
  GrammarSource,
  MatcherState,
  ThreadCall,
  ThreadMessage,
  ThreadOptions,
  ThreadReply,
} from './messages.ts';

/** The thread's module has the ending that this one has: sources run as they are, images compiled. */
const THREAD = new URL(`./thread${extname(fileURLToPath(import.meta.url))}`, import.meta.url);

interface PendingCall {
  settle(reply: ThreadReply): void;
  fail(error: GuildhallError): void;
}

/** A thread with an instance of the grammar engine. Once it is lost every call fails. */
export class EngineThread {
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #calls = new Map<number, PendingCall>();
  readonly #started = Promise.withResolvers<void>();
  #count = 0;
  #lost: GuildhallError | null = null;

  constructor(options: ThreadOptions, clock: Clock) {
    this.#clock = clock;
    // Its stack is far below what the engine has of its own, so that it ends first.
    this.#worker = new Worker(THREAD, { workerData: options, resourceLimits: { stackSizeMb: 4 } });
    this.#worker.on('message', (reply: ThreadReply) => this.#onReply(reply));
    this.#worker.on('error', (err: unknown) => this.#onLost(errorMessage(err)));
    this.#worker.on('exit', () => this.#onLost('the thread has ended'));
    this.#started.promise.then(
      () => this.#hold(),
      () => undefined,
    );
  }

  /** Why it is lost, or null. */
  get lost(): GuildhallError | null {
    return this.#lost;
  }

  /** Resolves when it could compile. */
  get started(): Promise<void> {
    return this.#started.promise;
  }

  /** Throws `internal` with the engine's words; `deadline_exceeded` after `limitMs`, and the thread is lost. */
  async compile(source: GrammarSource, limitMs: number): Promise<CompileResult> {
    await this.started;
    const reply = await this.#call({ kind: 'compile', source }, limitMs);
    if (reply.kind !== 'compiled') throw fail('integrity', 'the grammar thread answered another call');
    return reply.result;
  }

  /** States of matchers after a call, in its order. */
  async states(call: Exclude<ThreadCall, { kind: 'compile' }>, limitMs: number): Promise<MatcherState[]> {
    const reply = await this.#call(call, limitMs);
    if (reply.kind !== 'states') throw fail('integrity', 'the grammar thread answered another call');
    return reply.states;
  }

  tell(message: Extract<ThreadMessage, { kind: 'close' | 'forget' }>): void {
    if (this.#lost === null) this.#worker.postMessage(message);
  }

  async terminate(): Promise<void> {
    this.#onLost('the thread was ended');
    await this.#worker.terminate();
  }

  #call(call: ThreadCall, limitMs: number): Promise<ThreadReply> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    const number = this.#count++;
    const { promise, resolve, reject } = Promise.withResolvers<ThreadReply>();
    const timer: Timer = this.#clock.setTimer(limitMs, () => {
      reject(fail('deadline_exceeded', `the grammar engine took more than ${limitMs} ms`));
      void this.terminate();
    });
    this.#calls.set(number, {
      settle: (reply) => {
        timer.cancel();
        resolve(reply);
      },
      fail: (error) => {
        timer.cancel();
        reject(error);
      },
    });
    this.#worker.postMessage({ ...call, call: number });
    this.#hold();
    return promise;
  }

  #onReply(reply: ThreadReply): void {
    if (reply.kind === 'started') return this.#started.resolve();
    if (reply.kind === 'failed') return this.#onLost(reply.message);
    this.#calls.get(reply.call)?.settle(reply);
    this.#calls.delete(reply.call);
    this.#hold();
  }

  /** A thread that nobody waits for does not keep the process. */
  #hold(): void {
    if (this.#calls.size > 0) this.#worker.ref();
    else this.#worker.unref();
  }

  #onLost(why: string): void {
    if (this.#lost !== null) return;
    this.#lost = fail('internal', why);
    this.#started.reject(this.#lost);
    for (const call of this.#calls.values()) call.fail(this.#lost);
    this.#calls.clear();
  }
}
