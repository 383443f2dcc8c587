import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const STOP_LIMIT_MS = 10_000;
const LINES_SHOWN = 30;

/** A TCP port on loopback that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** A program of the bench that runs until it is stopped; it is killed when this process dies. Its output goes to a file. */
export class Daemon {
  readonly name: string;
  readonly logFile: string;
  readonly #child: ChildProcess;
  #stopping = false;

  constructor(name: string, program: string, args: readonly string[], logFile: string, env: NodeJS.ProcessEnv = {}) {
    this.name = name;
    this.logFile = logFile;
    const log = openSync(logFile, 'a');
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...env },
    });
    closeSync(log);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** The end of what it printed. */
  tail(lines = LINES_SHOWN): string {
    try {
      return readFileSync(this.logFile, 'utf8').trim().split('\n').slice(-lines).join('\n');
    } catch {
      return '';
    }
  }

  /** Waits until `check` holds. Throws with the end of its log when the process ends first, or after `limitMs`. */
  async ready(check: () => Promise<boolean>, limitMs: number): Promise<void> {
    const end = performance.now() + limitMs;
    for (;;) {
      if (this.ended) throw new Error(`${this.name} ended at its start:\n${this.tail()}`);
      if (await check().catch(() => false)) return;
      if (performance.now() > end) throw new Error(`${this.name} was not ready after ${limitMs} ms:\n${this.tail()}`);
      await sleep(100);
    }
  }

  /** SIGTERM, then SIGKILL. */
  async stop(): Promise<void> {
    if (this.#stopping || this.ended) return;
    this.#stopping = true;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_LIMIT_MS);
    await ended;
    clearTimeout(timer);
  }
}
