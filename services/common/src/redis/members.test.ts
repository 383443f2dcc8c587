import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { newIncarnation } from '../lifecycle.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Cluster } from './cluster.ts';
import type { MemberLease } from './member-lease.ts';
import { MemberView } from './member-view.ts';
import { runScript } from './scripts.ts';

const LEASE = { leaseMs: 1800, renewMs: 200 };
const logger = silentLogger();
let server: RedisServer;
let closing: (() => Promise<void>)[];

beforeEach(async () => {
  closing = [];
  server = await RedisServer.start();
});

afterEach(async () => {
  for (const close of closing.reverse()) await close();
  await server.stop();
});

function cluster(): Cluster {
  const made = new Cluster({ redis: server.url, cluster: 'members', clock: systemClock, logger });
  closing.push(() => made.close());
  return made;
}

async function view(of: Cluster): Promise<MemberView> {
  const { redis, keys, events } = of;
  const made = new MemberView({ redis, keys, events, clock: systemClock, logger, pollMs: 100, leaseMs: LEASE.leaseMs });
  closing.push(() => made.stop());
  await made.start();
  await eventually(() => !made.stale, 'first list');
  return made;
}

interface TestLease {
  lease: MemberLease;
  lost: Error[];
  set(value: string): void;
}

function lease(of: Cluster, id: string, options: { kind?: string; incarnation?: bigint } = {}): TestLease {
  let value = `${id} v1`;
  const lost: Error[] = [];
  const made = of.lease({
    kind: options.kind ?? 'expert',
    id,
    incarnation: options.incarnation ?? newIncarnation(),
    value: () => Buffer.from(value),
    onLost: (err) => lost.push(err),
    ...LEASE,
  });
  return {
    lease: made,
    lost,
    set(next) {
      value = next;
      made.touch();
    },
  };
}

/** Leaves a lease behind as a killed process does: nobody renews it and nobody leaves. */
async function abandoned(of: Cluster, id: string, incarnation: bigint): Promise<void> {
  const { redis, keys } = of;
  const args = [`expert/${id}`, String(incarnation), LEASE.leaseMs, Buffer.from('dead'), keys.events];
  await eventually(
    () =>
      runScript(redis, 'member-join', [keys.member('expert', id), keys.members], args).then(
        () => true,
        () => false,
      ),
    'abandoned lease',
  );
}

const ids = (seen: MemberView): string =>
  seen
    .members()
    .map((member) => `${member.kind}/${member.id}=${member.value.toString()}`)
    .join(' ');

test('members join, change and leave, and views follow', async () => {
  const seen = await view(cluster());
  let changes = 0;
  seen.onChange(() => (changes += 1));
  const home = cluster();
  const a = lease(home, 'a');
  const b = lease(home, 'b', { kind: 'router' });
  await a.lease.join();
  await b.lease.join();
  await eventually(() => ids(seen) === 'expert/a=a v1 router/b=b v1', 'both members');
  a.set('a v2');
  await eventually(() => ids(seen) === 'expert/a=a v2 router/b=b v1', 'the new value');
  await a.lease.leave();
  await eventually(() => ids(seen) === 'router/b=b v1', 'the leave');
  assert.equal(a.lease.held, false);
  assert.ok(changes >= 3);
  assert.equal(seen.stale, false);
});

test('a member that dies without leaving is gone when its lease ends, and not while it renews', async () => {
  const home = cluster();
  await abandoned(home, 'dead', 7n);
  const seen = await view(home);
  await lease(home, 'alive').lease.join();
  await eventually(() => ids(seen) === 'expert/alive=alive v1 expert/dead=dead', 'both');
  await eventually(() => ids(seen) === 'expert/alive=alive v1', 'the end of the lease');
  await systemClock.sleep(LEASE.leaseMs * 1.5);
  assert.equal(ids(seen), 'expert/alive=alive v1');
});

test('an id that lives is refused; one that its owner left behind is waited for', async () => {
  const home = cluster();
  await lease(home, 'a').lease.join();
  await assert.rejects(lease(home, 'a').lease.join(), { code: 'id_in_use', field: 'id' });
  await abandoned(home, 'b', 7n);
  const heir = lease(home, 'b', { incarnation: 8n });
  await heir.lease.join();
  const seen = await view(home);
  assert.deepEqual(
    seen.members().map((m) => [m.id, m.incarnation === 8n]),
    [
      ['a', false],
      ['b', true],
    ],
  );
});

test('an incarnation that was replaced is told, and its leave does not end the other', async () => {
  const home = cluster();
  const old = lease(home, 'a', { incarnation: 1n });
  await old.lease.join();
  await home.redis.del(home.keys.member('expert', 'a'));
  const args = ['expert/a', '2', 60_000, Buffer.from('new'), home.keys.events];
  const [joined] = (await runScript(
    home.redis,
    'member-join',
    [home.keys.member('expert', 'a'), home.keys.members],
    args,
  )) as [number];
  if (joined === 0) return; // The old one renewed in between and holds it rightly.
  await eventually(() => old.lost.length === 1, 'the loss');
  assert.equal((old.lost[0] as Error & { code: string }).code, 'id_in_use');
  await old.lease.leave();
  const seen = await view(home);
  assert.equal(ids(seen), 'expert/a=new');
});

