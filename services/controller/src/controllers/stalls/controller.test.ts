import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { everyLayer, liveOf, placementOf } from '../../testing/live.ts';
import type { TestWorker } from '../../testing/members.ts';
import { type Loading, StallsController } from './controller.ts';

const PATIENCE_MS = 10_000;
const BOTH = placementOf(2, ['e1', 'e2'], (expert) => (expert < 4 ? 'e1' : 'e2'));

class Bench {
  readonly clock = new FakeClock();
  readonly told: [string, string][] = [];
  readonly controller = new StallsController({
    clock: this.clock,
    logger: silentLogger(),
    emit: (kind, message) => void this.told.push([kind, message]),
    patienceMs: PATIENCE_MS,
  });

  look(workers: TestWorker[], placement = BOTH): [string[], string[]] {
    const { loading, stalled }: Loading = this.controller.reconcile(liveOf(workers).workers, placement);
    return [loading, [...stalled]];
  }
}

const ready = { id: 'e2', acked: 2, holdings: everyLayer(4, 5, 6, 7) };

test('who has yet to acknowledge what it was given is loading, for as long as it makes progress', async () => {
  const bench = new Bench();
  for (let held = 0; held < 4; held++) {
    const slow = { id: 'e1', acked: 1, holdings: everyLayer(...[0, 1, 2, 3].slice(0, held)) };
    assert.deepEqual(bench.look([slow, ready, { id: 'e3' }]), [['e1'], []]);
    await bench.clock.advance(PATIENCE_MS - 1);
  }
  assert.deepEqual(bench.look([{ id: 'e1', acked: 2, holdings: everyLayer(0, 1, 2, 3) }, ready]), [[], []]);
  assert.deepEqual(bench.told, []);
});

test('a worker that has loaded nothing for too long is stalled until it starts again', async () => {
  const bench = new Bench();
  const stuck = { id: 'e1', acked: 1, holdings: everyLayer(0) };
  assert.deepEqual(bench.look([stuck, ready]), [['e1'], []]);
  await bench.clock.advance(PATIENCE_MS);
  assert.deepEqual(bench.look([stuck, ready]), [[], ['e1']]);
  assert.deepEqual(bench.told, [
    ['load_failed', 'e1 has loaded nothing for 10 s; the 9 experts that it lacks are planned elsewhere'],
  ]);
  // The next epoch gives it what it holds; it stays without anything new.
  const relieved = placementOf(3, ['e1', 'e2'], (expert) => (expert === 0 ? 'e1' : 'e2'));
  assert.deepEqual(bench.look([{ ...stuck, acked: 3 }, ready], relieved), [['e2'], ['e1']]);
  await bench.clock.advance(300_000);
  assert.deepEqual(
    bench.look(
      [
        { ...stuck, acked: 3 },
        { ...ready, acked: 3 },
      ],
      relieved,
    ),
    [[], ['e1']],
  );
  assert.deepEqual(
    bench.look(
      [
        { ...stuck, acked: 3, incarnation: 2n },
        { ...ready, acked: 3 },
      ],
      relieved,
    ),
    [[], []],
  );
  assert.equal(bench.told.length, 1);
});

test('a stalled worker is tried again after a while', async () => {
  const bench = new Bench();
  const stuck = { id: 'e1', acked: 1 };
  bench.look([stuck, ready]);
  await bench.clock.advance(PATIENCE_MS);
  assert.deepEqual(bench.look([stuck, ready]), [[], ['e1']]);
  await bench.clock.advance(600_000);
  assert.deepEqual(bench.look([stuck, ready]), [['e1'], []]);
  await bench.clock.advance(PATIENCE_MS);
  assert.deepEqual(bench.look([stuck, ready]), [[], ['e1']]);
});

test('a new epoch gives new patience', async () => {
  const bench = new Bench();
  const stuck = { id: 'e1', acked: 1 };
  bench.look([stuck, ready]);
  await bench.clock.advance(PATIENCE_MS - 1);
  assert.deepEqual(bench.look([stuck, { ...ready, acked: 3 }], { ...BOTH, epoch: 3 }), [['e1'], []]);
  await bench.clock.advance(PATIENCE_MS - 1);
  assert.deepEqual(bench.look([stuck, { ...ready, acked: 3 }], { ...BOTH, epoch: 3 }), [['e1'], []]);
});
