import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Accounts } from './accounts.ts';
import type { Quota } from './key-record.ts';
import type { QuotaAnswer, QuotaRefusal, SubjectPair } from './quota-store.ts';

let server: RedisServer;
let accounts: Accounts;
let other: Accounts;

const open = (): Accounts =>
  new Accounts({ redis: server.url, name: 'quotas', clock: systemClock, logger: silentLogger() });

before(async () => {
  server = await RedisServer.start();
  [accounts, other] = [open(), open()];
  for (const one of [accounts, other]) await eventually(() => one.redis.status === 'ready', 'connection');
});
after(async () => {
  for (const one of [accounts, other]) one.close();
  await server.stop();
});

const LEASE_MS = 60_000;
const NO_QUOTA: Quota = { requestsPerMinute: null, tokensPerMinute: null, concurrency: null };
let count = 0;

function subjects(key: Partial<Quota>, tenant: Partial<Quota> = {}): SubjectPair {
  count += 1;
  return [
    { name: `key:${count}`, quota: { ...NO_QUOTA, ...key } },
    { name: `tenant:${count}`, quota: { ...NO_QUOTA, ...tenant } },
  ];
}

async function serverNow(): Promise<number> {
  const [seconds, micros] = await accounts.redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}

/** As if so much time had passed for what is stored of the subjects. */
async function pass(pair: SubjectPair, ms: number): Promise<void> {
  for (const { name } of pair) {
    const [levels, leases] = [accounts.names.quota(name), accounts.names.quotaLeases(name)];
    for (const field of ['requests@', 'tokens@'])
      if ((await accounts.redis.hexists(levels, field)) === 1) await accounts.redis.hincrby(levels, field, -ms);
    for (const lease of await accounts.redis.zrange(leases, '0', '-1'))
      await accounts.redis.zincrby(leases, -ms, lease);
  }
}

interface Bucket {
  level: number;
  atMs: number;
}

/** What the script is to do, in plain arithmetic: levels in 1/60000 of a unit. */
class Model {
  readonly #buckets = new Map<string, Bucket>();
  readonly #leases = new Map<string, Map<string, number>>();
  readonly pair: SubjectPair;

  constructor(pair: SubjectPair) {
    this.pair = pair;
  }

  level(subject: number, field: 'requests' | 'tokens', nowMs: number): number {
    const quota = this.quota(subject, field);
    const bucket = this.#buckets.get(`${subject}/${field}`);
    if (bucket === undefined) return quota * 60_000;
    return Math.min(quota * 60_000, bucket.level + Math.max(0, nowMs - bucket.atMs) * quota);
  }

  quota(subject: number, field: 'requests' | 'tokens'): number {
    const { quota } = this.pair[subject as 0 | 1];
    return (field === 'requests' ? quota.requestsPerMinute : quota.tokensPerMinute) ?? 0;
  }

