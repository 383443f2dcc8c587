import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import {
  Cluster,
  createMetrics,
  FakeClock,
  type LeaderFence,
  LeaderLock,
  type MemberEntry,
  systemClock,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { decodePlacement, type PlacementRecord, redisPlacements } from '../../store/placement-store.ts';
import { EXPERTS, LAYERS, routerEntry, workerEntry } from '../../testing/members.ts';
import { WorkersController } from '../workers/controller.ts';
import { type Outcome, PlacementController } from './controller.ts';

const logger = silentLogger();
let server: RedisServer;
let cluster: Cluster;
let lock: LeaderLock;
let count = 0;

before(async () => {
  server = await RedisServer.start();
});
after(() => server.stop());

beforeEach(async () => {
  cluster = new Cluster({ redis: server.url, cluster: `reconcile-${count++}`, clock: systemClock, logger });
  await eventually(() => cluster.redis.status === 'ready', 'connection');
  lock = new LeaderLock({ redis: cluster.redis, keys: cluster.keys, clock: systemClock, logger, owner: 'test' });
  await lock.start();
});

afterEach(async () => {
  await lock.stop();
  await cluster.close();
});

/** A controller on real Redis whose members and time the test decides. */
class Bench {
  members: MemberEntry[] = [];
  stale = false;
  leader: LeaderFence | null = lock.fence;
  readonly clock = new FakeClock();
  readonly controller: PlacementController;

  constructor(options: { minWorkers?: number; replicas?: number } = {}) {
    const metrics = createMetrics('controller');
    const isStale = (): boolean => this.stale;
    const members = {
      members: () => this.members,
      get stale() {
        return isStale();
      },
    };
    this.controller = new PlacementController({
      workers: new WorkersController({ members, clock: this.clock, logger, metrics }),
      placements: redisPlacements(cluster.placementStore, logger),
      leader: () => this.leader,
      clock: this.clock,
      logger,
      metrics,
      minWorkers: options.minWorkers ?? 1,
      replicas: options.replicas ?? 1,
      settleMs: 1000,
    });
  }

  async reconcile(): Promise<Outcome['action']> {
    return (await this.controller.reconcile()).action;
  }

  /** Reconciles, lets joins settle, and reconciles again. */
  async settle(): Promise<Outcome['action']> {
    await this.reconcile();
    await this.clock.advance(5000);
    return this.reconcile();
  }
}

async function stored(): Promise<PlacementRecord | null> {
  const placement = await cluster.placementStore.current();
  return placement === null ? null : decodePlacement(placement.bytes);
}

function loads(record: PlacementRecord | null): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const index of record?.assignment.holders.flat(2) ?? []) {
    const id = record?.assignment.workers[index] ?? '';
    counts[id] = (counts[id] ?? 0) + 1;
  }
  return counts;
}

test('workers that start together get one epoch, and then nothing happens', async () => {
  const bench = new Bench();
  assert.equal(await bench.reconcile(), 'waiting');
  bench.members = [workerEntry({ id: 'e1' })];
  assert.equal(await bench.reconcile(), 'waiting');
  await bench.clock.advance(900);
  bench.members.push(workerEntry({ id: 'e2' }));
  assert.equal(await bench.reconcile(), 'waiting');
  await bench.clock.advance(900);
  const waiting = await bench.controller.reconcile();
  assert.deepEqual([waiting.action, waiting.againMs], ['waiting', 100]);
  await bench.clock.advance(100);
  assert.equal(await bench.reconcile(), 'published');
  const placement = await stored();
  assert.equal(placement?.epoch, 1);
  assert.deepEqual(loads(placement), { e1: (LAYERS * EXPERTS) / 2, e2: (LAYERS * EXPERTS) / 2 });
  for (let i = 0; i < 3; i++) assert.equal(await bench.reconcile(), 'unchanged');
  assert.equal((await stored())?.epoch, 1);
});

test('the first placement waits for --min-workers, later ones do not', async () => {
  const bench = new Bench({ minWorkers: 2 });
  bench.members = [workerEntry({ id: 'e1' })];
  assert.equal(await bench.settle(), 'waiting');
  bench.members.push(workerEntry({ id: 'e2' }));
  assert.equal(await bench.settle(), 'published');
  bench.members.pop();
  assert.equal(await bench.reconcile(), 'published');
  assert.deepEqual(loads(await stored()), { e1: LAYERS * EXPERTS });
});

