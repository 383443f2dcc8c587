import { once } from 'node:events';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { fail } from '@guildhall/common';
import type { PlanInput, PlanResult } from '../placement/types.ts';
import { messageOf, type PlanAnswer } from './message.ts';

/** The planner's module has the ending that this one has: sources run as they are, images compiled. */
const THREAD = new URL(`./thread${extname(fileURLToPath(import.meta.url))}`, import.meta.url);

/**
 * Plans in a thread of its own: the plan of a large cluster takes seconds, and a controller that does not renew its lease
 * meanwhile would lose the lead over it.
 */
export class Planner {
  #thread: Worker | null = null;

  /** One plan at a time. Throws `internal` when the planner or its thread fails; the next call begins with a new one. */
  async plan(input: PlanInput): Promise<PlanResult> {
    this.#thread ??= new Worker(THREAD);
    const thread = this.#thread;
    const abort = new AbortController();
    const { signal } = abort;
    try {
      const ended = once(thread, 'exit', { signal }).then((): PlanAnswer => ({ error: 'the thread has ended' }));
      ended.catch(() => undefined);
      thread.postMessage(messageOf(input));
      const message = once(thread, 'message', { signal }).then(([answer]) => answer as PlanAnswer);
      const answer = await Promise.race([message, ended]);
      if ('error' in answer) throw fail('internal', `the planner failed: ${answer.error}`);
      return answer.result;
    } catch (err) {
      await this.stop();
      throw err;
    } finally {
      abort.abort();
    }
  }

  /** Ends the thread; a plan in progress fails. */
  async stop(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await thread?.terminate();
  }
}