  running(subject: number, nowMs: number): number {
    return [...this.#of(subject).values()].filter((endMs) => endMs > nowMs).length;
  }

  /** Everything that speaks against a request at this time. */
  refusals(ask: { requests: number; tokens: number; lease: string }, nowMs: number): Set<QuotaRefusal> {
    const found = new Set<QuotaRefusal>();
    for (const subject of [0, 1]) {
      for (const field of ['requests', 'tokens'] as const) {
        const quota = this.quota(subject, field);
        if (quota === 0) continue;
        if (ask[field] > quota) found.add('too_large');
        else if (ask[field] > 0 && this.level(subject, field, nowMs) < ask[field] * 60_000) found.add(field);
      }
      const { concurrency } = this.pair[subject as 0 | 1].quota;
      if (concurrency !== null && this.running(subject, nowMs) >= concurrency) found.add('concurrency');
    }
    return found;
  }

  change(by: { requests: number; tokens: number }, nowMs: number): void {
    for (const subject of [0, 1]) {
      for (const field of ['requests', 'tokens'] as const) {
        const quota = this.quota(subject, field);
        if (quota === 0 || by[field] === 0) continue;
        const level = Math.min(quota * 60_000, this.level(subject, field, nowMs) + by[field] * 60_000);
        this.#buckets.set(`${subject}/${field}`, { level, atMs: nowMs });
      }
    }
  }

  begin(lease: string, endMs: number): void {
    for (const subject of [0, 1]) this.#of(subject).set(lease, endMs);
  }

  end(lease: string): void {
    for (const subject of [0, 1]) this.#of(subject).delete(lease);
  }

  pass(ms: number): void {
    for (const bucket of this.#buckets.values()) bucket.atMs -= ms;
    for (const leases of this.#leases.values()) for (const [lease, endMs] of leases) leases.set(lease, endMs - ms);
  }

  #of(subject: number): Map<string, number> {
    const leases = this.#leases.get(String(subject)) ?? new Map<string, number>();
    this.#leases.set(String(subject), leases);
    return leases;
  }
}

const limit = fc.option(fc.integer({ min: 1, max: 20 }));
const quota = fc.record({ requestsPerMinute: limit, tokensPerMinute: limit, concurrency: fc.option(fc.nat(3)) });
const op = fc.oneof(
  fc.record({ kind: fc.constant('take' as const), requests: fc.nat(2), tokens: fc.nat(25) }),
  fc.record({ kind: fc.constant('settle' as const), which: fc.nat(5), tokens: fc.integer({ min: -30, max: 30 }) }),
  fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(40_000) }),
);

/** Levels as Redis has them, with the time at which they were taken. */
async function stored(pair: SubjectPair, subject: 0 | 1, field: string): Promise<Bucket | null> {
  const name = accounts.names.quota(pair[subject].name);
  const [level, at] = await accounts.redis.hmget(name, field, `${field}@`);
  return level === null || level === undefined ? null : { level: Number(level), atMs: Number(at) };
}

async function same(model: Model, nowMs: number): Promise<void> {
  for (const subject of [0, 1] as const) {
    for (const field of ['requests', 'tokens'] as const) {
      const bucket = await stored(model.pair, subject, field);
      if (bucket === null) continue;
      const refilled = bucket.level + Math.max(0, nowMs - bucket.atMs) * model.quota(subject, field);
      const level = Math.min(model.quota(subject, field) * 60_000, refilled);
      assert.equal(level, model.level(subject, field, nowMs), `${field} of subject ${subject}`);
    }
  }
}

test('requests, refusals, settlements and the time between them give what plain arithmetic gives', async () => {
  let leases = 0;
  await fc.assert(
    fc.asyncProperty(quota, quota, fc.array(op, { maxLength: 25 }), async (key, tenant, ops) => {
      const positive = (given: Quota): Quota => ({ ...given, concurrency: given.concurrency || null });
      const pair = subjects(positive(key), positive(tenant));
      const model = new Model(pair);
      const running: string[] = [];
      for (const [i, step] of ops.entries()) {
        const store = (i % 2 === 0 ? accounts : other).quotas;
        if (step.kind === 'pass') {
          await pass(pair, step.ms);
          model.pass(step.ms);
        } else if (step.kind === 'settle') {
          const lease = running.splice(step.which, 1)[0] ?? null;
          const fromMs = await serverNow();
          await store.settle(pair, { requests: 0, tokens: step.tokens, lease });
          const atMs = (await anyStamp(pair, fromMs)) ?? fromMs;
          model.change({ requests: 0, tokens: step.tokens }, atMs);
          if (lease !== null) model.end(lease);
        } else {
          const lease = `lease-${leases++}`;
          const ask = { requests: step.requests, tokens: step.tokens, lease };
          const fromMs = await serverNow();
          const answer = await store.take(pair, ask, LEASE_MS);
          const toMs = await serverNow();
          const [early, late] = [model.refusals(ask, fromMs), model.refusals(ask, toMs)];
          if (answer.refused === null) {
            assert.equal(late.size, 0, [...late].join());
            const atMs = (await anyStamp(pair, fromMs)) ?? fromMs;
            model.change({ requests: -step.requests, tokens: -step.tokens }, atMs);
            model.begin(lease, atMs + LEASE_MS);
            running.push(lease);
          } else assert.ok(early.has(answer.refused), `${answer.refused} of ${[...early].join()}`);
        }
        await same(model, await serverNow());
      }
    }),
    { numRuns: 60 },
  );
});