test('a lost worker is acted on at once and only its experts move', async () => {
  const bench = new Bench();
  bench.members = ['e1', 'e2', 'e3'].map((id) => workerEntry({ id }));
  await bench.settle();
  const before = await stored();
  bench.members.splice(1, 1);
  assert.equal(await bench.reconcile(), 'published');
  const after_ = await stored();
  assert.equal(after_?.epoch, 2);
  for (const [layer, experts] of (before?.assignment.holders ?? []).entries()) {
    for (const [expert, [index]] of experts.entries()) {
      const id = before?.assignment.workers[index ?? 0];
      const now: string | undefined = after_?.assignment.workers[after_.assignment.holders[layer]?.[expert]?.[0] ?? 0];
      if (id !== 'e2') assert.equal(now, id);
      else assert.ok(now === 'e1' || now === 'e3');
    }
  }
});

test('a worker that joins gets its share after the joins have settled', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' })];
  await bench.settle();
  bench.members.push(workerEntry({ id: 'e2' }));
  assert.equal(await bench.reconcile(), 'waiting');
  await bench.clock.advance(1000);
  assert.equal(await bench.reconcile(), 'published');
  assert.deepEqual(loads(await stored()), { e1: 12, e2: 12 });
});

test('a restart of a worker under its id changes nothing', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await bench.settle();
  bench.members[0] = workerEntry({ id: 'e1', incarnation: 2n });
  assert.equal(await bench.settle(), 'unchanged');
});

test('a worker of another checkpoint or numerics class gets nothing, and is named', async () => {
  const bench = new Bench();
  bench.members = [
    workerEntry({ id: 'a-foreign', fingerprint: 'model-b' }),
    workerEntry({ id: 'b-foreign', numericsId: 'class-b' }),
    workerEntry({ id: 'e1' }),
    workerEntry({ id: 'e2' }),
  ];
  assert.equal(await bench.settle(), 'published');
  const placement = await stored();
  assert.deepEqual(placement?.assignment.workers, ['e1', 'e2']);
  assert.deepEqual([placement?.fingerprint, placement?.numericsId], ['model-a', 'class-a']);
  assert.deepEqual((await bench.controller.reconcile()).live?.foreign, ['a-foreign', 'b-foreign']);
});

test('the model of the routers is the one that is placed', async () => {
  const bench = new Bench();
  bench.members = [
    workerEntry({ id: 'e1' }),
    workerEntry({ id: 'e2' }),
    workerEntry({ id: 'e3', fingerprint: 'model-b' }),
    routerEntry('r1', 0, 'model-b'),
  ];
  await bench.settle();
  assert.deepEqual((await stored())?.assignment.workers, ['e3']);
  // What is placed stays while a member has it, whatever joins.
  bench.members.push(routerEntry('r2', 1), routerEntry('r3', 1));
  assert.equal(await bench.settle(), 'unchanged');
});

test('too little memory publishes nothing and says why; the old placement stays', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1', slots: 10 })];
  const short = await bench.settle();
  assert.equal(short, 'short');
  assert.match((await bench.controller.reconcile()).reason, /need 24 places and the 1 workers have 10/);
  assert.equal(await stored(), null);
  bench.members.push(workerEntry({ id: 'e2', slots: 14 }));
  assert.equal(await bench.settle(), 'published');
  assert.deepEqual(loads(await stored()), { e1: 10, e2: 14 });
  bench.members.pop();
  assert.equal(await bench.reconcile(), 'short');
  assert.equal((await stored())?.epoch, 1);
});

test('a draining worker gives up its experts if the others have room, and keeps them if not', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1', slots: 24 }), workerEntry({ id: 'e2', slots: 24 })];
  await bench.settle();
  bench.members[1] = workerEntry({ id: 'e2', slots: 24, draining: true });
  assert.equal(await bench.reconcile(), 'published');
  assert.deepEqual(loads(await stored()), { e1: 24 });
  assert.equal(await bench.settle(), 'unchanged');
  bench.members[0] = workerEntry({ id: 'e1', slots: 10 });
  assert.equal(await bench.reconcile(), 'published');
  assert.deepEqual(loads(await stored()), { e1: 10, e2: 14 });
  assert.equal(await bench.settle(), 'unchanged');
});

