import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { emptyText, type OutputParser, PassthroughParser, sayAll, textOf } from './parser.ts';
import { ReasoningParser } from './reasoning-parser.ts';
import { StopScanner } from './stop-scanner.ts';

interface Texts {
  reasoning: string;
  content: string;
}

/** Runs a text through a parser in the given pieces. */
function parse(parser: OutputParser, pieces: readonly string[]): Texts {
  const whole = emptyText();
  for (const delta of [...pieces.map((piece) => parser.push(piece)), parser.finish(false)]) sayAll(whole, delta);
  return { reasoning: textOf(whole, 'reasoning'), content: textOf(whole, 'content') };
}

/** Cuts a text at places given as shares of its length. */
function cut(text: string, shares: readonly number[]): string[] {
  const places = [...new Set([0, ...shares.map((share) => Math.floor(share * text.length)), text.length])].toSorted(
    (a, b) => a - b,
  );
  return places.slice(1).map((end, i) => text.slice(places[i], end));
}

const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
const texts = fc
  .array(fc.constantFrom('<think>', '</think>', '</thi', '<', '\n', ' ', 'a', 'bc', '😀', '>', 'think'), {
    maxLength: 12,
  })
  .map((parts) => parts.join(''));

test('reasoning ends at the first closing tag; the line breaks around it belong to neither part', () => {
  const cases: [boolean, string, Texts][] = [
    [true, 'I think.\n</think>\n\nHello\n', { reasoning: 'I think.', content: 'Hello\n' }],
    [true, '\n</think>\n\nHello', { reasoning: '', content: 'Hello' }],
    [true, 'only thoughts\n', { reasoning: 'only thoughts\n', content: '' }],
    [true, 'cut off </thi', { reasoning: 'cut off </thi', content: '' }],
    [true, 'a</think>b</think>c', { reasoning: 'a', content: 'b</think>c' }],
    [true, 'a</think>\n\n', { reasoning: 'a', content: '' }],
    [false, 'Hello </think> you', { reasoning: '', content: 'Hello </think> you' }],
    [false, '<think>\nhm\n</think>\n\nHello', { reasoning: 'hm', content: 'Hello' }],
    [false, '\n <think>hm</think>Hello', { reasoning: 'hm', content: 'Hello' }],
    [false, 'x <think>hm</think>', { reasoning: '', content: 'x <think>hm</think>' }],
    [false, '<thin', { reasoning: '', content: '<thin' }],
    [false, '', { reasoning: '', content: '' }],
  ];
  for (const [inside, text, expected] of cases)
    assert.deepEqual(parse(new ReasoningParser(inside), [text]), expected, text);
});

test('the pieces in which a text arrives do not matter to a parser', () => {
  fc.assert(
    fc.property(texts, shares, fc.boolean(), (text, where, inside) => {
      const pieces = cut(text, where);
      assert.deepEqual(parse(new ReasoningParser(inside), pieces), parse(new ReasoningParser(inside), [text]));
      assert.deepEqual(parse(new PassthroughParser(), pieces), { reasoning: '', content: text });
    }),
  );
});

test('a parser loses nothing but tags and the white space around them', () => {
  const bare = (text: string): string => text.replaceAll(/<\/?think>|\s/g, '');
  fc.assert(
    fc.property(texts, fc.boolean(), (text, inside) => {
      const { reasoning, content } = parse(new ReasoningParser(inside), [text]);
      assert.equal(bare(reasoning) + bare(content), bare(text));
    }),
  );
});

/** What a scanner should show: the text before the stop string that ends first, of those the longest. */
function expectedShown(text: string, stops: readonly string[], include: boolean): string {
  const found = stops
    .map((stop) => ({ end: text.indexOf(stop) + stop.length, stop }))
    .filter(({ stop }) => text.includes(stop));
  const first = found.toSorted((a, b) => a.end - b.end || b.stop.length - a.stop.length)[0];
  if (first === undefined) return text;
  return text.slice(0, include ? first.end : first.end - first.stop.length);
}

test('a scanner shows what stands before the stop string that ends first, however the text is cut', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 24 });
  const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 3,
  });
  fc.assert(
    fc.property(letters, stops, shares, fc.boolean(), (text, list, where, include) => {
      const scanner = new StopScanner(list, include);
      const expected = expectedShown(text, list, include);
      let shown = '';
      for (const piece of cut(text, where)) {
        shown += scanner.push(piece, true);
        assert.ok(expected.startsWith(shown), 'nothing is shown that must be taken back');
      }
      shown += scanner.finish('');
      assert.equal(shown, expected);
      assert.equal(
        scanner.matched !== null,
        list.some((stop) => text.includes(stop)),
      );
    }),
    { numRuns: 500 },
  );
});

test('after a match nothing more is shown', () => {
  const scanner = new StopScanner(['three', 'two'], false);
  assert.equal(scanner.push('one two three', true), 'one ');
  assert.equal(scanner.matched, 'two');
  assert.equal(scanner.push(' more', true), '');
  assert.equal(scanner.finish(''), '');
});

test('a stop string that may not stop is text, also when it was begun before', () => {
  const scanner = new StopScanner(['abc'], false);
  assert.equal(scanner.push('xabc', false), 'xabc');
  assert.equal(scanner.push('ab', false), '');
  assert.equal(scanner.push('cd', true), '');
  assert.equal(scanner.matched, 'abc');
});

test('a stop string that only the router saw cuts what was held back', () => {
  const scanner = new StopScanner(['abc', 'ab'], false);
  assert.equal(scanner.push('xab', false), 'x');
  assert.equal(scanner.finish('ab'), '');
  assert.equal(scanner.matched, 'ab');
});
