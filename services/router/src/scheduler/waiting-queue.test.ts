import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import fc from 'fast-check';
import type { Sequence } from '../sequence.ts';
import { RecordingSink, sequenceOf } from '../testing/sequences.ts';
import { WaitingQueue, type WaitingQueueOptions } from './waiting-queue.ts';

const AGING_MS = 1000;

function queueOf(given: Partial<WaitingQueueOptions> = {}) {
  const clock = new FakeClock();
  const stalled = (seq: Sequence): boolean => seq.sink.congested();
  return { clock, queue: new WaitingQueue({ clock, agingMs: AGING_MS, stalled, ...given }) };
}

/** Admits who is next; its tenant. */
function serve(queue: WaitingQueue, input: number, output: number): string | null {
  const seq = queue.next();
  if (seq === null) return null;
  queue.admit(seq);
  queue.charge(seq.spec.tenant, input, output);
  queue.leave(seq);
  return seq.spec.tenant;
}

test('larger priorities go first, then who arrived first', () => {
  const { queue } = queueOf();
  const seqs = [0, 5, -1, 5, 0].map((priority) => sequenceOf({ priority }));
  for (const seq of seqs) queue.add(seq);
  assert.deepEqual(
    [...queue.inOrder()].map((seq) => seqs.indexOf(seq)),
    [1, 3, 0, 4, 2],
  );
});

test('tenants take turns by tokens, not by requests', () => {
  const { queue } = queueOf();
  for (let i = 0; i < 20; i++) queue.add(sequenceOf({ tenant: 'long' }));
  for (let i = 0; i < 20; i++) queue.add(sequenceOf({ tenant: 'short' }));
  const served = { long: 0, short: 0 };
  for (let i = 0; i < 16; i++) {
    const tenant = queue.next()?.spec.tenant as 'long' | 'short';
    served[tenant] += 1;
    serve(queue, tenant === 'long' ? 900 : 300, 0);
  }
  assert.deepEqual(served, { long: 4, short: 12 });
});

test('a generated token counts twice, and a tenant of weight 3 gets three times as much', () => {
  const { queue } = queueOf({ tenantWeights: new Map([['heavy', 3]]) });
  for (let i = 0; i < 40; i++) {
    queue.add(sequenceOf({ tenant: 'plain' }));
    queue.add(sequenceOf({ tenant: 'heavy' }));
  }
  const tenants = Array.from({ length: 40 }, () => serve(queue, 0, 10));
  assert.equal(tenants.filter((tenant) => tenant === 'heavy').length, 30);
  assert.equal(queue.shares.get('plain').counter, 200);
});

test('idleness earns no claim: who comes back is lifted to those that wait', () => {
  const { queue } = queueOf();
  for (let i = 0; i < 10; i++) queue.add(sequenceOf({ tenant: 'busy' }));
  for (let i = 0; i < 5; i++) serve(queue, 100, 0);
  queue.add(sequenceOf({ tenant: 'late' }));
  assert.equal(queue.shares.get('late').counter, 500);
  for (let i = 0; i < 6; i++) serve(queue, 100, 0);
  assert.equal(queue.size, 0);
  queue.add(sequenceOf({ tenant: 'later' }));
  assert.ok(queue.shares.get('later').counter >= 600, 'nobody waits: the tenant served last is the measure');
});

test('a tenant whose reader is slow is passed over, and holds nobody down meanwhile', () => {
  const { queue } = queueOf();
  const sink = new RecordingSink();
  sink.slow = true;
  const slow = sequenceOf({ tenant: 'slow' }, sink);
  queue.add(slow);
  for (let i = 0; i < 5; i++) queue.add(sequenceOf({ tenant: 'busy' }));
  for (let i = 0; i < 3; i++) assert.equal(serve(queue, 100, 0), 'busy');
  queue.add(sequenceOf({ tenant: 'new' }));
  assert.equal(queue.shares.get('new').counter, 300);
  sink.slow = false;
  assert.equal(queue.next(), slow);
});

test('a preempted sequence goes before those of its tenant that were never admitted', () => {
  const { queue } = queueOf();
  const [first, second, third] = [sequenceOf(), sequenceOf(), sequenceOf()];
  for (const seq of [first, second, third]) queue.add(seq);
  for (const seq of [first, second]) queue.admit(seq);
  queue.add(sequenceOf());
  queue.putBack(second);
  queue.putBack(first);
  assert.deepEqual([...queue.inOrder()].slice(0, 3), [first, second, third]);
});

