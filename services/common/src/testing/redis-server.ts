import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fail } from '../errors.ts';

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw fail('internal', 'no port');
  return address.port;
}

/** Runs a command until its own stdin ends, so that a test that is killed leaves no server behind. */
export const GUARD = '"$@" & echo "pid $!"; cat >/dev/null; exec 2>/dev/null; kill -9 $!; wait $!';

/** A real redis-server of a test, without persistence. */
export class RedisServer {
  readonly port: number;
  readonly url: string;
  readonly #dir: string;
  readonly #flags: readonly string[];
  #guard: ChildProcess | null = null;
  #pid = 0;

  private constructor(port: number, flags: readonly string[]) {
    this.port = port;
    this.#flags = flags;
    this.url = `redis://127.0.0.1:${port}`;
    this.#dir = mkdtempSync(join(tmpdir(), 'guildhall-redis-'));
  }

  /** `flags` are further options of redis-server. */
  static async start(flags: readonly string[] = []): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), flags);
    await server.restart();
    return server;
  }

  /** Starts it again on the same port, empty. */
  async restart(): Promise<void> {
    const args = ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    const command = ['redis-server', ...args, '--dir', this.#dir, ...this.#flags];
    const guard = spawn('sh', ['-c', GUARD, 'sh', ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#guard = guard;
    let log = '';
    guard.stdout.setEncoding('utf8').on('data', (text: string) => (log += text));
    for (let tries = 0; !log.includes('Ready to accept connections'); tries++) {
      if (guard.exitCode !== null || tries > 1000) throw fail('internal', `redis-server did not start: ${log}`);
      await sleep(10);
    }
    this.#pid = Number(/^pid (\d+)$/m.exec(log)?.[1]);
    guard.stdout.removeAllListeners('data').resume();
  }

  /** Ends it at once; connections break. */
  async kill(): Promise<void> {
    const guard = this.#guard;
    if (guard === null || guard.exitCode !== null) return;
    guard.stdin?.end();
    await once(guard, 'exit');
  }

  /** Stops it from answering while connections stay up. */
  pause(): void {
    process.kill(this.#pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.#pid, 'SIGCONT');
  }

  /** Ends it and removes its directory. */
  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
