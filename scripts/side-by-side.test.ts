import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sideBySide } from './side-by-side.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('jobs never take more than there is, all of them run, and results keep the order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ cores: fc.double({ min: 0.1, max: 4, noNaN: true }), turns: fc.nat(5) }), { maxLength: 12 }),
      async (wanted) => {
        let used = 0;
        let alone = 0;
        const jobs = wanted.map(({ cores, turns }, index) => ({
          cores,
          run: async () => {
            used += cores;
            alone++;
            assert.ok(used <= 2 + 1e-9 || alone === 1, `${used} cores`);
            for (let i = 0; i < turns; i++) await turn();
            used -= cores;
            alone--;
            return index;
          },
        }));
        assert.deepEqual(
          await sideBySide(jobs, 2),
          wanted.map((_, index) => index),
        );
      },
    ),
  );
});

test('small jobs go past one that waits for the whole machine, which has its turn', async () => {
  const order: string[] = [];
  const job = (name: string, cores: number, turns: number) => ({
    cores,
    run: async () => {
      order.push(name);
      for (let i = 0; i < turns; i++) await turn();
    },
  });
  await sideBySide([job('half', 1, 9), job('whole', 2, 1), job('quarter', 0.5, 1)], 2);
  assert.deepEqual(order, ['half', 'quarter', 'whole']);
});

test('a job that fails lets the others end first', async () => {
  let ended = false;
  const late = async (): Promise<void> => {
    for (let i = 0; i < 5; i++) await turn();
    ended = true;
  };
  const bad = { cores: 1, run: () => Promise.reject(new Error('broken')) };
  await assert.rejects(sideBySide([bad, { cores: 1, run: late }], 2), /broken/);
  assert.ok(ended);
});
