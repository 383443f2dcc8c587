import { isIP } from 'node:net';
import { fail, type GuildhallError } from '../errors.ts';

function badUrl(message: string): GuildhallError {
  return fail('config_invalid', message, { field: 'redis' });
}

/** A place where Redis or one of its sentinels listens. */
export interface RedisNode {
  host: string;
  port: number;
}

/** Where Redis is, as its URL says. */
export type RedisAddress = {
  tls: boolean;
  /** User and password of the URL; null where it has none. */
  username: string | null;
  password: string | null;
} & (
  | { mode: 'single'; node: RedisNode; db: number }
  /** The master that sentinels know under `name`. */
  | { mode: 'sentinel'; sentinels: RedisNode[]; name: string }
  /** Nodes of a Redis Cluster to ask for the others. */
  | { mode: 'cluster'; nodes: RedisNode[] }
);

const SCHEME = /^(rediss?)(?:-(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^@/?#]+)(?:\/([^?#]*))?$/;
const EXAMPLES =
  'redis://host:6379, rediss://host:6379, redis-sentinel://host:26379,host:26379/master or redis-cluster://host:6379,host:6379';
const MAX_NODES = 64;

function readNode(text: string, defaultPort: number): RedisNode {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  const isAddress = match?.[1] === undefined || isIP(match[1]) === 6;
  if (host === undefined || !isAddress || port < 1 || port > 65_535) throw badUrl(`expected host:port, got "${text}"`);
  if (/^localhost\.?$/i.test(host)) throw badUrl('the name localhost is not used; write 127.0.0.1 (or [::1]) instead');
  return { host, port };
}

function readNodes(text: string, defaultPort: number): RedisNode[] {
  const nodes = text.split(',').map((part) => readNode(part, defaultPort));
  if (nodes.length > MAX_NODES) throw badUrl(`more than ${MAX_NODES} hosts`);
  return nodes;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw badUrl('user and password must be percent-encoded');
  }
}

function readUser(text: string | undefined): { username: string | null; password: string | null } {
  if (text === undefined) return { username: null, password: null };
  const colon = text.indexOf(':');
  const [user, password] = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
  return {
    username: user === '' ? null : decode(user),
    password: password === '' ? null : decode(password),
  };
}

/**
 * Reads the URL of a Redis server, of the sentinels of one, or of a Redis Cluster; each of them also with TLS. Throws
 * `config_invalid`, never with the user or the password in it.
 */
export function parseRedisUrl(text: string): RedisAddress {
  const [, scheme, kind, user, hosts = '', path = ''] = SCHEME.exec(text) ?? [];
  if (scheme === undefined) throw badUrl(`expected a URL like ${EXAMPLES}`);
  const access = { tls: scheme === 'rediss', ...readUser(user) };
  if (kind === 'sentinel') {
    const name = decode(path);
    if (!/^[\w.-]{1,128}$/.test(name))
      throw badUrl("the URL of sentinels ends with the master's name, such as /mymaster");
    return { ...access, mode: 'sentinel', sentinels: readNodes(hosts, 26_379), name };
  }
  if (kind === 'cluster') {
    if (path !== '') throw badUrl('a Redis Cluster has no numbered databases');
    return { ...access, mode: 'cluster', nodes: readNodes(hosts, 6379) };
  }
  if (!/^\d{0,5}$/.test(path)) throw badUrl('after the host comes the number of a database, or nothing');
  const node = readNode(hosts, 6379);
  return { ...access, mode: 'single', node, db: Number(path) };
}
