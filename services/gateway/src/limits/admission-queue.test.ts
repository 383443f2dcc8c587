import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AdmissionQueue } from './admission-queue.ts';

interface Item {
  id: number;
  tenant: string;
  priority: number;
}

/** The same rules, told apart by looking at everything each time. */
class Model {
  items: Item[] = [];
  /** When each tenant of a priority was served last, or came when none of it waited. */
  readonly #turns = new Map<string, number>();
  readonly limit: number;
  #now = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  queued(tenant: string): number {
    return this.items.filter((item) => item.tenant === tenant).length;
  }

  offer(item: Item): Item | null {
    let out: Item | null = null;
    if (this.items.length >= this.limit) {
      const last = Math.max(-Infinity, ...this.items.map(({ priority }) => priority));
      const most = Math.max(
        0,
        ...this.items.filter((one) => one.priority === last).map((one) => this.queued(one.tenant)),
      );
      const urgent = item.priority < last;
      const fewer = item.priority === last && this.queued(item.tenant) + 1 < most;
      if (this.items.length === 0 || !(urgent || fewer)) return item;
      const victims = this.items.filter((one) => one.priority === last && this.queued(one.tenant) === most);
      // Of several tenants the one whose turn is the farthest off.
      const turn = Math.max(...victims.map((one) => this.turn(one)));
      out = victims.findLast((one) => this.turn(one) === turn) ?? null;
      this.items = this.items.filter((one) => one !== out);
    }
    if (!this.items.some((one) => one.priority === item.priority && one.tenant === item.tenant))
      this.#turns.set(`${item.priority}/${item.tenant}`, this.#now++);
    this.items.push(item);
    return out;
  }

  turn({ priority, tenant }: Item): number {
    return this.#turns.get(`${priority}/${tenant}`) ?? 0;
  }

  take(placesOf: (tenant: string) => number): Item | null {
    const first = Math.min(...this.items.map(({ priority }) => priority));
    const urgent = this.items.filter(({ priority }) => priority === first);
    const [next] = urgent.toSorted(
      (a, b) => placesOf(a.tenant) - placesOf(b.tenant) || this.turn(a) - this.turn(b) || a.id - b.id,
    );
    if (next === undefined) return null;
    this.items = this.items.filter((one) => one !== next);
    this.#turns.set(`${next.priority}/${next.tenant}`, this.#now++);
    return next;
  }

  remove(item: Item): boolean {
    const had = this.items.includes(item);
    this.items = this.items.filter((one) => one !== item);
    return had;
  }
}

const tenant = fc.constantFrom('a', 'b', 'c', 'd');
const op = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('offer' as const), tenant, priority: fc.integer({ min: -1, max: 1 }) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('take' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), at: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('leave' as const), tenant }) },
);

test('who is served, and who gives way, is what the rules say', () => {
  fc.assert(
    fc.property(fc.nat(8), fc.array(op, { maxLength: 80 }), (limit, ops) => {
      const queue = new AdmissionQueue<Item>(limit);
      const model = new Model(limit);
      const places = new Map<string, number>();
      const placesOf = (name: string): number => places.get(name) ?? 0;
      const offered: Item[] = [];
      for (const step of ops) {
        if (step.kind === 'offer') {
          const item = { id: offered.length, tenant: step.tenant, priority: step.priority };
          offered.push(item);
          assert.equal(queue.offer(item), model.offer(item));
        } else if (step.kind === 'take') {
          const next = queue.take(placesOf);
          assert.equal(next, model.take(placesOf));
          if (next !== null) places.set(next.tenant, placesOf(next.tenant) + 1);
        } else if (step.kind === 'remove') {
          const item = offered[step.at];
          if (item !== undefined) assert.equal(queue.remove(item), model.remove(item));
        } else if (placesOf(step.tenant) > 0) places.set(step.tenant, placesOf(step.tenant) - 1);
        assert.equal(queue.size, model.items.length);
        assert.ok(queue.size <= limit);
        assert.deepEqual(new Set(queue.all()), new Set(model.items));
      }
    }),
    { numRuns: 500 },
  );
});

test('with places for all, a tenant that sends a hundred gets no more than one that sends a few', () => {
  const queue = new AdmissionQueue<Item>(200);
  for (let id = 0; id < 100; id++) queue.offer({ id, tenant: 'many', priority: 0 });
  for (let id = 100; id < 105; id++) queue.offer({ id, tenant: 'few', priority: 0 });
  const places = new Map<string, number>();
  const served = Array.from({ length: 10 }, () => {
    const next = queue.take((name) => places.get(name) ?? 0);
    if (next !== null) places.set(next.tenant, (places.get(next.tenant) ?? 0) + 1);
    return next?.tenant;
  });
  assert.equal(served.filter((name) => name === 'few').length, 5);
});

test('tenants with as many places take turns', () => {
  const queue = new AdmissionQueue<Item>(10);
  for (const [id, name] of ['a', 'a', 'a', 'b', 'b', 'c'].entries()) queue.offer({ id, tenant: name, priority: 0 });
  const order = Array.from({ length: 7 }, () => queue.take(() => 0)?.tenant ?? '-');
  assert.equal(order.join(''), 'abcaba-');
});
