import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StopConditions } from './stop-conditions.ts';
import { StopStrings } from './stop-strings.ts';

/** Plain search: the stop string whose first occurrence ends first, the longest of several. */
function firstStop(text: string, stops: readonly string[]): { stop: string; end: number } | null {
  let best: { stop: string; end: number } | null = null;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    if (at < 0) continue;
    const end = at + stop.length;
    if (best === null || end < best.end || (end === best.end && stop.length > best.stop.length)) best = { stop, end };
  }
  return best;
}

function cutAt(text: string, cuts: readonly number[]): string[] {
  const at = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => text.slice(from, at[i] ?? text.length));
}

test('a match across pieces is found', () => {
  const stops = new StopStrings(['END', 'stop']);
  assert.equal(stops.push('the E'), null);
  assert.equal(stops.push('N'), null);
  assert.equal(stops.push('D of it'), 'END');
});

test('property: what is found does not depend on where the text is cut', () => {
  const letter = fc.constantFrom('a', 'b', '\n', 'é', '🙂');
  const text = fc.string({ unit: letter, maxLength: 40 });
  const stops = fc.array(fc.string({ unit: letter, minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(text, stops, fc.array(fc.nat(), { maxLength: 12 }), (whole, list, cuts) => {
      const expected = firstStop(whole, list);
      const finder = new StopStrings(list);
      let seen = 0;
      for (const piece of cutAt(whole, cuts)) {
        const found = finder.push(piece);
        seen += piece.length;
        if (found === null) continue;
        assert.equal(found, expected?.stop);
        assert.ok(seen >= (expected?.end ?? Infinity));
        return;
      }
      assert.equal(expected, null);
    }),
    { numRuns: 500 },
  );
});

test('while inactive nothing is found, but a match may begin there', () => {
  const stops = new StopStrings(['abc', 'zz']);
  assert.equal(stops.push('zz ab', false), null);
  assert.equal(stops.push('c'), 'abc');
});

const words = ['one ', 'two ', 'st', 'op', ' five', '.'];
const spelled = { push: (id: number): string => words[id] ?? '' };

test('a stop string may span tokens', () => {
  const stop = new StopConditions({ maxTokens: 9, minTokens: 0, stopStrings: ['stop'], stopIds: [] }, spelled);
  assert.equal(stop.push(0), null);
  assert.equal(stop.push(2), null);
  assert.deepEqual(stop.push(3), { kind: 'stop', stopString: 'stop', stopTokenId: null });
});

test('a stop token ends, after min_tokens only', () => {
  const stop = new StopConditions({ maxTokens: 9, minTokens: 2, stopStrings: ['stop'], stopIds: [5] }, spelled);
  assert.equal(stop.push(5), null);
  assert.equal(stop.push(5), null);
  assert.deepEqual(stop.push(5), { kind: 'stop', stopString: null, stopTokenId: 5 });
});

test('max_tokens ends, and a stop in the same token goes first', () => {
  const spec = { maxTokens: 2, minTokens: 0, stopStrings: [], stopIds: [5] };
  const byLength = new StopConditions(spec, null);
  assert.equal(byLength.push(0), null);
  assert.equal(byLength.push(1)?.kind, 'length');
  const byStop = new StopConditions(spec, null);
  assert.equal(byStop.push(0), null);
  assert.equal(byStop.push(5)?.kind, 'stop');
  assert.equal(new StopConditions({ ...spec, maxTokens: 0 }, null).atLimit(), true);
});
