import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { FakeScript } from '../../../test/fakes/fake-router.ts';
import { ApiKeys } from './auth.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let open: GatewayUnderTest;
let keyed: GatewayUnderTest;
let script: FakeScript;
const options = { script: (): FakeScript => script };
const CHAT = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 5 };
const TEXT = { model: 'tiny', prompt: 'Hi', max_tokens: 5 };
const BOTH = [
  ['/v1/chat/completions', CHAT],
  ['/v1/completions', TEXT],
] as const;

before(async () => {
  script = { tokens: await tokensOf('x</think>fine') };
  open = await GatewayUnderTest.start({}, options);
  keyed = await GatewayUnderTest.start({ apiKey: ['key-one', 'key-two'] }, options);
});
after(async () => {
  await open.stop();
  await keyed.stop();
});
beforeEach(() => {
  for (const gateway of [open, keyed]) gateway.router.calls.length = 0;
});

interface Answer {
  usage?: { prompt_tokens_details: object };
  error?: { code: string; param: string | null; message: string };
}

async function post(gateway: GatewayUnderTest, path: string, body: object, key?: string): Promise<Answer> {
  const init = key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } };
  return (await (await gateway.fetch(path, body, init)).json()) as Answer;
}

/** The request that a router got for a body. */
async function received(gateway: GatewayUnderTest, path: string, body: object, key?: string) {
  const answer = await post(gateway, path, body, key);
  const call = gateway.router.calls.at(-1);
  assert.ok(call !== undefined, JSON.stringify(answer));
  return call.request;
}

async function refusal(gateway: GatewayUnderTest, path: string, body: object, key?: string) {
  const { error } = await post(gateway, path, body, key);
  assert.equal(gateway.router.calls.length, 0);
  return error;
}

test('a salt of any characters reaches the router as it is', async () => {
  const salts = [
    'a',
    '"',
    "'; DROP",
    '\0\u0001\u001f',
    '\r\nx-header: 1',
    '{}:*?',
    '\u202e\ufeff',
    'é',
    '😀'.repeat(256),
  ];
  for (const [path, body] of BOTH) {
    for (const salt of salts) assert.equal((await received(open, path, { ...body, cache_salt: salt })).cacheSalt, salt);
    assert.equal((await received(open, path, body)).cacheSalt, '');
    assert.equal((await received(open, path, { ...body, cache_salt: null })).cacheSalt, '');
  }
});

test('a salt that is empty, too long, no text or half a character is refused by name', async () => {
  for (const [path, body] of BOTH) {
    for (const salt of ['', 'x'.repeat(257), '😀'.repeat(257), 'x'.repeat(100_000), 'a\ud800', '\udc00b']) {
      const error = await refusal(open, path, { ...body, cache_salt: salt });
      assert.deepEqual([error?.code, error?.param], ['invalid_value', 'cache_salt']);
      assert.ok(!error?.message.includes('xxx'), 'the salt itself is not repeated');
    }
    for (const salt of [5, ['a'], {}, true]) {
      const error = await refusal(open, path, { ...body, cache_salt: salt });
      assert.deepEqual([error?.code, error?.param], ['invalid_type', 'cache_salt']);
    }
  }
});

test('a lower priority number is more urgent, as in vLLM; routers take larger ones first', async () => {
  const priorityOf = async (priority: unknown): Promise<number> =>
    (await received(open, '/v1/completions', { ...TEXT, priority })).priority;
  assert.equal(await priorityOf(-3), 3);
  assert.equal(await priorityOf(100), -100);
  assert.equal(await priorityOf(0), 0);
  assert.equal(await priorityOf(null), 0);
  open.router.calls.length = 0;
  for (const priority of [101, -101, 1.5, 'high']) {
    const error = await refusal(open, '/v1/chat/completions', { ...CHAT, priority });
    assert.equal(error?.param, 'priority');
  }
});

