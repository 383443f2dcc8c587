import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { errorMessage, fail, isGuildhallError } from '../errors.ts';
import { redisFailure } from './client.ts';

/** Number of keys of each script; the file is scripts/<name>-<keys>.lua. */
export const SCRIPTS = {
  'member-join': 2,
  'member-renew': 2,
  'member-leave': 2,
  'members-read': 2,
  'placement-publish': 4,
  'leader-acquire': 2,
  'leader-release': 1,
  'leader-take': 2,
  'load-report': 2,
  'loads-read': 1,
  'drain-request': 1,
  'drain-mark': 1,
  'drain-cancel': 1,
  'drains-read': 2,
  'shrink-begin': 2,
  'shrink-end': 2,
  'pages-fence': 5,
  'pages-publish': 2,
  'pages-evict': 2,
  'pages-lease': 2,
  'pages-release': 1,
  'pages-lookup': 1,
  'pages-forget': 3,
  'quarantine-add': 1,
  'quarantine-read': 1,
  'probation-hold': 1,
  'batch-claim': 1,
  'batch-advance': 1,
  'batch-commit': 3,
  'response-put': 4,
  'response-append': 3,
  'response-claim': 1,
  'response-finish': 4,
  'response-chain': 2,
  'response-delete': 5,
} as const;

export type ScriptName = keyof typeof SCRIPTS;

interface Loaded {
  source: string;
  sha: string;
}

const loaded = new Map<ScriptName, Loaded>();

function load(name: ScriptName): Loaded {
  let script = loaded.get(name);
  if (script === undefined) {
    const source = readFileSync(new URL(`./scripts/${name}-${SCRIPTS[name]}.lua`, import.meta.url), 'utf8');
    script = { source, sha: createHash('sha1').update(source).digest('hex') };
    loaded.set(name, script);
  }
  return script;
}

/** Any failure of a Redis command becomes `redis_unavailable`, or `redis_denied` where Redis refuses it. */
export function redisError(err: unknown): Error {
  return isGuildhallError(err) ? err : redisFailure(err);
}

/**
 * Runs a script by its hash, and by its text when Redis does not know it yet. Strings in the answer are Buffers.
 * Throws `redis_unavailable`.
 */
export async function runScript(
  redis: Redis,
  name: ScriptName,
  keys: readonly string[],
  args: readonly (string | number | Uint8Array)[],
): Promise<unknown> {
  if (keys.length !== SCRIPTS[name])
    throw fail('internal', `script ${name} takes ${SCRIPTS[name]} keys, got ${keys.length}`);
  const { sha, source } = load(name);
  const rest = [keys.length, ...keys, ...args.map((arg) => (arg instanceof Uint8Array ? Buffer.from(arg) : arg))];
  try {
    return await redis.callBuffer('EVALSHA', sha, ...rest);
  } catch (err) {
    if (!errorMessage(err).startsWith('NOSCRIPT')) throw redisError(err);
  }
  try {
    return await redis.callBuffer('EVAL', source, ...rest);
  } catch (err) {
    throw redisError(err);
  }
}
