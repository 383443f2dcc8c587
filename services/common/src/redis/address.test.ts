import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isGuildhallError } from '../errors.ts';
import { parseRedisUrl } from './address.ts';

const NOBODY = { username: null, password: null };

test('URLs of a server, of sentinels and of a cluster are read', () => {
  const node = { host: '10.0.0.1', port: 6380 };
  assert.deepEqual(parseRedisUrl('redis://10.0.0.1:6380/2'), { tls: false, ...NOBODY, mode: 'single', node, db: 2 });
  assert.deepEqual(parseRedisUrl('rediss://u%40x:p%3A%2Fw@[fd00::1]'), {
    tls: true,
    username: 'u@x',
    password: 'p:/w',
    mode: 'single',
    node: { host: 'fd00::1', port: 6379 },
    db: 0,
  });
  assert.deepEqual(parseRedisUrl('redis-sentinel://:secret@s-0.redis:26379,s-1.redis/my-master'), {
    tls: false,
    username: null,
    password: 'secret',
    mode: 'sentinel',
    sentinels: [
      { host: 's-0.redis', port: 26_379 },
      { host: 's-1.redis', port: 26_379 },
    ],
    name: 'my-master',
  });
  assert.deepEqual(parseRedisUrl('rediss-cluster://10.0.0.1:6380'), {
    tls: true,
    ...NOBODY,
    mode: 'cluster',
    nodes: [node],
  });
});

test('what is no such URL is refused with what was expected, and without the password', () => {
  for (const [text, why] of [
    ['10.0.0.1:6379', /redis:\/\//],
    ['http://10.0.0.1', /redis:\/\//],
    ['redis://', /redis:\/\//],
    ['redis://localhost:6379', /127\.0\.0\.1/],
    ['redis://a:0', /host:port/],
    ['redis://a:65536', /host:port/],
    ['redis://a:6379,b:6379', /host:port/],
    ['redis://a/master', /number of a database/],
    ['redis-sentinel://a:1,b:2', /master/],
    ['redis-sentinel://a:1,,b:2/m', /host:port/],
    ['redis-sentinel://a:1/m n', /master/],
    ['redis-cluster://a:1/1', /no numbered databases/],
    ['redis://:%zz@a', /percent-encoded/],
    [`redis-cluster://${Array.from({ length: 65 }, () => 'a').join(',')}`, /more than 64/],
  ] as const)
    assert.throws(() => parseRedisUrl(text), { code: 'config_invalid', field: 'redis', message: why }, text);
});

test('no text makes it fail in another way, or tell a password', () => {
  fc.assert(
    fc.property(fc.constantFrom('redis', 'rediss-sentinel', 'redis-cluster'), fc.string(), (scheme, rest) => {
      try {
        parseRedisUrl(`${scheme}://user:hunter2hunter2@${rest}`);
      } catch (err) {
        assert.ok(isGuildhallError(err) && err.code === 'config_invalid');
        assert.doesNotMatch(err.message, /hunter2hunter2/);
      }
    }),
  );
});
