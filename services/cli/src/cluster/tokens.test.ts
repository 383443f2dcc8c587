import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type ErrorCode, FakeClock, isGuildhallError, systemClock } from '@guildhall/common';
import { formatToken, parseToken, TokenStore, tokenState } from './tokens.ts';

const AUTHORITY = 'A'.repeat(43);
const HOUR_MS = 3_600_000;
let dir: string;
let clock: FakeClock;
let store: TokenStore;

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'guildhall-tokens-'));
  clock = new FakeClock();
  store = new TokenStore(join(dir, 'tokens.json'), clock);
});
after(() => rmSync(dir, { recursive: true, force: true }));

const isCode =
  (code: ErrorCode) =>
  (error: unknown): boolean =>
    isGuildhallError(error) && error.code === code;

test('a token counts until it expires, and only with its secret', async () => {
  const { token, record } = await store.create({ ttlMs: HOUR_MS, authority: AUTHORITY });
  assert.equal(store.check(token).id, token.id);
  assert.throws(() => store.check({ ...token, secret: 'x'.repeat(32) }), isCode('join_token_invalid'));
  assert.throws(() => store.check({ ...token, id: '00000000' }), isCode('join_token_invalid'));
  await clock.advance(HOUR_MS - 1);
  assert.equal(tokenState(record, clock.nowMs()), 'valid');
  store.check(token);
  await clock.advance(1);
  assert.throws(() => store.check(token), isCode('join_token_expired'));
  // Whoever has not the secret does not learn that it expired.
  assert.throws(() => store.check({ ...token, secret: 'x'.repeat(32) }), isCode('join_token_invalid'));
});

test('a revoked token does not count', async () => {
  const { token } = await store.create({ ttlMs: HOUR_MS, authority: AUTHORITY });
  const { token: other } = await store.create({ ttlMs: HOUR_MS, authority: AUTHORITY });
  await store.revoke(token.id);
  assert.throws(() => store.check(token), isCode('join_token_invalid'));
  store.check(other);
  await assert.rejects(store.revoke('00000000'), isCode('not_found'));
});

test('the file holds no secret and is for its owner only', async () => {
  const { token } = await store.create({ ttlMs: HOUR_MS, authority: AUTHORITY });
  const path = join(dir, 'tokens.json');
  assert.ok(!readFileSync(path, 'utf8').includes(token.secret));
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('tokens made at the same time are all kept', async () => {
  const shared = new TokenStore(join(dir, 'shared.json'), systemClock);
  const made = await Promise.all(
    Array.from({ length: 4 }, () => shared.create({ ttlMs: HOUR_MS, authority: AUTHORITY })),
  );
  for (const { token } of made) shared.check(token);
});

test('a token is one word that says whom to believe', async () => {
  const { token } = await store.create({ ttlMs: HOUR_MS, authority: AUTHORITY });
  assert.deepEqual(parseToken(` ${formatToken(token)}\n`), token);
  assert.equal(parseToken(formatToken(token)).authority, AUTHORITY);
  for (const text of ['', 'a.b.c', formatToken(token).slice(1), `${formatToken(token)}x`])
    assert.throws(() => parseToken(text), isCode('join_token_invalid'), text);
});