test('with API keys a priority is refused unless the gateway allows it', async () => {
  for (const [path, body] of BOTH) {
    const error = await refusal(keyed, path, { ...body, priority: -1 }, 'key-one');
    assert.deepEqual([error?.code, error?.param], ['unsupported', 'priority']);
  }
  assert.equal((await received(keyed, '/v1/completions', { ...TEXT, priority: 0 }, 'key-one')).priority, 0);
  keyed.context.config.allowPriority = 'on';
  assert.equal((await received(keyed, '/v1/completions', { ...TEXT, priority: -1 }, 'key-one')).priority, 1);
  open.context.config.allowPriority = 'off';
  open.router.calls.length = 0;
  assert.equal((await refusal(open, '/v1/completions', { ...TEXT, priority: 1 }))?.param, 'priority');
});

test('callers are tenants by their key, which the name does not give away', async () => {
  const tenantOf = async (key: string, path = '/v1/completions', body: object = TEXT): Promise<string> =>
    (await received(keyed, path, body, key)).tenant;
  const [one, two] = [await tenantOf('key-one'), await tenantOf('key-two')];
  assert.match(one, /^[0-9a-f]{16}$/);
  assert.match(two, /^[0-9a-f]{16}$/);
  assert.notEqual(one, two);
  assert.equal(await tenantOf('key-one', '/v1/chat/completions', CHAT), one);
  assert.equal((await received(open, '/v1/completions', TEXT, 'key-one')).tenant, '');
});

test('a key file may name tenants, and one that says more is refused', () => {
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-tenants-'));
  const path = join(dir, 'keys');
  const load = (text: string): ApiKeys => {
    writeFileSync(path, text);
    return ApiKeys.load({ apiKey: ['given'], apiKeys: [], apiKeyFile: path });
  };
  const keys = load('k1 team-a # first\nk2\tteam-a\nk3\n');
  const tenantOf = (key: string): string => keys.find(key)?.tenant ?? '';
  assert.equal(tenantOf('k1'), 'team-a');
  assert.equal(tenantOf('k2'), 'team-a');
  assert.notEqual(keys.find('k1')?.keyId, keys.find('k2')?.keyId);
  assert.match(tenantOf('k3'), /^[0-9a-f]{16}$/);
  assert.match(tenantOf('given'), /^[0-9a-f]{16}$/);
  assert.equal(keys.find('team-a'), null);
  for (const bad of ['k1 team a', 'k1 "x"', `k1 ${'x'.repeat(64)}`])
    assert.throws(() => load(bad), { code: 'config_invalid', field: 'apiKeyFile' });
  rmSync(dir, { recursive: true });
});

test('usage says what was cached, and what of it decode had made', async () => {
  const usageOf = async (given: Partial<FakeScript>, body: object = TEXT): Promise<object | undefined> => {
    const tokens = script.tokens;
    script = { tokens, ...given };
    const { usage } = await post(open, '/v1/completions', body);
    script = { tokens };
    return usage?.prompt_tokens_details;
  };
  assert.deepEqual(await usageOf({}), { cached_tokens: 0 });
  assert.deepEqual(await usageOf({ cachedTokens: 128 }), { cached_tokens: 128 });
  assert.deepEqual(await usageOf({ cachedTokens: 192, decodeCachedTokens: 64 }), {
    cached_tokens: 192,
    decode_cached_tokens: 64,
  });
  // Two prompts with two choices each: every prompt counts once.
  const lists = { ...TEXT, prompt: ['Hi', 'Ho'], n: 2 };
  assert.deepEqual(await usageOf({ cachedTokens: 2, decodeCachedTokens: 1 }, lists), {
    cached_tokens: 4,
    decode_cached_tokens: 2,
  });
});

test('what was cached is known also where a stop string ends the answer before the router says so', async () => {
  const tokens = await tokensOf('one STOP two three');
  script = { tokens, cachedTokens: 64 };
  open.router.holdBeforeToken(tokens.length - 1);
  const { usage } = await post(open, '/v1/completions', { ...TEXT, max_tokens: 50, stop: 'STOP' });
  assert.deepEqual(usage?.prompt_tokens_details, { cached_tokens: 64 });
  open.router.release();
});
