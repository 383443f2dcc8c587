import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock, type MemberEntry } from '@guildhall/common';
import { control } from '@guildhall/proto';
import { type DrainEnd, waitDrained } from './drain.ts';

type Kind = 'router' | 'expert' | 'controller';

function entry(kind: Kind, id: string, fields: Partial<control.Member> = {}): MemberEntry {
  const member = control.Member.fromPartial({ id, modelFingerprint: 'model', numericsId: 'class', ...fields });
  return { kind, id, incarnation: 1n, value: Buffer.from(control.Member.encode(member).finish()) };
}

/** A placement of one expert. */
function placementOf(epoch: number, worker: string): { epoch: number; bytes: Buffer } {
  const layers = [{ layer: 0, counts: [1], workers: [0] }];
  const placement = { epoch: BigInt(epoch), modelFingerprint: 'model', numericsId: 'class', workers: [worker], layers };
  return { epoch, bytes: Buffer.from(control.Placement.encode(control.Placement.fromPartial(placement)).finish()) };
}

/** A worker e1 that wants to leave, among members that the test decides. */
class Bench {
  readonly clock = new FakeClock();
  members: MemberEntry[] = [entry('router', 'r1', { ackedEpoch: 1n }), entry('expert', 'e2'), entry('controller', 'c')];
  placement: { epoch: number; bytes: Buffer } | null = placementOf(1, 'e1');
  stale = false;
  end: DrainEnd | null = null;

  /** What the drain came to within `ms`; null while it waits. */
  async within(ms: number): Promise<DrainEnd | null> {
    await this.clock.advance(ms);
    return this.end;
  }

  start(limitMs = 60_000, untilRoutersEnd = false): void {
    const isStale = (): boolean => this.stale;
    const members = {
      members: () => this.members,
      refresh: () => Promise.resolve(),
      get stale() {
        return isStale();
      },
    };
    const cluster = { members, placements: { current: () => this.placement } } as unknown as Parameters<
      typeof waitDrained
    >[0]['cluster'];
    const identity = { id: 'e1', fingerprint: 'model', numericsId: 'class' };
    void waitDrained({ ...identity, cluster, limitMs, untilRoutersEnd, clock: this.clock }).then(
      (end) => (this.end = end),
    );
  }
}

test('a worker stays until a newer epoch gives it nothing and every router of its model plans with it', async () => {
  const bench = new Bench();
  bench.start();
  assert.equal(await bench.within(5000), null);
  bench.placement = placementOf(2, 'e2');
  assert.equal(await bench.within(5000), null);
  bench.members[0] = entry('router', 'r1', { ackedEpoch: 2n });
  bench.members.push(entry('router', 'r2', { ackedEpoch: 1n }), entry('router', 'r3', { modelFingerprint: 'other' }));
  assert.equal(await bench.within(5000), null);
  bench.members[3] = entry('router', 'r2', { ackedEpoch: 3n });
  assert.equal(await bench.within(5000), 'served');
});

test('it does not wait where there is nothing to wait for', async () => {
  const noRouter = new Bench();
  noRouter.members.shift();
  const noPlacement = new Bench();
  noPlacement.placement = null;
  const alone = new Bench();
  alone.members[1] = entry('expert', 'e2', { draining: true });
  const strangers = new Bench();
  strangers.members[1] = entry('expert', 'e2', { numericsId: 'other' });
  const ends: (DrainEnd | null)[] = [];
  for (const bench of [noRouter, noPlacement, alone, strangers]) {
    bench.start();
    ends.push(await bench.within(3000));
  }
  assert.deepEqual(ends, ['unused', 'served', 'alone', 'alone']);
});

test('without a controller, or with Redis away, it waits for another to take over, not for ever', async () => {
  const bench = new Bench();
  bench.start();
  const controller = bench.members.pop() as MemberEntry;
  assert.equal(await bench.within(6000), null);
  bench.members.push(controller);
  assert.equal(await bench.within(6000), null);
  bench.stale = true;
  assert.equal(await bench.within(6000), null);
  assert.equal(await bench.within(4000), 'uncontrolled');
});

test('the limit ends it', async () => {
  const bench = new Bench();
  bench.start(10_000);
  assert.equal(await bench.within(9900), null);
  assert.equal(await bench.within(1000), 'late');
});

test('alone, it stays for the streams that a router of its model has left, and goes when the router does', async () => {
  for (const fields of [{ running: 1 }, { waiting: 1 }, { draining: true }]) {
    const bench = new Bench();
    bench.members[1] = entry('expert', 'e2', { modelFingerprint: 'new' });
    bench.members[0] = entry('router', 'r1', { ackedEpoch: 1n, ...fields });
    bench.start();
    assert.equal(await bench.within(50_000), null, JSON.stringify(fields));
    bench.members.shift();
    assert.equal(await bench.within(1000), 'unused', JSON.stringify(fields));
  }
});

test('without a controller of its generation it stays for them too, also while Redis is away', async () => {
  const bench = new Bench();
  bench.members = [entry('router', 'r1', { ackedEpoch: 1n, running: 3 }), entry('expert', 'e2')];
  bench.start();
  assert.equal(await bench.within(30_000), null);
  bench.stale = true;
  assert.equal(await bench.within(20_000), null);
  bench.stale = false;
  bench.members[0] = entry('router', 'r1', { ackedEpoch: 1n });
  assert.equal(await bench.within(3000), 'uncontrolled');
});

test('on Kubernetes it stays until the routers of its model are gone, idle or not, up to its limit', async () => {
  const idle = new Bench();
  idle.members[1] = entry('expert', 'e2', { numericsId: 'other' });
  idle.start(60_000, true);
  assert.equal(await idle.within(50_000), null);
  idle.members[0] = entry('router', 'r1', { modelFingerprint: 'new' });
  assert.equal(await idle.within(1000), 'unused');
  const stubborn = new Bench();
  stubborn.members[1] = entry('expert', 'e2', { draining: true });
  stubborn.start(10_000, true);
  assert.equal(await stubborn.within(11_000), 'late');
});
