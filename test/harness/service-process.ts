import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Root of the checkout. */
export const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));
export const TINY = join(ROOT, 'models', 'tiny');

export interface ServiceSpec {
  service: string;
  args: string[];
  env: Record<string, string>;
}

/** One real service process, as `guildhall serve SERVICE` runs it. */
export class ServiceProcess {
  readonly child: ChildProcess;
  readonly spec: ServiceSpec;
  /** Everything that it wrote, for assertions and failure messages. */
  output = '';
  readonly #listening: Promise<{ address: string; admin: string }>;

  constructor(spec: ServiceSpec) {
    this.spec = spec;
    const main = join(ROOT, 'services', spec.service, 'src', 'main.ts');
    const listen = spec.args.includes('--listen') ? [] : ['--listen', '127.0.0.1:0'];
    this.child = spawn(process.execPath, [main, ...spec.args, ...listen, '--parent-pipe'], {
      env: { ...process.env, NODE_NO_WARNINGS: '1', ...spec.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.child.stdin?.on('error', () => undefined);
    this.#listening = new Promise((resolveListening, reject) => {
      for (const stream of [this.child.stdout, this.child.stderr]) {
        if (stream === null) continue;
        createInterface({ input: stream }).on('line', (line) => {
          this.output += `${line}\n`;
          if (line.startsWith('{"event":"listening"'))
            resolveListening(JSON.parse(line) as { address: string; admin: string });
        });
      }
      this.child.once('error', reject);
      this.child.once('exit', (code, signal) =>
        reject(new Error(`${spec.service} ended (${code ?? signal}):\n${this.output}`)),
      );
    });
    this.#listening.catch(() => undefined);
  }

  listening(): Promise<{ address: string; admin: string }> {
    return this.#listening;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Exit code, or the signal's name. */
  async exit(): Promise<number | string> {
    if (this.running) await once(this.child, 'exit');
    return this.child.exitCode ?? this.child.signalCode ?? 'unknown';
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    if (this.running) this.child.kill(signal);
  }

  /** Graceful end, then SIGKILL after `graceMs`. */
  async stop(graceMs = 8000): Promise<void> {
    if (!this.running) return;
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.kill('SIGKILL'), graceMs);
    await this.exit();
    clearTimeout(timer);
  }
}
