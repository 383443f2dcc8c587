import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connectRedis, type RedisAccess, redisKeys, systemClock } from '@guildhall/common';
import { eventually, freePort, silentLogger } from '@guildhall/common/testing';
import type { Child } from '../stack/child.ts';
import { endProcesses } from '../stack/processes.ts';
import { startRedis } from '../stack/redis.ts';
import { ClusterDir } from './cluster-dir.ts';
import { redisHash } from './members.ts';
import { admitToRedis, expelFromRedis, headRedis } from './redis-access.ts';
import { CONFIG } from './testing/join-rig.ts';

const keys = redisKeys(CONFIG.name);
let scratch: string;
let dir: ClusterDir;
let redis: Child;

before(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-redis-access-'));
  dir = new ClusterDir(join(scratch, 'cluster'), {}, systemClock);
  await dir.create({ ...CONFIG, ports: { ...CONFIG.ports, redis: await freePort() } }, systemClock.nowMs());
  await dir.issueHeadCertificate(systemClock.nowMs());
  dir.state.ensure();
  redis = await startRedis(headRedis(dir), dir.state, systemClock);
});
after(async () => {
  if (redis !== undefined) await endProcesses([redis.record()], 2000, systemClock);
  rmSync(scratch, { recursive: true, force: true });
});

/** TLS files of a member, signed by the cluster's authority. */
async function filesOf(name: string): Promise<RedisAccess> {
  const options = { name, addresses: ['127.0.0.1'], days: 1, nowMs: systemClock.nowMs() };
  const { chain, key } = await dir.authority().issue(options);
  const tls = {
    tlsCert: join(scratch, `${name}.pem`),
    tlsKey: join(scratch, `${name}.key`),
    redisCa: dir.authorityFile,
  };
  writeFileSync(tls.tlsCert, chain);
  writeFileSync(tls.tlsKey, key);
  return tls;
}

function connect(user: string, password: string, tls: RedisAccess): ReturnType<typeof connectRedis> {
  const url = `rediss://${user}:${password}@127.0.0.1:${dir.config().ports.redis}/0`;
  return connectRedis(url, { logger: silentLogger(), clock: systemClock, access: tls });
}

test('a member reads the cluster, writes about itself and nothing else, until it is expelled', async () => {
  const tls = await filesOf('expert-7');
  await admitToRedis(dir, { id: 'expert-7', redisHash: redisHash('secret') });
  const client = connect('member-expert-7', 'secret', tls);
  const { host, port } = headRedis(dir);
  const head = connect('head', dir.secrets().redisHead, tls);
  try {
    await eventually(() => client.status === 'ready' && head.status === 'ready', `connections to ${host}:${port}`);
    await head.set(keys.placement(1), 'bytes');
    assert.equal(await client.get(keys.placement(1)), 'bytes');
    await client.hset(keys.member('expert', 'expert-7'), 'value', 'me');
    await client.set(keys.load('expert-7'), 'load');
    const refused: [string, ...string[]][] = [
      ['SET', keys.placement(2), 'mine'],
      ['SET', keys.epochCurrent, '9'],
      ['DEL', keys.leader],
      ['HSET', keys.member('expert', 'expert-8'), 'value', 'x'],
      ['HSET', keys.member('router', 'expert-7'), 'value', 'x'],
      ['HSET', keys.pages('router-1'), 'a', 'b'],
      ['SET', 'other', 'x'],
      ['EVAL', `return redis.call('SET', '${keys.epochCurrent}', '9')`, '0'],
      ['FLUSHALL'],
      ['ACL', 'LIST'],
      ['CONFIG', 'GET', '*'],
      ['SCRIPT', 'FLUSH'],
    ];
    for (const [name, ...args] of refused)
      await assert.rejects(client.call(name, ...args), /NOPERM|can't access/, [name, ...args].join(' '));
    await expelFromRedis(dir, 'expert-7');
    await eventually(() => client.status !== 'ready', 'the connection of an expelled member to end');
    const again = connect('member-expert-7', 'secret', tls);
    await assert.rejects(again.get(keys.placement(1)));
    again.disconnect();
  } finally {
    client.disconnect();
    head.disconnect();
  }
});

test('password or certificate alone is not enough', async () => {
  const tls = await filesOf('expert-9');
  await admitToRedis(dir, { id: 'expert-9', redisHash: redisHash('secret') });
  const attempts = [
    connect('member-expert-9', 'secret', { ...tls, tlsCert: null, tlsKey: null }),
    connect('member-expert-9', 'wrong', tls),
    connect('default', 'secret', tls),
  ];
  const settled = attempts.map(
    (attempt) => new Promise<void>((resolve) => attempt.once('ready', resolve).once('close', resolve)),
  );
  const good = connect('member-expert-9', 'secret', tls);
  try {
    await eventually(() => good.status === 'ready', 'a connection with both');
    assert.equal(await good.ping(), 'PONG');
    await Promise.all(settled);
    for (const [index, attempt] of attempts.entries()) {
      const answer = await attempt.ping().catch(() => null);
      assert.equal(answer, null, `attempt ${index}`);
    }
  } finally {
    for (const client of [...attempts, good]) client.disconnect();
  }
});
