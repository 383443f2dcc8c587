import assert from 'node:assert/strict';
import { Metadata } from '@grpc/grpc-js';
import { test } from 'node:test';
import { fail, FakeClock, toGrpc } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { control, type router } from '@guildhall/proto';
import fc from 'fast-check';
import { TokenLog } from '../token-log.ts';
import { chooseRouter } from './choose-router.ts';
import { classifyFailure } from './failure.ts';
import { RouterPool } from './router-pool.ts';

const candidates = fc.array(fc.record({ load: fc.nat(20), suspect: fc.boolean() }), { maxLength: 8 });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test('a choice is one of the candidates, trusted if any is, and of two the less loaded', () => {
  fc.assert(
    fc.property(candidates, random, random, (list, a, b) => {
      const draws = [a, b];
      const chosen = chooseRouter(list, () => draws.shift() ?? 0);
      if (list.length === 0) return assert.equal(chosen, null);
      assert.ok(chosen !== null && list.includes(chosen));
      const trusted = list.filter((candidate) => !candidate.suspect);
      if (trusted.length > 0) assert.equal(chosen.suspect, false);
      const pool = trusted.length > 0 ? trusted : list;
      if (pool.length === 2) assert.equal(chosen.load, Math.min(...pool.map((candidate) => candidate.load)));
    }),
  );
});

test('every candidate is chosen at times, the most loaded one of several never', () => {
  const list = [0, 1, 2, 3].map((load) => ({ load, suspect: false }));
  const seen = new Set<number>();
  for (let a = 0; a < 4; a += 1)
    for (let b = 0; b < 3; b += 1) seen.add(chooseRouter(list, draws((a + 0.5) / 4, (b + 0.5) / 3))?.load ?? -1);
  assert.deepEqual(seen, new Set([0, 1, 2]));
});

function draws(...values: number[]): () => number {
  return () => values.shift() ?? 0;
}

test('failures are told apart by what another router could do about them', () => {
  const kind = (err: unknown): string => classifyFailure(err).kind;
  const bare = (code: number, details: string): Error =>
    Object.assign(new Error(details), { code, details, metadata: new Metadata() });
  assert.equal(kind(toGrpc(fail('not_ready', 'x'))), 'lost');
  assert.equal(kind(toGrpc(fail('queue_full', 'x'))), 'busy');
  assert.equal(kind(toGrpc(fail('numerics_mismatch', 'x'))), 'unsuited');
  assert.equal(kind(toGrpc(fail('expert_unavailable', 'x'))), 'final');
  assert.equal(kind(toGrpc(fail('deadline_exceeded', 'x'))), 'final');
  assert.equal(kind(toGrpc(fail('internal', 'Connection to Redis'))), 'final');
  assert.equal(kind(bare(14, 'read ECONNRESET')), 'lost');
  assert.equal(kind(bare(13, 'Received RST_STREAM with code 2')), 'lost');
  assert.equal(kind(bare(1, 'Call cancelled')), 'lost');
  assert.equal(kind(bare(13, 'a defect')), 'final');
  assert.equal(kind(fail('integrity', 'x')), 'final');
  assert.equal(kind(new TypeError('x')), 'final');
});

test('a token log takes each position once, in order, and only one id for it', () => {
  const log = new TokenLog();
  assert.equal(log.append(0, 5), true);
  assert.equal(log.append(1, 6), true);
  assert.equal(log.append(0, 5), false);
  assert.throws(() => log.append(1, 7), { code: 'integrity' });
  assert.throws(() => log.append(3, 7), { code: 'integrity' });
  assert.deepEqual(log.ids(), [5, 6]);
  log.ids().push(9);
  assert.equal(log.length, 2);
});

