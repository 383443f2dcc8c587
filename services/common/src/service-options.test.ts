import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { loadConfig } from './config.ts';
import {
  advertisedAddress,
  advertisedAdmin,
  formatHostPort,
  isLoopback,
  parseHostPort,
  refuseInsecureListen,
  serviceOptions,
} from './service-options.ts';

const schema = z.strictObject(serviceOptions);

test('host:port is read and written, with IPv6 in brackets', () => {
  for (const text of ['127.0.0.1:0', '[::1]:65535', 'worker-1.experts:9000']) {
    const { host, port } = parseHostPort(text);
    assert.equal(formatHostPort(host, port), text);
  }
  for (const text of [
    '',
    '127.0.0.1',
    ':80',
    '::1:80',
    '[127.0.0.1]:80',
    'a b:1',
    '1.2.3.4:65536',
    '1.2.3.4:-1',
    'localhost:80',
    'LOCALHOST.:80',
  ]) {
    assert.throws(() => parseHostPort(text), { code: 'config_invalid' }, text);
  }
});

test('loopback is decided by the address alone', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', '0:0:0:0:0:0:0:1']) assert.ok(isLoopback(host), host);
  for (const host of [
    '0.0.0.0',
    '::',
    '10.0.0.1',
    '::2',
    '1::1',
    'localhost',
    '127.0.0.1.example.org',
    '::ffff:127.0.0.1',
  ]) {
    assert.ok(!isLoopback(host), host);
  }
});

test('a listen address that others can reach needs authentication', () => {
  const config = (argv: string[]): z.output<typeof schema> => loadConfig(schema, { argv, env: {} });
  refuseInsecureListen(config([]));
  refuseInsecureListen(config(['--listen', '[::1]:0']));
  refuseInsecureListen(config(['--listen', '0.0.0.0:1', '--cluster-token', 'long-enough']));
  assert.throws(() => refuseInsecureListen(config(['--listen', '0.0.0.0:1'])), {
    code: 'insecure_listen',
    field: 'listen',
    message: /--cluster-token/,
  });
  assert.throws(() => refuseInsecureListen(config(['--listen', '[::]:1'])), { code: 'insecure_listen' });
  assert.throws(() => refuseInsecureListen(config(['--listen', 'my-host:1'])), { code: 'insecure_listen' });
  assert.throws(() => refuseInsecureListen(config(['--admin-listen', '0.0.0.0:1'])), {
    code: 'insecure_listen',
    field: 'adminListen',
  });
  const open = config(['--listen', '0.0.0.0:1', '--cluster-token', 'long-enough']);
  assert.throws(() => refuseInsecureListen(open, { authenticated: false, remedy: 'set --api-key' }), {
    message: /--api-key/,
  });
});

test('the announced address is the bound one unless told otherwise', () => {
  assert.equal(advertisedAddress({ advertise: null }, '127.0.0.1:9'), '127.0.0.1:9');
  assert.equal(advertisedAddress({ advertise: 'pod-1:0' }, '0.0.0.0:9'), 'pod-1:9');
  assert.equal(advertisedAddress({ advertise: '10.0.0.7:80' }, '0.0.0.0:9'), '10.0.0.7:80');
  assert.throws(() => advertisedAddress({ advertise: null }, '0.0.0.0:9'), {
    code: 'config_invalid',
    field: 'advertise',
  });
});

test('the announced admin server is one that others reach: the advertised host where it listens on all interfaces', () => {
  const advertise = '10.0.0.7:9000';
  assert.equal(advertisedAdmin({ advertise }, '0.0.0.0:9090'), '10.0.0.7:9090');
  assert.equal(advertisedAdmin({ advertise: '[fd00::7]:0' }, '[::]:9090'), '[fd00::7]:9090');
  assert.equal(advertisedAdmin({ advertise }, '127.0.0.1:9090'), '127.0.0.1:9090');
  assert.throws(() => advertisedAdmin({ advertise: null }, '[::]:9090'), {
    code: 'config_invalid',
    field: 'advertise',
  });
});

test('the Redis URL and ids are checked', () => {
  for (const argv of [
    ['--redis', 'localhost:6379'],
    ['--redis', 'redis://localhost:6379'],
    ['--redis', 'http://127.0.0.1'],
    ['--id', 'a/b'],
    ['--id', 'a b'],
    ['--cluster', '{x}'],
  ]) {
    assert.throws(
      () => loadConfig(schema, { argv, env: {} }),
      { code: 'config_invalid', field: argv[0]?.slice(2) },
      argv.join(' '),
    );
  }
});
