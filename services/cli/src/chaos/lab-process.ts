import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, fail } from '@guildhall/common';
import { type Host, onHost } from '../net/network.ts';
import { Child, type Listening } from '../stack/child.ts';
import { serviceMain } from '../stack/state-dir.ts';

/** How one process of the lab is started, every time. */
export interface ProcessSpec {
  /** Its id in the cluster. */
  name: string;
  /** Folder of the service, or null for a program of the system. */
  service: string | null;
  command: string;
  args: string[];
  /** Written to its stdin, which then ends; null keeps the pipe open. */
  stdin: string | null;
  env: NodeJS.ProcessEnv;
}

/** A process of the lab on a host of its own: may be killed, stopped and started again. */
export class LabProcess {
  readonly name: string;
  readonly host: Host;
  readonly #spec: ProcessSpec;
  readonly #logs: string;
  #child: Child | null = null;
  #stopped = false;

  constructor(spec: ProcessSpec, host: Host, logs: string) {
    this.name = spec.name;
    this.host = host;
    this.#spec = spec;
    this.#logs = logs;
    mkdirSync(logs, { recursive: true });
  }

  /** Starts it, with further arguments and variables for this run only. */
  start(extra: { args?: string[]; env?: NodeJS.ProcessEnv } = {}): void {
    if (this.running) throw fail('internal', `${this.name} runs already`);
    const { command, args, env, stdin } = this.#spec;
    const [program, rest] = onHost(this.host, command, [...args, ...(extra.args ?? [])]);
    const logFile = join(this.#logs, `${this.name}.log`);
    this.#child = new Child({ name: this.name, command: program, args: rest, env: { ...env, ...extra.env }, logFile });
    this.#stopped = false;
    if (stdin !== null) this.#child.process.stdin?.end(stdin);
  }

  get running(): boolean {
    const child = this.#child?.process;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** True while SIGSTOP holds it. */
  get stopped(): boolean {
    return this.running && this.#stopped;
  }

  /** Address as soon as it listens. Throws as `Child.listening`. */
  async listening(): Promise<Listening> {
    if (this.#child === null) throw fail('internal', `${this.name} was not started`);
    return await this.#child.listening();
  }

  /** Number of the process; 0 when it does not run. */
  get pid(): number {
    return this.running ? (this.#child?.process.pid ?? 0) : 0;
  }

  /** Sends a signal; stopping and going on are remembered. */
  signal(name: NodeJS.Signals): void {
    if (!this.running) return;
    if (name === 'SIGSTOP') this.#stopped = true;
    if (name === 'SIGCONT') this.#stopped = false;
    this.#child?.process.kill(name);
  }

  /** Ends it at once, as the kernel does; resolves when it has ended. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#child?.exited;
  }

  /** Asks it to end, and ends it after `graceMs`. */
  async stop(clock: Clock, graceMs = 3000): Promise<void> {
    this.signal('SIGCONT');
    this.signal('SIGTERM');
    const timer = clock.setTimer(graceMs, () => this.signal('SIGKILL'));
    await this.#child?.exited;
    timer.cancel();
  }

  /** Last lines that it wrote. */
  lastWords(): string {
    return this.#child?.lastWords() ?? '';
  }
}

/** A service of the cluster, run from its sources. */
export function serviceSpec(name: string, service: string, args: string[], env: NodeJS.ProcessEnv): ProcessSpec {
  const main = serviceMain(service);
  return { name, service, command: process.execPath, args: [main, ...args, '--parent-pipe'], stdin: null, env };
}

/** A redis-server that keeps nothing on disk. Its password travels by stdin, where no list of processes shows it. */
export function redisSpec(host: Host, port: number, password: string): ProcessSpec {
  const config = [`bind ${host.ip}`, `port ${port}`, `requirepass ${password}`, 'save ""', 'appendonly no'];
  const stdin = `${[...config, 'daemonize no', 'lazyfree-lazy-expire yes', 'dir /run'].join('\n')}\n`;
  return { name: host.name, service: null, command: 'redis-server', args: ['-'], stdin, env: process.env };
}
