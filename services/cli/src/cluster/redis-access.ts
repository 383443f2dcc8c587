import { connectRedis, createLogger, errorMessage, fail, redisKeys, systemClock } from '@guildhall/common';
import type { RedisEndpoint } from '../stack/redis.ts';
import { type ClusterDir, isWildcard } from './cluster-dir.ts';
import { type MemberRecord, redisHash } from './members.ts';

/** Redis user of a member. */
export function redisUserOf(id: string): string {
  return `member-${id}`;
}

/**
 * What a joined machine may do in Redis: read what the cluster has there, and write about itself. Placements,
 * leadership and the directory of pages are not its to write.
 */
function memberRules(cluster: string, member: Pick<MemberRecord, 'id' | 'redisHash'>): string[] {
  const keys = redisKeys(cluster);
  const { members, generation, loads, loadPrefix, eventLog } = keys;
  const own = [keys.member('expert', member.id), members, generation, loads, `${loadPrefix}*`, eventLog];
  return [
    'on',
    `#${member.redisHash}`,
    `%R~${keys.prefix}*`,
    ...own.map((key) => `~${key}`),
    `&${keys.events}`,
    '+@all',
    '-@admin',
    '-@dangerous',
    '-script',
    '-function',
  ];
}

/** Redis of a head: TLS with client certificates, a user for each kind of caller, nothing for anybody else. */
export function headRedis(dir: ClusterDir): RedisEndpoint {
  const { name, bind, ports } = dir.config();
  const { redisHead, redisAdmin } = dir.secrets();
  const tls = { tlsCert: dir.certificateFile, tlsKey: dir.keyFile, tlsCa: dir.authorityFile };
  const { prefix } = redisKeys(name);
  const user = (id: string, rules: string[]): string => `user ${[id, 'reset', ...rules].join(' ')}`;
  return {
    host: isWildcard(bind) ? '127.0.0.1' : bind,
    port: ports.redis,
    user: 'head',
    password: redisHead,
    tls,
    config: () => [
      `bind ${bind === '::' ? '* -::*' : bind === '0.0.0.0' ? '*' : bind}`,
      'port 0',
      `tls-port ${ports.redis}`,
      `tls-cert-file ${JSON.stringify(tls.tlsCert)}`,
      `tls-key-file ${JSON.stringify(tls.tlsKey)}`,
      `tls-ca-cert-file ${JSON.stringify(tls.tlsCa)}`,
      'tls-auth-clients yes',
      'tls-protocols "TLSv1.2 TLSv1.3"',
      user('default', ['off']),
      user('admin', ['on', `#${redisHash(redisAdmin)}`, '~*', '&*', '+@all']),
      user('head', ['on', `#${redisHash(redisHead)}`, `~${prefix}*`, `&${prefix}*`, '+@all', '-@admin', '-@dangerous']),
      ...dir.members.admitted().map((member) => user(redisUserOf(member.id), memberRules(name, member))),
    ],
  };
}

/** Tells the running Redis that a member may come in. Throws `redis_unavailable`. */
export async function admitToRedis(dir: ClusterDir, member: Pick<MemberRecord, 'id' | 'redisHash'>): Promise<void> {
  await asAdmin(dir, ['SETUSER', redisUserOf(member.id), 'reset', ...memberRules(dir.config().name, member)]);
}

/** Takes a member's access; its connections end. Throws `redis_unavailable`. */
export async function expelFromRedis(dir: ClusterDir, id: string): Promise<void> {
  await asAdmin(dir, ['DELUSER', redisUserOf(id)]);
}

async function asAdmin(dir: ClusterDir, command: [string, ...string[]]): Promise<void> {
  const { host, port } = headRedis(dir);
  const url = new URL(`rediss://${host.includes(':') ? `[${host}]` : host}:${port}/0`);
  url.username = 'admin';
  url.password = dir.secrets().redisAdmin;
  const access = { tlsCert: dir.certificateFile, tlsKey: dir.keyFile, redisCa: dir.authorityFile };
  const logger = createLogger({ service: 'cli', id: 'cli', level: 'silent' });
  const redis = connectRedis(url.href, { logger, clock: systemClock, access });
  try {
    await new Promise<void>((resolve, reject) => {
      redis.once('ready', resolve);
      redis.once('close', () =>
        reject(fail('redis_unavailable', `the cluster's Redis does not answer at ${host}:${port}`)),
      );
    });
    await redis.call('ACL', ...command);
  } catch (err) {
    throw fail('redis_unavailable', `Redis: ${errorMessage(err)}`, { cause: err });
  } finally {
    redis.disconnect();
  }
}
