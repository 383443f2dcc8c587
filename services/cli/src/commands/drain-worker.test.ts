import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { PlacedCluster, type TestMember } from '../testing/placed-cluster.ts';

let placed: PlacedCluster;
let [first, second, router]: TestMember[] = [];

beforeEach(async () => {
  placed = await PlacedCluster.start(2);
  router = await placed.router('router-1');
  first = await placed.worker('expert-1');
  second = await placed.worker('expert-2');
  await placed.until('both to hold experts', () => first?.experts() === 8 && second?.experts() === 8);
});
afterEach(() => placed.stop());

async function states(): Promise<string[]> {
  const { requests } = await placed.cluster.drains.read();
  return [...requests.values()].map(({ tag, state }) => `${tag} ${state}`);
}

test('a worker is drained, stays drained when it comes back, and gets experts again when that is undone', async () => {
  const { code, stdout, stderr } = await placed.run('drain', 'expert-2').end;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /expert-2 is not needed any more after \d+\.\d s/);
  assert.match(stdout, /Stop it, or give it experts again with `guildhall drain expert-2 --undo`/);
  assert.deepEqual([first?.experts(), second?.experts()], [16, 0]);
  assert.match(
    (await placed.run('status').end).stdout,
    /drain +state +keeps +asked by +waits for\nexpert-2 +done +0 +\S+@/,
  );
  // Stopped and started again under its id.
  await second?.lease.leave();
  const alive = await placed.run('drain', 'expert-1', '--forget', '--json').end;
  assert.match(alive.stderr, /"code":"id_in_use","message":"expert-1 is alive/);
  second = await placed.worker('expert-2');
  await placed.worker('expert-3');
  await placed.until('expert-3 to take its share', () => first?.experts() === 8);
  assert.equal(second.experts(), 0);
  assert.equal((await placed.run('drain', 'expert-2', '--undo', '--json').end).code, 0);
  await placed.until('expert-2 to have experts', () => (second?.experts() ?? 0) > 0);
  const again = await placed.run('drain', 'expert-2', '--undo').end;
  assert.match(again.stderr, /nobody asked expert-2 to drain/);
  const kinds = (await placed.cluster.eventLog.read()).map((event) => event.kind);
  assert.ok(['drain_started', 'drain_done', 'drain_cancelled'].every((kind) => kinds.includes(kind as never)));
});

test('the wait ends when the last router has moved, and after the time that it is given', async () => {
  if (router !== undefined) router.ackUpTo = 1;
  const late = await placed.run('drain', 'expert-2', '--timeout', '2', '--json').end;
  assert.deepEqual([late.code, late.stdout], [1, '']);
  assert.match(late.stderr, /"code":"deadline_exceeded".*router-1 must take up epoch 2/);
  const waiting = placed.run('drain', 'expert-2', '--json');
  if (router !== undefined) router.ackUpTo = 9;
  const done = await waiting.end;
  assert.deepEqual(
    { ...JSON.parse(done.stdout), seconds: 0 },
    { worker: 'expert-2', state: 'done', keeps: 0, seconds: 0 },
  );
});

test('what the others have no room for stays, with the reason', async () => {
  await first?.lease.leave();
  await placed.until('the other to hold all', () => second?.experts() === 16);
  await placed.worker('expert-1', 5);
  await placed.until('a placement with both', () => (second?.experts() ?? 16) < 16);
  const kept = await placed.run('drain', 'expert-2', '--timeout', '5').end;
  assert.equal(kept.code, 1);
  assert.match(kept.stderr, /expert-2 still holds 11 experts after .* the other workers have no room for 11 experts/);
  assert.match(kept.stderr, /The request stays; `guildhall drain expert-2 --undo` takes it back/);
  assert.deepEqual(await states(), ['expert/expert-2 kept']);
});

test('a request outlives its command, the controller and the data of Redis; one that is taken back ends the wait', async () => {
  const asked = await placed.run('drain', 'expert-2', '--no-wait', '--json').end;
  assert.deepEqual(JSON.parse(asked.stdout), { worker: 'expert-2', state: 'asked' });
  await placed.until('it to be drained', () => second?.experts() === 0);
  await placed.controller?.stop();
  await placed.cluster.redis.flushall();
  if (router !== undefined) router.ackUpTo = 2;
  const { redis, keys } = placed.cluster;
  const registered = async (): Promise<boolean> => (await redis.exists(keys.member('expert', 'expert-2'))) === 1;
  await eventually(registered, 'the worker to be registered again');
  // Nobody remembers it now but who waits for it: this command is started before, and asks again.
  const waiting = placed.run('drain', 'expert-2', '--timeout', '60');
  await placed.until('the command to wait', () => waiting.stderr().includes('no controller is running'));
  await placed.cluster.redis.flushall();
  await placed.startController();
  const found = async (): Promise<boolean> => (await states()).length === 1;
  await eventually(found, 'the request to be made again');
  await placed.until('the controller to see it', () => waiting.stderr().includes('router-1 must take up epoch'));
  await placed.cluster.drains.cancel('expert/expert-2');
  const { code, stderr } = await waiting.end;
  assert.equal(code, 1);
  assert.match(stderr, /somebody took the drain of expert-2 back/);
});
