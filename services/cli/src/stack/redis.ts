import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { fail, formatHostPort, type Clock, type TlsConfig } from '@guildhall/common';
import { Child } from './child.ts';
import { freePort } from './ports.ts';
import type { StateDir } from './state-dir.ts';

export interface RedisEndpoint {
  /** Address for clients of this machine. */
  host: string;
  port: number;
  /** User of its ACL; null for the default one. */
  user: string | null;
  password: string;
  /** What a client shows and believes; null without TLS. */
  tls: TlsConfig | null;
  /** Lines of its configuration that say where it listens and who may come in; asked at each start. */
  config: () => string[];
}

/** Picks where this stack's Redis will listen, on loopback, and its password. */
export async function chooseRedisEndpoint(): Promise<RedisEndpoint> {
  const port = await freePort('127.0.0.1');
  const password = randomBytes(24).toString('hex');
  const config = (): string[] => ['bind 127.0.0.1', `port ${port}`, `requirepass ${password}`];
  return { host: '127.0.0.1', port, user: null, password, tls: null, config };
}

/** URL for clients. Holds the password: it goes to children by environment, never on a command line. */
export function redisUrl({ host, port, user, password, tls }: RedisEndpoint): string {
  return `${tls === null ? 'redis' : 'rediss'}://${user ?? ''}:${password}@${formatHostPort(host, port)}/0`;
}

/** Least size, bytes, at which the append-only file is written anew; then whenever it has doubled. */
const REWRITE_FROM = 16 << 20;
/** How long redis-server may take until it listens; reading its file may take as long as it likes. */
const LISTEN_LIMIT_MS = 10_000;

/**
 * Starts redis-server for this stack only, with an append-only file in the state folder: keys, usage and what clients keep are
 * there again after a restart. Configuration goes through stdin so that the password shows in no process list. Resolves
 * when it answers PING, which is after it has read its file. Throws `redis_unavailable`.
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
    ...endpoint.config(),
    'save ""',
    'appendonly yes',
    'appendfsync everysec',
    `auto-aof-rewrite-min-size ${REWRITE_FROM}`,
    'auto-aof-rewrite-percentage 100',
    // What a router that is gone had listed is freed beside the commands of the others.
    'lazyfree-lazy-expire yes',
    'daemonize no',
    'protected-mode yes',
    `dir ${JSON.stringify(state.redisDir)}`,
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
  let deadline = clock.monotonicMs() + LISTEN_LIMIT_MS;
  while (clock.monotonicMs() < deadline) {
    if (ended !== null) throw fail('redis_unavailable', whyEnded(ended, child));
    const answer = await ping(endpoint);
    if (answer === 'pong') return;
    if (answer === 'loading') deadline = clock.monotonicMs() + LISTEN_LIMIT_MS;
    await clock.sleep(50);
  }
  throw fail('redis_unavailable', `redis-server does not answer on port ${endpoint.port}\n${child.lastWords()}`);
}

function whyEnded(reason: string, child: Child): string {
  const words = child.lastWords();
  const broken = /append only file|Bad file format|Short read/i.test(words);
  const advice = broken
    ? '\n  what it kept cannot be read: `redis-check-aof --fix` on the .manifest file in its folder repairs it, `guildhall up --fresh` forgets all of it'
    : '';
  return `redis-server ended (${reason})\n${words}${advice}`;
}

function open({ host, port, tls }: RedisEndpoint): Socket {
  if (tls === null) return connect({ host, port });
  const pem = (path: string | null): Buffer | undefined => (path === null ? undefined : readFileSync(path));
  return connectTls({ host, port, cert: pem(tls.tlsCert), key: pem(tls.tlsKey), ca: pem(tls.tlsCa) });
}

function ping(endpoint: RedisEndpoint): Promise<'pong' | 'loading' | 'nothing'> {
  return new Promise((resolve) => {
    const socket = open(endpoint);
    const finish = (answer: 'pong' | 'loading' | 'nothing'): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1000, () => finish('nothing'));
    socket.once('error', () => finish('nothing'));
    const user = endpoint.user === null ? '' : `${endpoint.user} `;
    socket.write(`AUTH ${user}${endpoint.password}\r\nPING\r\n`);
    let seen = '';
    socket.on('data', (data) => {
      seen += data.toString('latin1');
      if (seen.includes('+PONG')) finish('pong');
      else if (seen.includes('-LOADING')) finish('loading');
      else if (seen.includes('-ERR') || seen.includes('-WRONGPASS')) finish('nothing');
    });
  });
}