test('copies are placed where --replicas asks for them', async () => {
  const bench = new Bench({ replicas: 2 });
  bench.members = ['e1', 'e2', 'e3'].map((id) => workerEntry({ id }));
  await bench.settle();
  for (const holders of (await stored())?.assignment.holders.flat() ?? []) assert.equal(holders.length, 2);
});

test('who does not lead publishes nothing, and a lost leadership is noticed at the write', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' })];
  bench.leader = null;
  assert.equal(await bench.settle(), 'standby');
  bench.leader = { owner: 'another', fence: 99 };
  assert.equal(await bench.settle(), 'refused');
  assert.equal(await stored(), null);
  bench.leader = lock.fence;
  assert.equal(await bench.reconcile(), 'published');
});

test('a new controller goes on where the old one stopped', async () => {
  const old = new Bench();
  old.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await old.settle();
  const next = new Bench({ minWorkers: 2 });
  next.members = old.members;
  assert.equal(await next.settle(), 'unchanged');
  next.members = [workerEntry({ id: 'e2', acked: 1 })];
  assert.equal(await next.reconcile(), 'published');
  assert.equal((await stored())?.epoch, 2);
});

test('while the members are stale or Redis is away nothing is decided', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await bench.settle();
  bench.stale = true;
  bench.members = [];
  assert.equal(await bench.reconcile(), 'stale');
  bench.stale = false;
  server.pause();
  assert.equal(await bench.reconcile(), 'stale');
  server.resume();
  assert.equal(await bench.settle(), 'waiting');
  assert.equal((await stored())?.epoch, 1);
});

async function loseData(): Promise<LeaderFence> {
  await cluster.redis.flushall();
  lock.check();
  return eventually(async () => {
    const owner = await cluster.redis.hget(cluster.keys.leader, 'owner');
    return owner === null ? null : lock.fence;
  }, 'leadership after the loss');
}

test('a placement that Redis lost is published again under a larger number', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await bench.settle();
  const before = await stored();
  bench.leader = await loseData();
  assert.equal(await bench.reconcile(), 'published');
  const now = await stored();
  assert.equal(now?.epoch, 2);
  assert.deepEqual(now?.assignment, before?.assignment);
  assert.equal(await bench.reconcile(), 'unchanged');
});

test('with Redis empty and a new controller the number goes above what any member acknowledged, and holdings stay', async () => {
  const holdings = (first: number): { layer: number; experts: number[] }[] =>
    Array.from({ length: LAYERS }, (_, layer) => ({
      layer,
      experts: Array.from({ length: EXPERTS / 2 }, (__, i) => first + 2 * i),
    }));
  const bench = new Bench({ minWorkers: 3 });
  bench.members = [workerEntry({ id: 'e1', acked: 7, holdings: holdings(1) })];
  assert.equal(await bench.reconcile(), 'waiting');
  await bench.clock.advance(2000);
  assert.equal(await bench.reconcile(), 'waiting', 'members have a renewal interval to come back');
  bench.members.push(workerEntry({ id: 'e2', acked: 6, holdings: holdings(0) }), routerEntry('r1', 6));
  await bench.reconcile();
  await bench.clock.advance(4000);
  assert.equal(await bench.reconcile(), 'published');
  const placement = await stored();
  assert.equal(placement?.epoch, 8);
  const e1 = placement?.assignment.workers.indexOf('e1') ?? -1;
  for (const layer of placement?.assignment.holders ?? []) {
    for (const [expert, holders] of layer.entries()) assert.equal(holders[0] === e1, expert % 2 === 1);
  }
  // A router that comes back late with a larger number is given a placement that it can see.
  bench.members.push(routerEntry('r2', 12));
  assert.equal(await bench.reconcile(), 'published');
  assert.equal((await stored())?.epoch, 13);
  assert.equal(await bench.reconcile(), 'unchanged');
});

test('a damaged placement in Redis is replaced', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' })];
  const fence = lock.fence;
  assert.ok(fence);
  await cluster.placementStore.publish(0, 4, Buffer.from([0xff, 0xff, 0xff]), fence);
  assert.equal(await bench.settle(), 'published');
  assert.equal((await stored())?.epoch, 5);
});

test('a number that is taken is passed over', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' })];
  await cluster.redis.set(cluster.keys.placement(1), 'something old');
  assert.equal(await bench.settle(), 'refused');
  assert.equal(await bench.reconcile(), 'published');
  assert.equal((await stored())?.epoch, 2);
});