/** A pool over a list of members that a test changes; its clients are never called. */
function makePool() {
  let entries: { kind: string; id: string; value: Buffer }[] = [];
  let notify = (): void => undefined;
  const closed: string[] = [];
  const clock = new FakeClock();
  const pool = new RouterPool({
    members: {
      members: () => entries,
      onChange: (listener) => {
        notify = listener;
        return () => (notify = () => undefined);
      },
      stale: false,
    },
    connect: (address) => ({
      client: { getInfo: () => undefined, close: () => closed.push(address) } as unknown as router.RouterClient,
      metadata: new Metadata(),
    }),
    clock,
    logger: silentLogger(),
  });
  const set = (...members: Partial<control.Member>[]): void => {
    entries = members.map((member) => {
      const full = control.Member.create({
        ready: true,
        servedModels: ['tiny'],
        address: `h:${member.id}`,
        incarnation: 1n,
        ...member,
      });
      return { kind: 'router', id: full.id, value: Buffer.from(control.Member.encode(full).finish()) };
    });
    notify();
  };
  return {
    pool,
    set,
    closed,
    clock,
    addBroken: () => (entries.push({ kind: 'router', id: 'x', value: Buffer.from([0xff, 0xff]) }), notify()),
  };
}

const any = { model: null, numericsId: '', avoid: new Set<never>() };
const ids = (handles: readonly { id: string }[]): string[] => handles.map((handle) => handle.id);

test('a pool offers routers that are ready, serve the model and have the numerics class', () => {
  const { pool, set, addBroken } = makePool();
  assert.deepEqual(pool.candidates(any), []);
  set(
    { id: 'a', ready: false },
    { id: 'b', draining: true },
    { id: 'c', numericsId: 'n1' },
    { id: 'd', servedModels: ['big'] },
  );
  addBroken();
  assert.deepEqual(
    pool.usable.map((handle) => handle.id),
    ['c', 'd'],
  );
  assert.deepEqual(ids(pool.candidates({ ...any, model: 'tiny' })), ['c']);
  assert.deepEqual(ids(pool.candidates({ ...any, model: 'big' })), ['d']);
  assert.deepEqual(ids(pool.candidates({ ...any, numericsId: 'n1' })), ['c']);
  assert.deepEqual(pool.candidates({ ...any, model: 'big', numericsId: 'n1' }), []);
  const [c] = pool.usable;
  assert.ok(c !== undefined);
  assert.deepEqual(pool.candidates({ ...any, model: 'tiny', avoid: new Set([c]) }), []);
  assert.deepEqual(ids(pool.all), ['a', 'b', 'c', 'd']);
  assert.deepEqual(pool.servedModels, ['big', 'tiny']);
});

test('a pool keeps a router through its reports, replaces a restarted one, and remembers model names', () => {
  const { pool, set, closed } = makePool();
  set({ id: 'a' });
  const first = pool.usable[0];
  set({ id: 'a', running: 3, waiting: 4 });
  assert.equal(pool.usable[0], first);
  assert.equal(first?.load, 7);
  set({ id: 'a', incarnation: 2n, address: 'h:new' });
  assert.notEqual(pool.usable[0], first);
  assert.equal(first?.usable, false);
  assert.deepEqual(closed, ['h:a']);
  set();
  assert.deepEqual(pool.usable, []);
  assert.deepEqual(pool.servedModels, ['tiny']);
  pool.close();
});

test('a router that failed is passed over for a while, longer each time', async () => {
  const { pool, set, clock } = makePool();
  set({ id: 'a' });
  const [handle] = pool.usable;
  handle?.markFailed();
  assert.equal(handle?.suspect, true);
  assert.deepEqual(pool.candidates(any), [handle]);
  await clock.advance(600);
  assert.equal(handle?.suspect, false);
  handle?.markFailed();
  await clock.advance(600);
  assert.equal(handle?.suspect, true);
  await clock.advance(600);
  assert.equal(handle?.suspect, false);
});

test('a waiter wakes by a change, by time, or by its signal', async () => {
  const { pool, set, clock } = makePool();
  const changed = pool.waitForChange(1000, new AbortController().signal);
  set({ id: 'a' });
  await changed;
  const timed = pool.waitForChange(1000, new AbortController().signal);
  await clock.advance(1000);
  await timed;
  const abort = new AbortController();
  const cancelled = pool.waitForChange(1000, abort.signal);
  abort.abort();
  await assert.rejects(cancelled, { code: 'cancelled' });
  assert.equal(clock.pending, 0);
});
