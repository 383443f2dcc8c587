import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from '../harness/namespaces.ts';
import { readSamples, sumOf } from '../harness/samples.ts';
import { ROOT } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';

const MAIN = join(ROOT, 'services', 'cli', 'src', 'main.ts');

/** A `guildhall` command that stays: `cluster up` or `join`. */
export class Running {
  readonly child: ChildProcess;
  output = '';

  constructor(child: ChildProcess) {
    this.child = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
  }

  async says(text: string, limitMs = 90_000): Promise<void> {
    await until(
      `"${text}"`,
      () => {
        if (this.output.includes(text)) return true;
        if (this.child.exitCode !== null) throw new Error(`it ended with ${this.child.exitCode}: ${this.output}`);
        return false;
      },
      limitMs,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.output}`, { cause: error });
    });
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill(signal);
      await once(this.child, 'exit');
    }
    return this.child.exitCode;
  }
}

/** Guildhall on one machine, with a home of its own. */
export class Installation {
  readonly machine: Machine;
  readonly home: string;
  readonly #running: Running[] = [];

  constructor(machine: Machine, scratch: string) {
    this.machine = machine;
    this.home = join(scratch, machine.name);
    mkdirSync(this.home, { recursive: true });
  }

  get #env(): NodeJS.ProcessEnv {
    return { GUILDHALL_HOME: this.home, NODE_NO_WARNINGS: '1' };
  }

  /** Starts a command that stays. */
  start(...args: string[]): Running {
    const running = new Running(this.machine.spawn(process.execPath, [MAIN, ...args], this.#env));
    this.#running.push(running);
    return running;
  }

  /** Runs a command to its end; its JSON output. Throws with what it said. */
  async json<T>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.machine.run(process.execPath, [MAIN, ...args, '--json'], this.#env);
    if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Runs a command that fails; the code of its error. */
  async errorCode(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.machine.run(process.execPath, [MAIN, ...args, '--json'], this.#env);
    if (code === 0) throw new Error(`${args.join(' ')} was expected to fail: ${stdout}`);
    const line = stderr.split('\n').findLast((text) => text.startsWith('{"error"')) ?? '{}';
    return (JSON.parse(line) as { error?: { code: string } }).error?.code ?? stderr;
  }

  /** Folder of the member that joined from here. */
  get joined(): string {
    const base = join(this.home, 'joined');
    const [name] = existsSync(base) ? readdirSync(base) : [];
    if (name === undefined) throw new Error(`nothing has joined from ${this.machine.name}`);
    return join(base, name);
  }

  /** Expert rows of each worker, as the router of this head counts them. */
  async expertRows(): Promise<Map<string, number>> {
    const log = readFileSync(join(this.home, 'cluster', 'run', 'logs', 'router-1.log'), 'utf8');
    const line = log.split('\n').findLast((text) => text.startsWith('{"event":"listening"')) ?? '{}';
    const { admin } = JSON.parse(line) as { admin: string };
    const page = await this.machine.script(
      `console.log(JSON.stringify(await (await fetch('http://${admin}/metrics')).text()))`,
    );
    const samples = readSamples(String(page));
    const workers = ['expert-1', 'expert-2', 'expert-3'];
    return new Map(
      workers.map((worker) => [worker, sumOf(samples, 'guildhall_expert_rows_total', `worker="${worker}"`)]),
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#running.map((running) => running.stop()));
  }
}
