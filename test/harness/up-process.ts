import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { guildhall, MAIN } from './command.ts';
import { until } from './wait.ts';

interface Recorded {
  name: string;
  pid: number;
  startTicks: string;
}

/** A running `guildhall serve`, and commands that use its state folder. */
export class UpProcess {
  readonly state: string;
  readonly #child: ChildProcess;
  #output = '';

  /** `state` is the folder of its state; `args` are further flags. */
  constructor(state: string, args: readonly string[] = []) {
    this.state = state;
    const flags = ['--served-model-name', 'tiny', '--listen', '127.0.0.1:0', '--state-dir', state, ...args];
    this.#child = spawn(process.execPath, [MAIN, 'serve', '--json', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (data: Buffer) => (this.#output += data.toString()));
  }

  /** URL of its gateway, once it can serve. */
  async ready(): Promise<string> {
    await until(
      'the stack to be ready',
      () => {
        if (this.#ended) throw new Error(`it ended: ${this.#output}`);
        return /^\{"url"/m.test(this.#output);
      },
      300_000,
    );
    return (JSON.parse(/^\{"url".*$/m.exec(this.#output)?.[0] ?? '{}') as { url: string }).url;
  }

  /** What it wrote, once it has ended by itself. */
  async failure(): Promise<string> {
    await until('the stack to end', () => this.#ended);
    return this.#output;
  }

  /** Ends it as Ctrl-C does. */
  async stop(): Promise<void> {
    if (!this.#ended) this.#child.kill('SIGTERM');
    await until('the stack to end', () => this.#ended);
  }

  /** SIGKILL to every process at once, Redis too. */
  async killAll(): Promise<void> {
    const { processes, up } = JSON.parse(readFileSync(join(this.state, 'run.json'), 'utf8')) as {
      processes: Recorded[];
      up: Recorded;
    };
    for (const { pid } of [up, ...processes]) process.kill(pid, 'SIGKILL');
    await until('every process to end', () => this.#ended && !processes.some(isAlive));
  }

  /** Output of a command against this stack. Throws when it fails. */
  command(...args: string[]): Promise<string> {
    return guildhall([...args, '--state-dir', this.state]);
  }

  get #ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}

function isAlive({ pid, startTicks }: Recorded): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] !== 'Z' && fields[19] === startTicks;
  } catch {
    return false;
  }
}
