import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface StackOptions {
  root: string;
  model: string;
  weights: string;
  threads: number;
  /** Write CPU profiles of every process, at their end. */
  profile: boolean;
  /** Where the experts are; by default in the router's process. */
  experts?: 'local' | 'remote';
  /** Collector that every process sends traces to. */
  otlp?: string | null;
  /** Further environment of every process. */
  env?: Record<string, string>;
}

/** Time that a stack may take until its first answer. */
const READY_LIMIT_MS = 300_000;

/** `guildhall up` as a child: gateway, and router with all experts, or with two workers. */
export class ServedStack {
  readonly url: string;
  readonly model: string;
  readonly #child: ChildProcess;
  readonly #dir: string;

  private constructor(child: ChildProcess, dir: string, ready: { url: string; model: string }) {
    this.#child = child;
    this.#dir = dir;
    this.url = ready.url;
    this.model = ready.model;
  }

  static async start(options: StackOptions): Promise<ServedStack> {
    const { root, model, weights, threads, profile, experts = 'local', otlp = null, env = {} } = options;
    const dir = mkdtempSync(join(tmpdir(), 'guildhall-bench-'));
    const flags = ['--json', '--experts', experts, '--model', model, '--weights', weights, '--threads', `${threads}`];
    const traces = otlp === null ? [] : ['--otlp', otlp];
    const args = [join(root, 'services/cli/src/main.ts'), 'up', ...flags, ...traces, '--state-dir', dir];
    const profiling = `--cpu-prof --cpu-prof-interval 500 --cpu-prof-dir=${join(dir, 'profiles')}`;
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_NO_WARNINGS: '1', ...(profile ? { NODE_OPTIONS: profiling } : {}), ...env },
    });
    const stack = await firstLine(child);
    return new ServedStack(child, dir, JSON.parse(stack) as { url: string; model: string });
  }

  /** Process ids by name, such as router-1. */
  pids(): Map<string, number> {
    const run = JSON.parse(readFileSync(join(this.#dir, 'run.json'), 'utf8')) as {
      processes: { name: string; pid: number }[];
    };
    return new Map(run.processes.map(({ name, pid }) => [name, pid]));
  }

  /** Ends every process; profiles are complete then. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGINT');
    await ended;
  }

  /** The profile of a process, after `stop`. */
  profileOf(pid: number): string | null {
    const dir = join(this.#dir, 'profiles');
    const name = existsSync(dir) ? readdirSync(dir).find((file) => file.includes(`.${pid}.`)) : undefined;
    return name === undefined ? null : join(dir, name);
  }

  dispose(): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

async function firstLine(child: ChildProcess): Promise<string> {
  let text = '';
  const timer = setTimeout(() => child.kill('SIGINT'), READY_LIMIT_MS);
  try {
    for await (const chunk of child.stdout ?? []) {
      text += String(chunk);
      if (text.includes('\n')) return text.slice(0, text.indexOf('\n'));
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error('the stack ended before it was ready');
}