test('while Redis is away the list stays and says so; it comes back empty and nobody seems to have left', async () => {
  const home = cluster();
  const a = lease(home, 'a');
  const b = lease(home, 'b');
  await a.lease.join();
  await b.lease.join();
  const seen = await view(cluster());
  const full = 'expert/a=a v1 expert/b=b v1';
  assert.equal(ids(seen), full);
  const sizes: number[] = [];
  seen.onChange(() => void sizes.push(seen.members().length));
  await server.kill();
  await eventually(() => seen.stale, 'stale');
  assert.equal(ids(seen), full);
  await server.restart();
  await eventually(() => !seen.stale, 'fresh');
  await systemClock.sleep(LEASE.leaseMs * 2);
  assert.equal(ids(seen), full);
  assert.deepEqual(
    sizes.filter((size) => size < 2),
    [],
  );
});

test('data lost without an outage counts as one too', async () => {
  const home = cluster();
  await lease(home, 'a').lease.join();
  const seen = await view(home);
  const sizes: number[] = [];
  seen.onChange(() => void sizes.push(seen.members().length));
  await home.redis.flushall();
  await systemClock.sleep(LEASE.leaseMs * 1.5);
  assert.equal(ids(seen), 'expert/a=a v1');
  assert.ok(!sizes.includes(0));
});

test('a member that died during the outage is gone one lease after it', async () => {
  const home = cluster();
  await abandoned(home, 'dead', 7n);
  const a = lease(home, 'a');
  await a.lease.join();
  const seen = await view(home);
  await server.kill();
  await eventually(() => seen.stale, 'stale');
  await server.restart();
  await eventually(() => ids(seen) === 'expert/a=a v1', 'the survivor alone');
});

test('leases outlive a Redis that hangs longer than they last', async () => {
  const home = cluster();
  const a = lease(home, 'a');
  await a.lease.join();
  const seen = await view(cluster());
  const sizes: number[] = [];
  seen.onChange(() => void sizes.push(seen.members().length));
  server.pause();
  await eventually(() => seen.stale, 'stale');
  await systemClock.sleep(LEASE.leaseMs * 1.5);
  server.resume();
  await eventually(() => !seen.stale, 'fresh');
  await systemClock.sleep(LEASE.leaseMs * 1.5);
  assert.equal(ids(seen), 'expert/a=a v1');
  assert.ok(!sizes.includes(0));
  assert.deepEqual(a.lost, []);
});

test('joining waits while Redis is away, and can be cancelled', async () => {
  await server.kill();
  const home = cluster();
  const abort = new AbortController();
  const cancelled = lease(home, 'x').lease.join(abort.signal);
  const waiting = lease(home, 'a').lease.join();
  await systemClock.sleep(50);
  abort.abort();
  await assert.rejects(cancelled, { code: 'cancelled' });
  await server.restart();
  await waiting;
  assert.equal(ids(await view(home)), 'expert/a=a v1');
});

test('without memory in Redis members keep their leases, and what they say of themselves still changes', async () => {
  const home = cluster();
  const seen = await view(home);
  const a = lease(home, 'a');
  await a.lease.join();
  await eventually(() => ids(seen) === 'expert/a=a v1', 'the member');
  await home.redis.config('SET', 'maxmemory', '1');
  for (let version = 2; version < 6; version++) {
    await systemClock.sleep(LEASE.leaseMs / 2);
    a.set(`a v${version}`);
    await eventually(() => ids(seen) === `expert/a=a v${version}`, 'the new value');
  }
  assert.equal(a.lease.held, true);
});

test('a Redis whose clock jumps ends every lease at once: whoever lives stays in the list', async () => {
  const [one, two] = [cluster(), cluster()];
  const [first, second] = [lease(one, 'expert-1'), lease(two, 'expert-2')];
  await Promise.all([first.lease.join(), second.lease.join()]);
  await one.start();
  const ids = (): string =>
    one.members
      .members()
      .map(({ id }) => id)
      .join(' ');
  await eventually(() => ids() === 'expert-1 expert-2', 'both to be listed');
  const seen = new Set<string>();
  one.members.onChange(() => seen.add(ids()));
  const { redis, keys } = one;
  for (let round = 0; round < 6; round++) {
    await Promise.all(['expert-1', 'expert-2'].map((id) => redis.pexpire(keys.member('expert', id), 1)));
    if (round % 2 === 0) await one.members.refresh();
    await eventually(async () => (await redis.exists(keys.member('expert', 'expert-2'))) === 1, 'the other to renew');
    await one.members.refresh();
    seen.add(ids());
  }
  assert.deepEqual([...seen], ['expert-1 expert-2']);
  assert.deepEqual([first.lost, second.lost], [[], []]);
  // Who really is gone goes when the time to come back is over.
  await two.close();
  await eventually(() => ids() === 'expert-1', 'the one that left to be gone');
});
