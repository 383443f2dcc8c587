import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cutAt } from '../testing/parse-text.ts';
import { JsonRepair } from './json-repair.ts';

function repair(pieces: readonly string[]): string {
  const writer = new JsonRepair();
  return pieces.map((piece) => writer.push(piece).json).join('') + writer.finish();
}

const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 8 });

test('JSON comes out as the same value, without its white space, however it is cut', () => {
  fc.assert(
    fc.property(fc.oneof(fc.object(), fc.array(fc.json())), fc.nat(4), shares, (value, indent, where) => {
      const text = JSON.stringify(value, null, indent);
      assert.equal(repair(cutAt(text, where)), JSON.stringify(JSON.parse(text)));
    }),
    { numRuns: 300 },
  );
});

test("Python's spelling, bare keys and commas too many are put right", () => {
  const cases: [string, string][] = [
    ["{'a': True, 'b': None, 'c': [False,],}", '{"a":true,"b":null,"c":[false]}'],
    ["['it\\'s', \"it's\", 'say \"x\"']", '["it\'s","it\'s","say \\"x\\""]'],
    ['{key: 1, other_key: "x"}', '{"key":1,"other_key":"x"}'],
    ['[1., .5, +3, 007, 1e3]', '[1,0.5,3,7,1e3]'],
    ['["a\nb\tc"]', '["a\\nb\\tc"]'],
    ['["\\d+", "\\u00e9", "\\ud83d\\ude00"]', '["\\\\d+","\\u00e9","\\ud83d\\ude00"]'],
    ['{}', '{}'],
    ['[]', '[]'],
  ];
  for (const [text, json] of cases) {
    assert.equal(repair([text]), json, text);
    assert.equal(repair(Array.from(text)), json, text);
  }
});

test('from what makes no sense on, the rest is one string in its place', () => {
  const cases: [string, unknown][] = [
    ['[1, two words]', [1, 'two words]']],
    ['{"a": }', { a: '}' }],
    ['{"a" 5}', { a: '5}' }],
    ['{"a": 1 "b": 2}', { a: 1, '"b": 2}': null }],
    ['{,}', { ',}': null }],
    ['[1}', [1, '}']],
    ['{"a": [1, {"b": ?', { a: [1, { b: '?' }] }],
  ];
  for (const [text, value] of cases) assert.deepEqual(JSON.parse(repair([text])), value, text);
});

test('whatever comes, what is written is valid JSON, the same for every cut', () => {
  const parts = [
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    "'",
    '\\',
    '\\u12',
    'a',
    '1',
    '-',
    ' ',
    '\n',
    'true',
    'None',
    '😀',
    '\ud83d',
  ];
  const garbage = fc.array(fc.constantFrom(...parts), { maxLength: 30 }).map((list) => list.join(''));
  fc.assert(
    fc.property(fc.constantFrom('{', '['), garbage, shares, (open, text, where) => {
      const whole = repair([open + text]);
      assert.doesNotThrow(() => JSON.parse(whole) as unknown);
      assert.equal(repair(cutAt(open + text, where)), whole);
    }),
    { numRuns: 2000 },
  );
});

test('what follows a complete value is handed back', () => {
  const writer = new JsonRepair();
  assert.deepEqual(writer.push('{"a": 1} x'), { json: '{"a":1}', rest: ' x' });
  assert.ok(writer.done);
});
