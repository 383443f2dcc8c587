import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  chooseByCost,
  LOAD_SHARE,
  type PricedCandidate,
  PULL_SHARE,
  type Reuse,
  scoreRouters,
} from './choose-router.ts';

interface Named extends PricedCandidate {
  id: string;
}

function candidate(id: string, given: Partial<Named> = {}): Named {
  return { id, load: 0, suspect: false, pendingPrefillTokens: 0, prefillMsPerToken: 1, decodeStepMs: 10, ...given };
}

const nothing: Reuse = { cachedTokens: 0, tier: null, pullTokens: 0 };
const cached = (tokens: number, tier = 'device'): Reuse => ({ cachedTokens: tokens, tier, pullTokens: 0 });

/** Who is chosen for a prompt of 1000 tokens. */
function chosen(candidates: Named[], reuse: Record<string, Reuse> = {}, random = (): number => 0): string | undefined {
  const scores = scoreRouters(candidates, 1000, ({ id }) => reuse[id] ?? nothing);
  return chooseByCost(scores, random)?.candidate.id;
}

test('a cost is what waits, what is to be computed or pulled, and what runs', () => {
  const busy = candidate('a', { pendingPrefillTokens: 500, prefillMsPerToken: 2, load: 3 });
  const [score] = scoreRouters([busy], 1000, () => ({ cachedTokens: 600, tier: 'device', pullTokens: 200 }));
  assert.equal(score?.ownMs, 2 * (200 + PULL_SHARE * 200));
  assert.equal(score?.ttftMs, 2 * 500 + score.ownMs + LOAD_SHARE * 3 * 10);
  assert.equal(score.costMs, score.ttftMs + score.ownMs);
});

test('a cached prefix wins over an idle router until too much waits in front of it', () => {
  const [a, b] = [candidate('a'), candidate('b')];
  assert.equal(chosen([a, b], { b: cached(960) }), 'b');
  assert.equal(chosen([a, candidate('b', { pendingPrefillTokens: 500 })], { b: cached(960) }), 'b');
  assert.equal(chosen([a, candidate('b', { pendingPrefillTokens: 2500 })], { b: cached(960) }), 'a');
  assert.equal(chosen([a, candidate('b', { load: 500 })], { b: cached(960) }), 'a');
  assert.equal(chosen([a, candidate('b', { prefillMsPerToken: 40 })], { b: cached(960) }), 'a');
});

test('a pull costs more than a hit and less than a miss; a disk more than the device', () => {
  const [a, b] = [candidate('a'), candidate('b')];
  const pull: Reuse = { cachedTokens: 0, tier: null, pullTokens: 960 };
  assert.equal(chosen([a, b], { a: pull, b: cached(960) }), 'b');
  assert.equal(chosen([a, b], { a: pull }), 'a');
  assert.equal(chosen([a, b], { a: cached(960, 'disk'), b: cached(960) }), 'b');
  assert.equal(chosen([a, b], { a: pull, b: cached(960, 'disk') }), 'b');
});

test('waiting where the prompt is cached is better than to compute it elsewhere in the same time', () => {
  const behind = candidate('a', { pendingPrefillTokens: 960 });
  assert.equal(chosen([candidate('b'), behind], { a: cached(960) }), 'a');
});

test('among routers about as cheap the least loaded goes first, then chance', () => {
  const loads = [candidate('a', { load: 2 }), candidate('b', { load: 1 }), candidate('c', { load: 1 })];
  assert.equal(
    chosen(loads, {}, () => 0),
    'b',
  );
  assert.equal(
    chosen(loads, {}, () => 0.9),
    'c',
  );
});

test('equal routers share requests that arrive before the next report', () => {
  const counts = new Map<string, number>();
  let seed = 1;
  const random = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (let i = 0; i < 400; i += 1) {
    const id =
      chosen(
        ['a', 'b', 'c', 'd'].map((name) => candidate(name)),
        {},
        random,
      ) ?? '';
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  for (const id of ['a', 'b', 'c', 'd']) assert.ok((counts.get(id) ?? 0) > 50, `${id} got ${counts.get(id)}`);
});

test('a suspect is taken only when there is nobody else', () => {
  assert.equal(chosen([candidate('a', { suspect: true }), candidate('b')], { a: cached(960) }), 'b');
  assert.equal(chosen([candidate('a', { suspect: true })]), 'a');
  assert.equal(chosen([]), undefined);
});

test('a router without rates of its own is taken to be like the others', () => {
  const fresh = candidate('a', { prefillMsPerToken: 0, decodeStepMs: 0, load: 1 });
  const scores = scoreRouters([fresh, candidate('b', { prefillMsPerToken: 4, decodeStepMs: 6 })], 100, () => nothing);
  assert.equal(scores[0]?.ttftMs, 400 + LOAD_SHARE * 6);
});

test('whatever routers report, the choice is one of the trusted and nearly the cheapest', () => {
  const number = fc.integer({ min: 0, max: 5000 });
  const shape = fc.record({
    load: fc.integer({ min: 0, max: 50 }),
    suspect: fc.boolean(),
    pendingPrefillTokens: number,
    prefillMsPerToken: fc.constantFrom(0, 0.1, 1, 7),
    decodeStepMs: fc.constantFrom(0, 5, 30),
    cachedTokens: fc.integer({ min: 0, max: 999 }),
  });
  fc.assert(
    fc.property(
      fc.array(shape, { minLength: 1, maxLength: 6 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (shapes, draw) => {
        const scores = scoreRouters(shapes, 1000, (one) => cached(one.cachedTokens));
        const best = chooseByCost(scores, () => draw);
        assert.ok(best !== null);
        const pool = shapes.some((one) => !one.suspect) ? scores.filter((one) => !one.candidate.suspect) : scores;
        assert.ok(pool.includes(best));
        assert.ok(best.costMs <= Math.min(...pool.map((one) => one.costMs)) * 1.05 + 0.5);
      },
    ),
  );
});
