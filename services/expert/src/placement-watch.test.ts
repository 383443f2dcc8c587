import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { FakeClock, type MemberEntry, type StoredPlacement } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { PlacementWatch } from './placement-watch.ts';
import type { ExpertSet, LoadResult } from './shard.ts';

const EXPERTS = 8;

/** A shard of one layer that loads what and when the test says. */
class FakeShard {
  readonly held = new Set<number>();
  readonly loads: string[] = [];
  readonly broken = new Set<number>();
  places = Infinity;
  lowered = 0;
  loadedCalls = 0;
  /** Loads wait here while it is set. */
  gate: Promise<void> | null = null;

  has(_layer: number, expert: number): boolean {
    return this.held.has(expert);
  }

  get heldCount(): number {
    return this.held.size;
  }

  async load(_layer: number, expert: number, { urgent }: { urgent: boolean }): Promise<LoadResult> {
    this.loads.push(`${expert}${urgent ? '!' : ''}`);
    await this.gate;
    if (this.broken.has(expert)) return 'failed';
    if (this.held.size >= this.places) return 'no_memory';
    this.held.add(expert);
    return 'loaded';
  }

  loaded(): Promise<void> {
    this.loadedCalls += 1;
    return Promise.resolve();
  }

  dropAllBut(keep: ExpertSet): number {
    return this.#drop((expert) => keep.get(0)?.has(expert) !== true, Infinity);
  }

  makeRoom(keep: ExpertSet, covered: (layer: number, expert: number) => boolean): boolean {
    return this.#drop((expert) => keep.get(0)?.has(expert) !== true && covered(0, expert), 1) > 0;
  }

  lowerCapacity(): void {
    this.lowered += 1;
  }

  #drop(test: (expert: number) => boolean, most: number): number {
    const dropped = [...this.held].filter(test).slice(0, most);
    for (const expert of dropped) this.held.delete(expert);
    return dropped.length;
  }
}

let clock: FakeClock;
let shard: FakeShard;
let watch: PlacementWatch;
let acks: number[];
let covered: Set<number>;
let routers: MemberEntry[];
const members = { stale: false, listeners: new Set<() => void>() };
const placements = { current: null as StoredPlacement | null, listeners: new Set<(p: StoredPlacement) => void>() };

beforeEach(() => {
  clock = new FakeClock();
  shard = new FakeShard();
  acks = [];
  covered = new Set();
  routers = [];
  members.stale = false;
  placements.current = null;
  watch = new PlacementWatch({
    id: 'me',
    fingerprint: 'f',
    numericsId: 'n',
    placements: {
      current: () => placements.current,
      onChange: (listener) => {
        placements.listeners.add(listener);
        return () => void placements.listeners.delete(listener);
      },
    },
    members: {
      members: () => routers,
      get stale() {
        return members.stale;
      },
      onChange: (listener) => {
        members.listeners.add(listener);
        return () => void members.listeners.delete(listener);
      },
    },
    shard,
    covered: (_layer, expert) => covered.has(expert),
    clock,
    logger: silentLogger(),
    onAck: (epoch) => acks.push(epoch),
  });
  watch.start();
});

afterEach(async () => {
  await watch.stop();
  assert.equal(clock.pending, 0);
  assert.deepEqual([members.listeners.size, placements.listeners.size], [0, 0]);
});

/** A placement that gives this worker some experts and another one the rest. */
function publish(epoch: number, own: number[]): void {
  const workers = Array.from({ length: EXPERTS }, (_, expert) => (own.includes(expert) ? 0 : 1));
  const bytes = control.Placement.encode(
    control.Placement.fromPartial({
      epoch: BigInt(epoch),
      modelFingerprint: 'f',
      numericsId: 'n',
      workers: ['me', 'other'],
      layers: [{ layer: 0, counts: workers.map(() => 1), workers }],
    }),
  ).finish();
  placements.current = { epoch, bytes: Buffer.from(bytes) };
  for (const listener of placements.listeners) listener(placements.current);
}

function router(id: string, ackedEpoch: number, modelFingerprint = 'f'): MemberEntry {
  const value = control.Member.fromPartial({ id, modelFingerprint, ackedEpoch: BigInt(ackedEpoch) });
  return { kind: 'router', id, incarnation: 1n, value: Buffer.from(control.Member.encode(value).finish()) };
}

