import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import fc from 'fast-check';
import { type Assignment, assignmentOf, holdingsOf } from './holdings.ts';
import { buildView, ExpertViews, fullyHeld, missingExperts, type ViewWorker } from './placement-view.ts';

const SHAPE = { numLayers: 2, numExperts: 4 };

function placement(epoch: number, workers: string[], holders: number[][]): Assignment {
  const counts = holders.map((list) => list.length);
  return assignmentOf(
    {
      epoch: BigInt(epoch),
      modelFingerprint: '',
      numericsId: '',
      workers,
      layers: [0, 1].map((layer) => ({ layer, counts, workers: holders.flat() })),
      reason: '',
      createdMs: 0n,
      predicted: undefined,
    },
    SHAPE,
  );
}

const everyLayer = (experts: number[]) =>
  holdingsOf(
    [0, 1].map((layer) => ({ layer, experts })),
    SHAPE,
  );

function holdersAt(view: ReturnType<typeof buildView<ViewWorker>>, layer: number, expert: number): string[] {
  const key = layer * SHAPE.numExperts + expert;
  const { start, list } = view.holders;
  return Array.from(list.subarray(start[key], start[key + 1]), (index) => view.workers[index]?.id ?? '?');
}

const worker = (id: string): ViewWorker => ({ id, ready: true });

test('holders are those that the placement names and that hold the expert', () => {
  const holders = [
    { worker: worker('a'), held: everyLayer([0, 1, 2, 3]) },
    { worker: worker('b'), held: everyLayer([2, 3]) },
  ];
  const view = buildView(placement(5, ['a', 'b'], [[0], [0], [1], [0, 1]]), holders, SHAPE);
  assert.equal(view.epoch, 5);
  assert.equal(view.missing, 0);
  assert.deepEqual(holdersAt(view, 1, 1), ['a']);
  assert.deepEqual(holdersAt(view, 0, 2), ['b']);
  assert.deepEqual(holdersAt(view, 1, 3), ['a', 'b']);
});

test('where none of those is there, any worker that holds the expert will do', () => {
  const holders = [{ worker: worker('c'), held: everyLayer([0, 1, 2]) }];
  const view = buildView(placement(1, ['a', 'b'], [[0], [0], [1], [1]]), holders, SHAPE);
  assert.deepEqual(holdersAt(view, 0, 0), ['c']);
  assert.equal(view.missing, 2);
  assert.deepEqual(view.firstMissing, { layer: 0, expert: 3 });
});

test('a placement with lying tables is refused', () => {
  const good = {
    epoch: 1n,
    modelFingerprint: '',
    numericsId: '',
    workers: ['a'],
    reason: '',
    createdMs: 0n,
    predicted: undefined,
  };
  const layer = (counts: number[], workers: number[]) => [0, 1].map((n) => ({ layer: n, counts, workers }));
  for (const layers of [
    layer([1, 1, 1], [0, 0, 0]),
    layer([1, 1, 1, 1], [0, 0, 0]),
    layer([1, 1, 1, 1], [0, 0, 0, 7]),
    layer([1, 1, 1, 1], [0, 0, 0, 0]).slice(0, 1),
    layer([0xffffffff, 1, 1, 1], [0, 0, 0, 0]),
  ]) {
    assert.throws(() => assignmentOf({ ...good, layers }, SHAPE), { code: 'invalid_value' });
  }
});

test('holdings outside of the model are passed over', () => {
  const held = holdingsOf(
    [
      { layer: 9, experts: [0] },
      { layer: 1, experts: [3, 4, 4_000_000_000] },
    ],
    SHAPE,
  );
  assert.deepEqual([...held], [0, 0, 0, 0, 0, 0, 0, 1]);
});

test('the time without coverage begins with the loss and ends with the cover', async () => {
  const clock = new FakeClock();
  const a = { id: 'a', ready: true };
  const views = new ExpertViews<ViewWorker>({ shape: SHAPE, clock, workers: () => [a] });
  const began = clock.monotonicMs();
  assert.equal(views.uncoveredSinceMs, began);
  views.setHeld(a, everyLayer([0, 1, 2, 3]));
  await clock.advance(100);
  assert.equal(views.uncoveredSinceMs, null);
  a.ready = false;
  views.rebuild();
  const lost = clock.monotonicMs();
  await clock.advance(50);
  views.rebuild();
  assert.equal(views.uncoveredSinceMs, lost);
  a.ready = true;
  views.rebuild();
  assert.equal(views.covered, true);
  views.stop();
});

test('an older or repeated placement changes nothing', () => {
  const a = worker('a');
  const views = new ExpertViews<ViewWorker>({ shape: SHAPE, clock: new FakeClock(), workers: () => [a] });
  views.setPlacement(placement(4, ['a'], [[0], [0], [0], [0]]));
  views.setPlacement(placement(3, ['b'], [[0], [0], [0], [0]]));
  assert.equal(views.latest.epoch, 4);
  assert.equal(views.ackedEpoch, 0, 'nothing can be computed with it yet');
  views.stop();
});

test('property: a view is covered exactly if every expert has a ready holder, and lists only real ones', () => {
  const expertSet = fc.subarray([0, 1, 2, 3]);
  const scenario = fc.record({
    held: fc.array(expertSet, { minLength: 1, maxLength: 4 }),
    assigned: fc.array(fc.uniqueArray(fc.nat(5), { minLength: 1, maxLength: 3 }), { minLength: 4, maxLength: 4 }),
  });
  fc.assert(
    fc.property(scenario, ({ held, assigned }) => {
      const names = ['w0', 'w1', 'w2', 'w3', 'w4', 'w5'];
      const holders = held.map((experts, i) => ({ worker: worker(names[i] ?? ''), held: everyLayer(experts) }));
      const target = placement(1, names, assigned);
      const view = buildView(target, holders, SHAPE);
      let missing = 0;
      for (let expert = 0; expert < 4; expert++) {
        const listed = holdersAt(view, 1, expert);
        const able = names.filter((_, i) => held[i]?.includes(expert));
        assert.ok(listed.every((id) => able.includes(id)));
        assert.equal(new Set(listed).size, listed.length);
        assert.equal(listed.length === 0, able.length === 0);
        const wanted = able.filter((id) => assigned[expert]?.includes(names.indexOf(id)));
        if (wanted.length > 0) assert.deepEqual([...listed].sort(), wanted);
        if (able.length === 0) missing += 2;
      }
      assert.equal(view.missing, missing);
      const full = assigned.every((list, expert) => list.some((w) => held[w]?.includes(expert)));
      assert.equal(fullyHeld(target, holders), full);
    }),
  );
});

test('what is missing is told by the experts of the first layer that lacks any', () => {
  const held = everyLayer([0, 2]);
  held[0 * SHAPE.numExperts + 1] = 1;
  const view = buildView(null, [{ worker: worker('a'), held }], SHAPE);
  assert.deepEqual(missingExperts(view), { layer: 0, experts: [3], others: 2 });
  assert.equal(missingExperts(buildView(null, [{ worker: worker('a'), held: everyLayer([0, 1, 2, 3]) }], SHAPE)), null);
});
