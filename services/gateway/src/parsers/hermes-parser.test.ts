import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cutAt, parse } from '../testing/parse-text.ts';
import { toolTable } from '../tools/tool-table.ts';
import type { OutputParser } from './parser.ts';
import { createParser } from './registry.ts';

const tools = toolTable([{ function: { name: 'weather' } }, { function: { name: 'list' } }]);
const parser = (parallel = true): OutputParser =>
  createParser('none', false, { name: 'hermes', tools, parallel, callIds: (index) => `call_${index}` });
const call = (name: string, args: unknown): string =>
  `<tool_call>\n${JSON.stringify({ name, arguments: args })}\n</tool_call>`;

test('calls of the JSON form are read, and what is none is text', () => {
  const cases: [string, string, [string, string][]][] = [
    [call('weather', { city: 'Paris', days: 3 }), '', [['weather', '{"city":"Paris","days":3}']]],
    [
      `Sure.\n${call('list', {})}\n${call('weather', { a: [1, { b: null }] })}`,
      'Sure.',
      [
        ['list', '{}'],
        ['weather', '{"a":[1,{"b":null}]}'],
      ],
    ],
    [
      '<tool_call>{ "name" : "list" , "arguments" : { "x" : "</tool_call>" } }</tool_call>',
      '',
      [['list', '{"x":"</tool_call>"}']],
    ],
    [call('nope', {}), call('nope', {}), []],
    [
      '<tool_call>\n<function=list>\n</function>\n</tool_call>',
      '<tool_call>\n<function=list>\n</function>\n</tool_call>',
      [],
    ],
    ['<tool_call>\n{"name": "li', '<tool_call>\n{"name": "li', []],
    [
      '<tool_call>\n{"name": "list", "arguments": []}\n</tool_call>',
      '<tool_call>\n{"name": "list", "arguments": []}\n</tool_call>',
      [],
    ],
    [`${call('list', {})} done`, 'done', [['list', '{}']]],
  ];
  for (const [text, content, calls] of cases) {
    for (const pieces of [[text], Array.from(text)]) {
      const parsed = parse(parser(), pieces);
      assert.equal(parsed.content, content, text);
      assert.deepEqual(
        parsed.calls.map(({ name, arguments: args }) => [name, args]),
        calls,
      );
      assert.equal(parsed.complete, calls.length);
    }
  }
});

test('a call that is broken off does not count, and an answer of one call ends with it', () => {
  const broken = parse(parser(), ['<tool_call>\n{"name": "list", "arguments": {"a": "b']);
  assert.deepEqual([broken.calls[0]?.arguments, broken.complete, broken.content], ['{"a":"b', 0, '']);
  const one = parser(false);
  const parsed = parse(one, [`${call('list', {})}\n${call('list', {})}`]);
  assert.deepEqual([parsed.calls.length, one.ended], [1, true]);
});

test('whatever the text, every way to cut it gives the same answer, and complete calls have valid JSON', () => {
  const fragments = [
    '<tool_call>',
    '\n',
    '{"name": "list", "arguments": ',
    '{',
    '}',
    '"a": 1',
    ',',
    '"',
    '}\n</tool_call>',
    'text',
    '<',
    ' ',
    "'",
  ];
  const transcripts = fc
    .array(
      fc.oneof(
        fc.constantFrom(...fragments),
        fc.tuple(fc.constantFrom('weather', 'nope'), fc.object()).map(([name, args]) => call(name, args)),
      ),
      { maxLength: 14 },
    )
    .map((parts) => parts.join(''));
  const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
  fc.assert(
    fc.property(transcripts, shares, (text, where) => {
      const whole = parse(parser(), [text]);
      assert.deepEqual(parse(parser(), cutAt(text, where)), whole);
      for (const { arguments: args } of whole.calls.slice(0, whole.complete)) JSON.parse(args);
    }),
    { numRuns: 300 },
  );
});
