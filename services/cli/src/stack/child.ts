import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, type WriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { fail } from '@guildhall/common';
import type { RunProcess } from './state-dir.ts';
import { startTicks } from './processes.ts';

/** What a service says on stdout once its listener is open. */
export interface Listening {
  address: string;
  admin: string | null;
}

export interface ChildSpec {
  name: string;
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  logFile: string;
  /** Written to stdin at start; the pipe stays open, and its end tells the child that we are gone. */
  stdin?: string;
  /** Told of each step of long work that the process logs. */
  onProgress?: (progress: ChildProgress) => void;
}

/** A step of long work in a child: `done` of `total`, and what of. */
export interface ChildProgress {
  name: string;
  what: string;
  done: number;
  total: number;
}

/** A process of the stack that ends when we end: by the kernel's parent-death signal, and by the end of its stdin. */
export class Child {
  readonly name: string;
  readonly process: ChildProcess;
  readonly startedAt = new Date().toISOString();
  /** Resolves with the reason when the process ends. */
  readonly exited: Promise<string>;
  #lastLines: string[] = [];
  readonly #log: WriteStream;
  readonly #listening: Promise<Listening>;

  constructor(spec: ChildSpec) {
    this.name = spec.name;
    this.#log = createWriteStream(spec.logFile, { flags: 'a', mode: 0o600 });
    const [command, args] = withParentDeathSignal(spec.command, spec.args);
    this.process = spawn(command, args, { env: spec.env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.process.stdin?.on('error', () => undefined);
    if (spec.stdin !== undefined) this.process.stdin?.write(spec.stdin);
    this.exited = new Promise((resolve) => {
      this.process.once('error', (error) => resolve(`could not be started: ${error.message}`));
      this.process.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`));
    });
    this.#listening = this.#readOutput(spec.onProgress ?? null);
    this.#listening.catch(() => undefined);
  }

  /** Address of the service, as soon as it listens. Errors: `internal` when it ends before, with its last words. */
  listening(): Promise<Listening> {
    return this.#listening;
  }

  /** Last lines that the process wrote, for error messages. */
  lastWords(): string {
    return this.#lastLines.map((line) => `    ${line}`).join('\n');
  }

  record(): RunProcess {
    const pid = this.process.pid ?? 0;
    return { name: this.name, pid, startTicks: startTicks(pid) ?? '', startedAt: this.startedAt };
  }

  #readOutput(onProgress: ChildSpec['onProgress'] | null): Promise<Listening> {
    return new Promise((resolve, reject) => {
      const onLine = (line: string, isStdout: boolean): void => {
        this.#log.write(`${line}\n`);
        this.#lastLines.push(line);
        if (this.#lastLines.length > 8) this.#lastLines.shift();
        const listening = isStdout ? parseListening(line) : null;
        if (listening !== null) resolve(listening);
        const progress = onProgress ? parseProgress(this.name, line) : null;
        if (progress !== null) onProgress?.(progress);
      };
      for (const stream of [this.process.stdout, this.process.stderr]) {
        if (stream === null) continue;
        createInterface({ input: stream }).on('line', (line) => onLine(line, stream === this.process.stdout));
      }
      void this.exited.then((reason) => {
        this.#log.end();
        reject(fail('internal', `${this.name} ended before it was ready (${reason})\n${this.lastWords()}`));
      });
    });
  }
}

function parseListening(line: string): Listening | null {
  if (!line.startsWith('{"event":"listening"')) return null;
  try {
    const { address, admin } = JSON.parse(line) as { address: string; admin?: string | null };
    return { address, admin: admin ?? null };
  } catch {
    return null;
  }
}

/** A log line with numbers `done` and `total`, or null. */
function parseProgress(name: string, line: string): ChildProgress | null {
  if (!line.includes('"total":')) return null;
  try {
    const { msg, done, total } = JSON.parse(line) as { msg?: unknown; done?: unknown; total?: unknown };
    if (typeof msg !== 'string' || typeof done !== 'number' || typeof total !== 'number') return null;
    return { name, what: msg, done, total };
  } catch {
    return null;
  }
}

const SETPRIV = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path));

/** `setpriv --pdeathsig` keeps the process id, so the child is still ours. */
function withParentDeathSignal(command: string, args: string[]): [string, string[]] {
  if (SETPRIV === undefined) return [command, args];
  return [SETPRIV, ['--pdeathsig', 'TERM', '--', command, ...args]];
}
