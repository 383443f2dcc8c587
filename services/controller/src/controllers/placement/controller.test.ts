import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import {
  Cluster,
  createMetrics,
  type EventKind,
  FakeClock,
  type LeaderFence,
  LeaderLock,
  type MemberEntry,
  systemClock,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { decodePlacement, type PlacementRecord, redisPlacements } from '../../store/placement-store.ts';
import { EXPERTS, LAYERS, routerEntry, workerEntry } from '../../testing/members.ts';
import type { Emit } from '../../events.ts';
import { planPlacement } from '../../placement/plan.ts';
import type { PlanInput } from '../../placement/types.ts';
import type { MeasuredLoads } from '../loads/controller.ts';
import { type LiveWorkers, WorkersController } from '../workers/controller.ts';
import type { Observed } from './observed.ts';
import { type Outcome, PlacementController } from './controller.ts';

const logger = silentLogger();
const NOTHING_MEASURED: MeasuredLoads = {
  tokens: new Float64Array(LAYERS * EXPERTS),
  total: 0,
  sets: [],
  topK: 0,
  tokensPerStep: 0,
  rowsOf: new Map(),
};
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
  readonly events: [EventKind, string][] = [];
  stalled = new Set<string>();
  /** Workers count as loading until they have acknowledged. */
  slow = false;
  measured: MeasuredLoads = NOTHING_MEASURED;
  /** Called with each input of the planner. */
  planned: PlanInput[] = [];

  constructor(options: { minWorkers?: number; replicas?: number; rebalanceMs?: number } = {}) {
    const metrics = createMetrics('controller');
    const isStale = (): boolean => this.stale;
    const members = {
      members: () => this.members,
      get stale() {
        return isStale();
      },
    };
    const emit: Emit = (kind, message) => void this.events.push([kind, message]);
    const workers = new WorkersController({ members, clock: this.clock, logger, metrics, emit });
    this.controller = new PlacementController({
      observe: async (placement) => {
        const live = workers.reconcile(placement);
        return live === null ? null : this.#observed(live, placement);
      },
      placements: redisPlacements(cluster.placementStore, logger),
      plan: (input) => {
        this.planned.push(input);
        return Promise.resolve(planPlacement(input));
      },
      policy: {
        minReplicas: options.replicas ?? 1,
        maxReplicas: options.replicas ?? 1,
        weights: { threshold: 0.1, usPerExtraWorker: 0, usPerMovedMib: 0 },
      },
      leader: () => this.leader,
      clock: this.clock,
      logger,
      metrics,
      emit,
      minWorkers: options.minWorkers ?? 1,
      settleMs: 1000,
      rebalanceMs: options.rebalanceMs ?? 0,
    });
  }

  #observed(live: LiveWorkers, placement: PlacementRecord | null): Observed {
    const epoch = placement?.epoch ?? 0;
    return {
      live,
      draining: new Set(live.workers.filter((worker) => worker.draining).map((worker) => worker.id)),
      stalled: this.stalled,
      // Workers of these tests acknowledge by hand, where that matters.
      loading: this.slow ? live.workers.filter((worker) => worker.ackedEpoch < epoch).map((worker) => worker.id) : [],
      speeds: new Map(),
      measured: this.measured,
    };
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
  assert.deepEqual((await bench.controller.reconcile()).observed?.live.foreign, ['a-foreign', 'b-foreign']);
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

/** Loads under which expert 0 of each layer gets `hot` tokens and every other one a hundred. */
function skewed(hot: number): MeasuredLoads {
  const tokens = Float64Array.from({ length: LAYERS * EXPERTS }, (_, key) => (key % EXPERTS === 0 ? hot : 100));
  return { ...NOTHING_MEASURED, tokens, total: tokens.reduce((sum, count) => sum + count, 0), topK: 2 };
}

/** Number of experts of layer 0 that the worker of expert 0 holds. */
function besideHot(record: PlacementRecord | null): number {
  const layer = record?.assignment.holders[0] ?? [];
  return layer.filter((holders) => holders[0] === layer[0]?.[0]).length;
}

test('experts move for their load now and then, and only where it pays', async () => {
  const bench = new Bench({ rebalanceMs: 60_000 });
  bench.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await bench.settle();
  bench.measured = skewed(700);
  assert.equal(await bench.settle(), 'unchanged', 'not yet');
  await bench.clock.advance(60_000);
  assert.equal(await bench.reconcile(), 'published');
  const moved = await stored();
  assert.equal(besideHot(moved), 1, 'the one that is used most has a worker for itself');
  assert.ok((moved?.predicted?.imbalance ?? 9) < 1.01, JSON.stringify(moved?.predicted));
  assert.match(bench.events.at(-1)?.[1] ?? '', /^epoch 2: load: a step takes \d+ instead of \d+ µs/);
  // A little more or less of the same is no reason to move anything, and is spoken of once.
  bench.measured = skewed(720);
  for (let minute = 0; minute < 3; minute++) {
    await bench.clock.advance(60_000);
    assert.equal(await bench.reconcile(), 'unchanged');
  }
  assert.deepEqual(
    bench.events.slice(-2).map(([kind]) => kind),
    ['placement', 'placement_kept'],
  );
  assert.equal((await stored())?.epoch, 2);
});

test('without a rebalancing interval, or with next to no tokens, loads move nothing', async () => {
  const never = new Bench();
  never.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await never.settle();
  never.measured = skewed(700);
  await never.clock.advance(3_600_000);
  assert.equal(await never.reconcile(), 'unchanged');
  const quiet = new Bench({ rebalanceMs: 1000 });
  quiet.members = never.members;
  quiet.measured = { ...skewed(700), total: 10 };
  await quiet.settle();
  assert.equal(await quiet.settle(), 'unchanged');
});

test('nothing is planned while nothing has changed', async () => {
  const bench = new Bench({ rebalanceMs: 60_000 });
  bench.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await bench.settle();
  const plans = bench.planned.length;
  for (let i = 0; i < 5; i++) await bench.settle();
  assert.equal(bench.planned.length, plans);
});

test('a controller that takes over does not undo what load has moved', async () => {
  const old = new Bench({ rebalanceMs: 60_000 });
  old.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await old.settle();
  old.measured = skewed(700);
  await old.clock.advance(60_000);
  assert.equal(await old.reconcile(), 'published');
  // It has no reports yet: all experts look alike to it.
  const next = new Bench({ rebalanceMs: 60_000 });
  next.members = old.members;
  assert.equal(await next.settle(), 'unchanged');
  assert.equal(besideHot(await stored()), 1);
});

test('while an epoch is being loaded joins and loads wait, losses and drains do not', async () => {
  const bench = new Bench({ rebalanceMs: 1000 });
  bench.slow = true;
  const members = (acked: number, ...ids: string[]): MemberEntry[] => ids.map((id) => workerEntry({ id, acked }));
  bench.members = members(0, 'e1', 'e2', 'e3');
  assert.equal(await bench.settle(), 'published');
  bench.measured = skewed(700);
  bench.members = [...members(0, 'e1'), ...members(1, 'e2', 'e3', 'e4')];
  assert.equal(await bench.settle(), 'waiting');
  assert.match(
    (await bench.controller.reconcile()).reason,
    /^e1, e4 must load epoch 1 first$|^e1 must load epoch 1 first$/,
  );
  bench.members = [...members(0, 'e1'), workerEntry({ id: 'e2', acked: 1, draining: true }), ...members(1, 'e3', 'e4')];
  assert.equal(await bench.reconcile(), 'published', 'a drain');
  bench.members = [...members(0, 'e1'), workerEntry({ id: 'e2', acked: 2, draining: true }), ...members(1, 'e4')];
  assert.equal(await bench.reconcile(), 'published', 'a loss');
  assert.deepEqual(Object.keys(loads(await stored())).sort(), ['e1', 'e4']);
});

test('what a stalled worker has not loaded goes to the others, and it keeps what it holds', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await bench.settle();
  const before_ = await stored();
  const mine = before_?.assignment.holders[0]?.flatMap((holders, expert) => (holders[0] === 0 ? [expert] : [])) ?? [];
  const held = mine.slice(0, 2);
  bench.members[0] = workerEntry({ id: 'e1', holdings: [{ layer: 0, experts: held }] });
  bench.stalled = new Set(['e1']);
  assert.equal(await bench.reconcile(), 'published');
  const now = await stored();
  assert.deepEqual(loads(now), { e1: 2, e2: LAYERS * EXPERTS - 2 });
  for (const expert of held) assert.equal(now?.assignment.workers[now.assignment.holders[0]?.[expert]?.[0] ?? 9], 'e1');
  assert.match(bench.events.at(-1)?.[1] ?? '', /stuck in loading: e1/);
});

test('a worker that says it has less memory than it was given room for is relieved though it still loads', async () => {
  const bench = new Bench();
  bench.slow = true;
  bench.members = [workerEntry({ id: 'e1' }), workerEntry({ id: 'e2' })];
  await bench.settle();
  bench.members[0] = workerEntry({ id: 'e1', slots: 5 });
  assert.equal(await bench.reconcile(), 'published');
  assert.equal(loads(await stored())['e1'], 5);
  // More memory is no hurry.
  bench.members[0] = workerEntry({ id: 'e1', slots: 50 });
  assert.equal(await bench.settle(), 'waiting');
});

test('a shortage is told once, and again after it was over', async () => {
  const bench = new Bench();
  bench.members = [workerEntry({ id: 'e1', slots: 10 })];
  for (let i = 0; i < 3; i++) assert.equal(await bench.settle(), 'short');
  bench.members.push(workerEntry({ id: 'e2', slots: 14 }));
  await bench.settle();
  bench.members.pop();
  assert.equal(await bench.reconcile(), 'short');
  const told = bench.events.filter(([kind]) => kind === 'placement_short');
  assert.equal(told.length, 2);
});