test('a line rises level by level to the highest priority about, and who is admitted from it keeps the level', async () => {
  const { queue, clock } = queueOf();
  const low = [sequenceOf({ priority: 0 }), sequenceOf({ priority: 0 })];
  for (const seq of low) queue.add(seq);
  const high = Array.from({ length: 4 }, () => sequenceOf({ priority: 2, tenant: 'other' }));
  for (const seq of high) queue.add(seq);
  await clock.advance(AGING_MS * 2 - 1);
  assert.equal(queue.next(), high[0]);
  await clock.advance(1);
  queue.charge('other', 1, 0);
  assert.equal(queue.next(), low[0]);
  queue.admit(low[0] as Sequence);
  assert.equal(low[0]?.urgency, 2);
  assert.equal(queue.next(), high[0], 'one was admitted: the line begins anew');
  await clock.advance(AGING_MS * 50);
  queue.admit(low[1] as Sequence);
  assert.equal(low[1]?.urgency, 2, 'no higher than the highest');
});

test('without other priorities nobody rises', async () => {
  const { queue, clock } = queueOf();
  const seq = sequenceOf();
  queue.add(seq);
  await clock.advance(AGING_MS * 10);
  queue.admit(seq);
  assert.equal(seq.urgency, 0);
});

test('tenants that are gone are forgotten in the end', () => {
  const { queue } = queueOf();
  for (let i = 0; i < 20_000; i++) {
    queue.add(sequenceOf({ tenant: `t${i}` }));
    serve(queue, 1, 1);
    assert.ok(queue.shares.numKnown <= 4097);
  }
});

interface Placed {
  seq: Sequence;
  preempted: boolean;
}

/** Slow and plain: sorts everybody by what the queue's description says. `since` is kept by the test. */
function expectedOrder(
  queue: WaitingQueue,
  placed: Placed[],
  live: Sequence[],
  since: Map<string, number>,
  now: number,
) {
  const highest = Math.max(...live.map((seq) => seq.spec.priority));
  const level = ({ seq }: Placed): number => {
    const waited = now - (since.get(`${seq.spec.tenant}/${seq.urgency}`) as number);
    return Math.max(seq.urgency, Math.min(seq.urgency + Math.floor(waited / AGING_MS), highest));
  };
  const counter = ({ seq }: Placed): number => queue.shares.get(seq.spec.tenant).counter;
  return placed
    .toSorted(
      (a, b) =>
        level(b) - level(a) ||
        counter(a) - counter(b) ||
        Number(b.preempted) - Number(a.preempted) ||
        a.seq.ticket - b.seq.ticket,
    )
    .map(({ seq }) => seq);
}

test('property: whatever happens, the order is the one described', async () => {
  const action = fc.record({
    kind: fc.constantFrom('add', 'add', 'admit', 'admitAny', 'putBack', 'leave', 'charge', 'wait'),
    tenant: fc.constantFrom('a', 'b', 'c'),
    priority: fc.integer({ min: -1, max: 2 }),
    pick: fc.nat(1000),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 80 }), async (actions) => {
      const { queue, clock } = queueOf();
      let waiting: Placed[] = [];
      let active: Sequence[] = [];
      const since = new Map<string, number>();
      const now = (): number => clock.monotonicMs();
      const lineOf = (seq: Sequence): string => `${seq.spec.tenant}/${seq.urgency}`;
      const enter = (placed: Placed): void => {
        const line = lineOf(placed.seq);
        if (!waiting.some(({ seq }) => lineOf(seq) === line)) since.set(line, now());
        waiting.push(placed);
      };
      for (const { kind, tenant, priority, pick } of actions) {
        const chosen = waiting[pick % Math.max(1, waiting.length)]?.seq;
        if (kind === 'add') {
          const seq = sequenceOf({ tenant, priority });
          queue.add(seq);
          enter({ seq, preempted: false });
        } else if (kind === 'admit' || kind === 'admitAny') {
          const seq = kind === 'admit' ? queue.next() : (chosen ?? null);
          if (seq === null) continue;
          since.set(lineOf(seq), now());
          queue.admit(seq);
          waiting = waiting.filter((placed) => placed.seq !== seq);
          active.push(seq);
        } else if (kind === 'putBack') {
          const seq = active.splice(pick % Math.max(1, active.length), 1)[0];
          if (seq === undefined) continue;
          queue.putBack(seq);
          enter({ seq, preempted: true });
        } else if (kind === 'leave') {
          const seq = chosen ?? active[0];
          if (seq === undefined) continue;
          queue.leave(seq);
          waiting = waiting.filter((placed) => placed.seq !== seq);
          active = active.filter((other) => other !== seq);
        } else if (kind === 'charge') queue.charge(tenant, pick % 5, pick % 3);
        else await clock.advance(pick * 4);
        const live = [...active, ...waiting.map(({ seq }) => seq)];
        const expected = expectedOrder(queue, waiting, live, since, now());
        assert.deepEqual(
          [...queue.inOrder()].map((seq) => seq.key),
          expected.map((seq) => seq.key),
        );
        assert.equal(queue.next(), expected[0] ?? null);
        queue.checkIntegrity();
      }
    }),
    { numRuns: 300 },
  );
});
