import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { connect } from 'node:net';
import { fail, type Clock } from '@guildhall/common';
import { Child } from './child.ts';
import { freePort } from './ports.ts';
import type { StateDir } from './state-dir.ts';

export interface RedisEndpoint {
  port: number;
  password: string;
}

/** Picks where this stack's Redis will listen, and its password. */
export async function chooseRedisEndpoint(): Promise<RedisEndpoint> {
  return { port: await freePort('127.0.0.1'), password: randomBytes(24).toString('hex') };
}

/** URL for clients. Holds the password: it goes to children by environment, never on a command line. */
export function redisUrl(endpoint: RedisEndpoint): string {
  return `redis://:${endpoint.password}@127.0.0.1:${endpoint.port}/0`;
}

/**
 * Starts redis-server for this stack only: loopback, nothing on disk, configuration through stdin so that the password
 * shows in no process list. Resolves when it answers PING.
 */
export async function startRedis(endpoint: RedisEndpoint, state: StateDir, clock: Clock): Promise<Child> {
  const child = new Child({
    name: 'redis',
    command: 'redis-server',
    args: ['-'],
    env: process.env,
    logFile: state.logFile('redis'),
  });
  const config = [
    'bind 127.0.0.1',
    `port ${endpoint.port}`,
    `requirepass ${endpoint.password}`,
    'save ""',
    'appendonly no',
    // What a router that is gone had listed is freed beside the commands of the others.
    'lazyfree-lazy-expire yes',
    'daemonize no',
    'protected-mode yes',
    `dir ${JSON.stringify(join(state.path, 'redis'))}`,
  ];
  // redis-server reads its configuration to the end of stdin before it starts.
  child.process.stdin?.end(`${config.join('\n')}\n`);
  await untilPong(child, endpoint, clock);
  return child;
}

async function untilPong(child: Child, endpoint: RedisEndpoint, clock: Clock): Promise<void> {
  let ended: string | null = null;
  void child.exited.then((reason) => {
    ended = reason;
  });
  for (let attempt = 0; attempt < 200; attempt++) {
    if (ended !== null) throw fail('redis_unavailable', `redis-server ended (${String(ended)})\n${child.lastWords()}`);
    if (await pong(endpoint)) return;
    await clock.sleep(50);
  }
  throw fail('redis_unavailable', `redis-server does not answer on port ${endpoint.port}\n${child.lastWords()}`);
}

function pong(endpoint: RedisEndpoint): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: endpoint.port });
    const finish = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1000, () => finish(false));
    socket.once('error', () => finish(false));
    socket.once('connect', () => socket.write(`AUTH ${endpoint.password}\r\nPING\r\n`));
    let seen = '';
    socket.on('data', (data) => {
      seen += data.toString('latin1');
      if (seen.includes('+PONG')) finish(true);
      else if (seen.includes('-ERR') || seen.includes('-WRONGPASS')) finish(false);
    });
  });
}
