import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GreedyDual } from './greedy-dual.ts';

const one = (): number => 1;

test('what is worth least by size goes first, and what was used goes later', () => {
  const order = new GreedyDual<string>();
  order.add('dear', 5);
  order.add('cheap', 1);
  order.add('middle', 3);
  assert.deepEqual(order.evict(1, Infinity, one), ['cheap']);
  // The clock is at 1 now.
  order.add('new', 1);
  order.touch('middle');
  assert.deepEqual(order.evict(2, Infinity, one), ['new', 'middle']);
  order.touch('dear');
  assert.deepEqual(order.ranking(), ['dear']);
});

test('a key that nobody uses is evicted in the end, whatever its value', () => {
  const order = new GreedyDual<string>();
  order.add('dear', 10);
  for (let i = 0; ; i++) {
    order.add(`cheap ${i}`, 1);
    const [evicted] = order.evict(1, Infinity, one) ?? [];
    if (evicted === 'dear') break;
    assert.ok(i < 20, 'the clock rises');
  }
});

test('nothing goes for a newcomer that is worth less; asking often enough wears the others down', () => {
  const order = new GreedyDual<string>();
  order.add('a', 1);
  order.add('b', 10);
  assert.equal(order.evict(2, order.priority(3), one), null);
  assert.deepEqual(order.ranking(), ['b', 'a'], 'all are still there');
  let attempts = 0;
  while (order.evict(2, order.priority(3), one) === null) attempts += 1;
  assert.ok(attempts > 0 && attempts < 10);
});

test('the heap always has the least on top', () => {
  const step = fc.record({
    act: fc.constantFrom('add', 'touch', 'delete', 'evict'),
    key: fc.nat(20),
    density: fc.nat(50),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const order = new GreedyDual<number>();
      const model = new Map<number, { density: number; priority: number }>();
      let clock = 0;
      for (const { act, key, density } of steps) {
        if (act === 'add') {
          order.add(key, density);
          model.set(key, { density, priority: clock + density });
        } else if (act === 'delete') {
          order.delete(key);
          model.delete(key);
        } else if (act === 'touch') {
          order.touch(key);
          const entry = model.get(key);
          if (entry !== undefined) entry.priority = Math.max(entry.priority, clock + entry.density);
        } else {
          const [evicted] = order.evict(1, Infinity, one) ?? [];
          const least = Math.min(...[...model.values()].map(({ priority }) => priority));
          if (model.size === 0) assert.equal(evicted, undefined);
          else {
            assert.equal(model.get(evicted as number)?.priority, least);
            model.delete(evicted as number);
            clock = least;
          }
        }
        assert.equal(order.size, model.size);
      }
      const ranks = order.ranking().map((key) => model.get(key)?.priority ?? NaN);
      assert.deepEqual(
        ranks,
        [...model.values()].map(({ priority }) => priority).sort((a, b) => b - a),
      );
    }),
  );
});