function setRouters(...list: MemberEntry[]): void {
  routers = list;
  for (const listener of members.listeners) listener();
}

const acked = (epoch: number): Promise<boolean> => eventually(() => acks.at(-1) === epoch, `epoch ${epoch}`);

test('what nobody else holds is loaded first and urgently', async () => {
  covered = new Set([0, 2]);
  publish(1, [0, 1, 2, 3]);
  await acked(1);
  assert.deepEqual(shard.loads, ['1!', '3!', '0', '2']);
  assert.equal(shard.loadedCalls, 1);
});

test('an epoch that is superseded while it is loaded is never acknowledged, and the rest of it not loaded', async () => {
  const gate = Promise.withResolvers<void>();
  shard.gate = gate.promise;
  publish(1, [0, 1, 2]);
  await eventually(() => shard.loads.length === 1, 'the first load');
  publish(2, [5]);
  publish(3, [6]);
  gate.resolve();
  await acked(3);
  assert.deepEqual(acks, [3]);
  assert.deepEqual(shard.loads, ['0!', '6!']);
});

test('leftovers stay while a router has not seen the newer epoch, cannot be read, or the list is stale', async () => {
  setRouters(router('r1', 1), router('r2', 1), router('stranger', 0, 'other'));
  publish(1, [0, 1]);
  await acked(1);
  publish(2, [1]);
  await acked(2);
  setRouters(router('r1', 2), router('r2', 1));
  assert.deepEqual([...shard.held], [0, 1]);
  setRouters(router('r1', 2), { ...router('r2', 2), value: Buffer.from([0xff]) });
  assert.deepEqual([...shard.held], [0, 1]);
  members.stale = true;
  setRouters();
  assert.deepEqual([...shard.held], [0, 1]);
  members.stale = false;
  // A router that has just joined has not said yet what it plans with.
  setRouters(router('r1', 2), router('r3', 0));
  assert.deepEqual([...shard.held], [0, 1]);
  setRouters(router('r1', 2), router('r3', 2));
  assert.deepEqual([...shard.held], [1]);
});

test('nothing is dropped for an epoch that is not held yet', async () => {
  publish(1, [0]);
  await acked(1);
  shard.broken.add(4);
  publish(2, [4]);
  await eventually(() => shard.loads.includes('4!'), 'the attempt');
  setRouters(router('r1', 2));
  assert.deepEqual([...shard.held], [0]);
});

test('an expert that cannot be loaded holds up no other, and is tried again with longer and longer waits', async () => {
  shard.broken.add(0);
  publish(1, [0, 1]);
  await eventually(() => clock.pending === 1, 'the wait');
  assert.deepEqual(shard.loads, ['0!', '1!']);
  assert.deepEqual(acks, []);
  await clock.advance(500);
  await eventually(() => shard.loads.length === 3 && clock.pending === 1, 'the second try');
  await clock.advance(900);
  assert.equal(shard.loads.length, 3);
  shard.broken.clear();
  await clock.advance(200);
  await acked(1);
  assert.equal(shard.loads.length, 4);
});

test('a newer epoch does not wait for the next try of an older one', async () => {
  shard.broken.add(0);
  publish(1, [0]);
  await eventually(() => clock.pending === 1, 'the wait');
  publish(2, [1]);
  await acked(2);
  assert.deepEqual(acks, [2]);
});

test('without memory, leftovers that others hold go early; with none the capacity is lowered', async () => {
  setRouters(router('r1', 1));
  publish(1, [0, 1]);
  await acked(1);
  shard.places = 2;
  covered = new Set([1]);
  publish(2, [2]);
  await acked(2);
  assert.deepEqual([...shard.held], [0, 2]);
  assert.equal(shard.lowered, 0);
  publish(3, [2, 3]);
  await eventually(() => shard.lowered === 1, 'the lowered capacity');
  assert.deepEqual([...shard.held], [0, 2]);
  assert.deepEqual(acks, [1, 2]);
  setRouters();
  await clock.advance(500);
  await acked(3);
  assert.deepEqual([...shard.held], [2, 3], 'without routers nobody asks for what is left over');
});
