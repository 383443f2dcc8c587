import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectRedis, firstAttempt } from '../redis/client.ts';
import { systemClock } from '../clock.ts';
import { eventually } from './eventually.ts';
import { freePort, GUARD, RedisServer } from './redis-server.ts';
import { silentLogger } from './silent-logger.ts';

/** The name under which the sentinels know the master. */
export const MASTER_NAME = 'guildhall';
const SENTINELS = 3;

export interface SentinelOptions {
  /** Further options of the Redis servers. */
  flags?: readonly string[];
  /** Further lines of the sentinels' configuration. */
  lines?: readonly string[];
}

/** A real master with a replica, and three sentinels that watch over them with short time-outs. */
export class RedisSentinels {
  readonly url: string;
  master: RedisServer;
  replica: RedisServer;
  readonly #dir = mkdtempSync(join(tmpdir(), 'guildhall-sentinel-'));
  readonly #ports: readonly number[];
  readonly #guards: ChildProcess[] = [];

  private constructor(master: RedisServer, replica: RedisServer, ports: readonly number[]) {
    this.master = master;
    this.replica = replica;
    this.#ports = ports;
    this.url = `redis-sentinel://${ports.map((port) => `127.0.0.1:${port}`).join(',')}/${MASTER_NAME}`;
  }

  static async start({ flags = [], lines = [] }: SentinelOptions = {}): Promise<RedisSentinels> {
    const master = await RedisServer.start(flags);
    const follow = ['--replicaof', '127.0.0.1', String(master.port), '--repl-diskless-sync-delay', '0'];
    const replica = await RedisServer.start([...flags, ...follow]);
    const ports = await Promise.all(Array.from({ length: SENTINELS }, () => freePort()));
    const group = new RedisSentinels(master, replica, ports);
    for (const port of ports) group.#watch(port, lines);
    return group;
  }

  #watch(port: number, lines: readonly string[]): void {
    const file = join(this.#dir, `${port}.conf`);
    const config = [
      `port ${port}`,
      'bind 127.0.0.1',
      `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${this.master.port} 2`,
      `sentinel down-after-milliseconds ${MASTER_NAME} 500`,
      `sentinel failover-timeout ${MASTER_NAME} 2000`,
      ...lines,
    ];
    writeFileSync(file, `${config.join('\n')}\n`);
    const guard = spawn('sh', ['-c', GUARD, 'sh', 'redis-server', file, '--sentinel'], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    this.#guards.push(guard);
  }

  /** Resolves when the sentinels know each other and the replica, so that they can fail over. */
  async settled(): Promise<void> {
    await eventually(async () => {
      const fields = (await this.#ask('MASTER', MASTER_NAME).catch(() => [])) as string[];
      const field = (name: string): string | undefined => fields[fields.indexOf(name) + 1];
      return field('num-slaves') === '1' && field('num-other-sentinels') === String(SENTINELS - 1);
    }, 'the sentinels to find each other');
  }

  /** Has the sentinels make the replica the master, while the master lives. */
  async failOver(): Promise<void> {
    // It is refused for as long as the replica has not told of itself.
    await eventually(
      () =>
        this.#ask('FAILOVER', MASTER_NAME).then(
          () => true,
          () => false,
        ),
      'the failover to begin',
    );
  }

  async #ask(...args: [string, ...string[]]): Promise<unknown> {
    const [port = 0] = this.#ports;
    const redis = connectRedis(`redis://127.0.0.1:${port}`, { logger: silentLogger(), clock: systemClock });
    try {
      await firstAttempt(redis);
      return await redis.call('SENTINEL', ...args);
    } finally {
      redis.disconnect();
    }
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    for (const guard of this.#guards) {
      guard.stdin?.end();
      if (guard.exitCode === null) await once(guard, 'exit');
    }
    await this.replica.stop();
    await this.master.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
