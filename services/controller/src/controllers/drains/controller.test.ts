import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Cluster, type DrainRequest, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { liveOf, placementOf } from '../../testing/live.ts';
import type { PlacementRecord } from '../../store/placement-store.ts';
import type { TestWorker } from '../../testing/members.ts';
import { type Drain, DrainsController } from './controller.ts';

let server: RedisServer;
let home: Cluster;
let count = 0;

before(async () => {
  server = await RedisServer.start();
});
after(async () => {
  await home.close();
  await server.stop();
});
beforeEach(async () => {
  await home?.close();
  const options = { redis: server.url, clock: systemClock, logger: silentLogger() };
  home = new Cluster({ ...options, cluster: `drains-${count++}` });
  await eventually(() => home.redis.status === 'ready', 'connection');
});

const SPLIT = placementOf(1, ['e1', 'e2'], (expert) => (expert < 4 ? 'e1' : 'e2'));
const MOVED = placementOf(2, ['e1'], () => 'e1');
const e1 = { id: 'e1', acked: 2 };
const e2 = { id: 'e2', acked: 2 };

class Bench {
  readonly told: string[] = [];
  leading = true;
  readonly controller = new DrainsController({
    drains: home.drains,
    logger: silentLogger(),
    emit: (kind, message) => {
      if (this.leading) this.told.push(`${kind}: ${message}`);
    },
  });

  async look(
    workers: TestWorker[],
    placement: PlacementRecord | null = SPLIT,
    options: { planned?: string[]; routers?: { id: string; acked: number }[] } = {},
  ): Promise<{ draining: string[]; drains: Drain[] }> {
    const live = liveOf(workers, options.routers ?? [{ id: 'r1', acked: 1 }]);
    const draining = await this.controller.refresh(live, this.leading);
    const planned = new Set(options.planned ?? []);
    const drains = await this.controller.supervise({ live, placement, planned }, this.leading);
    return { draining: [...draining].sort(), drains };
  }
}

async function ask(id: string): Promise<void> {
  await home.drains.request({ tag: `expert/${id}`, by: 'ann', atMs: 1, state: 'asked', keeps: 0, why: '' });
}

async function noted(id: string): Promise<Pick<DrainRequest, 'state' | 'keeps' | 'why'> | null> {
  const found = (await home.drains.read()).requests.get(`expert/${id}`);
  return found === undefined ? null : { state: found.state, keeps: found.keeps, why: found.why };
}

test('a drain goes from the request to the last router that used the worker, and stays over a restart', async () => {
  const bench = new Bench();
  assert.deepEqual(await bench.look([e1, e2]), { draining: [], drains: [] });
  await ask('e2');
  assert.deepEqual((await bench.look([e1, e2])).draining, ['e2']);
  assert.deepEqual(await noted('e2'), { state: 'moving', keeps: 12, why: 'a placement without it is to be made' });
  await bench.look([{ id: 'e1', acked: 1 }, e2], MOVED, { planned: ['e2'] });
  const why = 'e1 must load epoch 2 first; r1 must take up epoch 2';
  assert.deepEqual(await noted('e2'), { state: 'moving', keeps: 0, why });
  const routers = [
    { id: 'r1', acked: 2 },
    { id: 'r2', acked: 2 },
  ];
  const done = await bench.look([e1, e2], MOVED, { planned: ['e2'], routers });
  assert.deepEqual(done.drains, [{ worker: 'e2', by: 'ann', state: 'done', keeps: 0, why: '' }]);
  assert.deepEqual(bench.told, ['drain_started: ann asked e2 to drain', 'drain_done: nobody needs e2 any more']);
  // It goes, and comes back: still drained. Another controller sees the same and has nothing to tell.
  await bench.look([e1], MOVED, { planned: ['e2'], routers });
  const next = new Bench();
  assert.deepEqual((await next.look([e1, { id: 'e2' }], MOVED, { routers })).draining, ['e2']);
  assert.deepEqual([bench.told.length, next.told], [2, []]);
  await home.drains.cancel('expert/e2');
  assert.deepEqual((await next.look([e1, e2], MOVED, { routers })).draining, []);
  assert.deepEqual(next.told, ['drain_cancelled: e2 is no longer asked to drain']);
});