/** When the last operation took place, if it stored anything. */
async function anyStamp(pair: SubjectPair, fromMs: number): Promise<number | null> {
  for (const subject of [0, 1] as const) {
    for (const field of ['requests', 'tokens']) {
      const bucket = await stored(pair, subject, field);
      if (bucket !== null && bucket.atMs >= fromMs) return bucket.atMs;
    }
  }
  return null;
}

const take = (pair: SubjectPair, tokens: number, lease: string | null = null, from = accounts): Promise<QuotaAnswer> =>
  from.quotas.take(pair, { requests: 1, tokens, lease }, LEASE_MS);

test('many gateways at once let in exactly what there is', async () => {
  const pair = subjects({ requestsPerMinute: 10 }, { requestsPerMinute: 1000 });
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, i) => take(pair, 0, null, i % 2 === 0 ? accounts : other)),
  );
  assert.equal(answers.filter(({ refused }) => refused === null).length, 10);
  const refused = answers.find((answer) => answer.refused !== null);
  assert.equal(refused?.refused, 'requests');
  assert.equal(refused?.subject?.name, pair[0].name);
  assert.ok(refused.waitMs > 5000 && refused.waitMs <= 6000, String(refused.waitMs));
  assert.deepEqual([refused.requests.limit, refused.requests.left], [10, 0]);
});

test('what is refused by one quota takes nothing from the other', async () => {
  const pair = subjects({ requestsPerMinute: 100 }, { tokensPerMinute: 50 });
  assert.equal((await take(pair, 30)).refused, null);
  const refused = await take(pair, 30);
  assert.equal(refused.refused, 'tokens');
  assert.equal(refused.subject?.name, pair[1].name);
  assert.equal(refused.requests.left, 99);
  assert.equal((await take(pair, 10)).requests.left, 98);
});

test('what can never be had is told apart', async () => {
  const answer = await take(subjects({ tokensPerMinute: 50 }), 51);
  assert.deepEqual([answer.refused, answer.waitMs], ['too_large', 0]);
});

test('use beyond what was taken is a debt, and what was taken too much comes back', async () => {
  const pair = subjects({ tokensPerMinute: 600 });
  await take(pair, 100);
  await accounts.quotas.settle(pair, { requests: 0, tokens: -800, lease: null });
  const refused = await take(pair, 1);
  assert.equal(refused.tokens.left, 0);
  // 301 of 600 tokens a minute are to come.
  assert.ok(refused.waitMs > 29_000 && refused.waitMs <= 30_100, String(refused.waitMs));
  await accounts.quotas.settle(pair, { requests: 0, tokens: 900, lease: null });
  assert.ok((await take(pair, 0)).tokens.left >= 600);
});

test('a place is free again when it is given back or its lease is over, and renewing keeps it', async () => {
  const pair = subjects({ concurrency: 2 });
  assert.equal((await take(pair, 0, 'a')).refused, null);
  assert.equal((await take(pair, 0, 'b', other)).refused, null);
  assert.equal((await take(pair, 0, 'c')).refused, 'concurrency');
  await other.quotas.settle(pair, { requests: 0, tokens: 0, lease: 'b' });
  assert.equal((await take(pair, 0, 'c')).refused, null);
  await pass(pair, LEASE_MS - 1000);
  await accounts.quotas.renew(pair[0].name, ['a'], LEASE_MS);
  await pass(pair, 2000);
  assert.equal((await take(pair, 0, 'd')).refused, null, 'nobody has renewed c');
  assert.equal((await take(pair, 0, 'e')).refused, 'concurrency');
});

test('nothing is left behind of a quota that is full again', async () => {
  const pair = subjects({ requestsPerMinute: 60, tokensPerMinute: 60 });
  await take(pair, 30);
  const ttl = await accounts.redis.pttl(accounts.names.quota(pair[0].name));
  assert.ok(ttl > 60_000 && ttl <= 60_000 + 30_000, String(ttl));
});
