import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Request, SubjectInfo, SubjectSpec, Timing, Work } from './protocol.ts';

/** An engine in a child process, as the harness drives it. Close it: it holds gigabytes. */
export class Subject {
  readonly info: SubjectInfo;
  /** Everything that it does is one process's work. */
  readonly isolated = true;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, info: SubjectInfo) {
    this.#child = child;
    this.info = info;
  }

  /**
   * Starts a child and loads a model in it.
   * @param entry the child's module beside this one.
   * @throws Error with the child's own message if it cannot load, or if it dies.
   */
  static async start(entry: string, spec: SubjectSpec, env: Record<string, string> = {}): Promise<Subject> {
    const path = fileURLToPath(new URL(entry, import.meta.url));
    // Nothing but the report may reach the harness's stdout.
    const child = fork(path, [], { stdio: ['ignore', 2, 2, 'ipc'], env: { ...process.env, ...env } });
    try {
      const info = (await call(child, { call: 'load', spec })) as SubjectInfo;
      return new Subject(child, info);
    } catch (error) {
      child.kill();
      throw error;
    }
  }

  /** Process id, for telling its work from others'. */
  get pid(): number {
    return this.#child.pid ?? -1;
  }

  async prepare(work: Work): Promise<void> {
    await call(this.#child, { call: 'prepare', work });
  }

  async run(work: Work): Promise<Timing> {
    return (await call(this.#child, { call: 'run', work })) as Timing;
  }

  async top(tokens: number[]): Promise<number[]> {
    return (await call(this.#child, { call: 'top', tokens })) as number[];
  }

  /** Ends the child and waits until its memory is free. */
  async close(): Promise<void> {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(timer);
  }
}

function call(child: ChildProcess, request: Request): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void): void => {
      child.off('message', onMessage);
      child.off('exit', onExit);
      done();
    };
    const onMessage = (reply: { result: unknown } | { error: string }): void => {
      settle(() => {
        if ('error' in reply) reject(new Error(reply.error));
        else resolve(reply.result);
      });
    };
    const onExit = (code: number | null, signal: string | null): void => {
      settle(() => reject(new Error(`the process ended in ${request.call}: ${signal ?? `exit code ${code}`}`)));
    };
    child.on('message', onMessage);
    child.once('exit', onExit);
    child.send(request);
  });
}