test('what the others have no room for stays, and is told', async () => {
  const bench = new Bench();
  await ask('e2');
  await bench.look([e1, e2]);
  await bench.look([e1, e2], SPLIT, { planned: ['e2'] });
  const kept = { state: 'kept', keeps: 12, why: 'the other workers have no room for 12 experts' };
  assert.deepEqual(await noted('e2'), kept);
  // A controller that has not planned yet does not know better.
  const next = new Bench();
  await next.look([e1, e2]);
  assert.deepEqual(await noted('e2'), kept);
  await next.look([e1, e2], MOVED, { planned: ['e2'], routers: [{ id: 'r1', acked: 2 }] });
  assert.equal((await noted('e2'))?.state, 'done');
  assert.match(bench.told[1] ?? '', /^placement_short: e2 keeps 12 experts though it drains/);
  assert.deepEqual(next.told, ['drain_done: nobody needs e2 any more']);
});

test('a worker that was told to end drains without a request', async () => {
  const bench = new Bench();
  const ending = { ...e2, draining: true };
  assert.deepEqual((await bench.look([e1, ending])).draining, ['e2']);
  const { drains } = await bench.look([e1, ending], MOVED, { planned: ['e2'], routers: [] });
  assert.deepEqual(drains, [{ worker: 'e2', by: null, state: 'done', keeps: 0, why: '' }]);
  assert.deepEqual(bench.told, [
    'drain_started: e2 was told to end and drains',
    'drain_done: nobody needs e2 any more',
  ]);
  assert.equal(await noted('e2'), null);
  // Back under its id, it is not draining any more.
  assert.deepEqual(await bench.look([e1, { id: 'e2', incarnation: 2n }], MOVED), { draining: [], drains: [] });
});

test('nothing is over while no placement is known: routers may still use what they know', async () => {
  const bench = new Bench();
  await ask('e2');
  await bench.look([e1], null);
  assert.deepEqual(await noted('e2'), { state: 'moving', keeps: 0, why: 'no placement is known' });
  await bench.look([e1, e2], SPLIT, { planned: ['e2'] });
  await bench.look([e1, e2], null);
  assert.equal((await noted('e2'))?.state, 'kept');
});

test('a worker that is gone needs nobody to wait for it', async () => {
  const bench = new Bench();
  await ask('e9');
  const { drains } = await bench.look([e1, e2]);
  assert.deepEqual(drains, [{ worker: 'e9', by: 'ann', state: 'done', keeps: 0, why: '' }]);
});

test('who does not lead looks on', async () => {
  const bench = new Bench();
  bench.leading = false;
  await ask('e2');
  const { draining, drains } = await bench.look([e1, e2], MOVED, { routers: [] });
  assert.deepEqual([draining, drains[0]?.state], [['e2'], 'done']);
  assert.deepEqual([bench.told, (await noted('e2'))?.state], [[], 'asked']);
});

test('requests that Redis lost are put back by the leader, also those it saw while it stood by', async () => {
  const bench = new Bench();
  await ask('e2');
  await bench.look([e1, e2], MOVED, { planned: ['e2'], routers: [] });
  bench.leading = false;
  await home.redis.flushall();
  assert.deepEqual((await bench.look([e1, e2], MOVED)).draining, ['e2']);
  assert.equal(await noted('e2'), null);
  bench.leading = true;
  assert.deepEqual((await bench.look([e1, e2], MOVED, { planned: ['e2'], routers: [] })).draining, ['e2']);
  assert.equal((await noted('e2'))?.state, 'done');
  assert.deepEqual(bench.told.slice(2), []);
});

test('while Redis is away the drains are those of before', async () => {
  const bench = new Bench();
  await ask('e2');
  await bench.look([e1, e2]);
  await server.kill();
  assert.deepEqual((await bench.look([e1, e2])).draining, ['e2']);
  await server.restart();
});

test('requests to other kinds of members are not its business', async () => {
  const bench = new Bench();
  await home.drains.request({ tag: 'router/r1', by: 'ann', atMs: 1, state: 'asked', keeps: 0, why: '' });
  assert.deepEqual(await bench.look([e1, e2]), { draining: [], drains: [] });
});
