import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cutAt, deltasOf, join, parse, type ParsedText } from '../testing/parse-text.ts';
import { tinyAssets } from '../testing/gateway-under-test.ts';
import { toolTable } from '../tools/tool-table.ts';
import { createParser } from './registry.ts';
import type { OutputParser } from './parser.ts';

const SCHEMA = {
  type: 'object',
  properties: {
    city: { type: 'string' },
    days: { type: 'integer' },
    metric: { type: 'boolean' },
    places: { type: 'array' },
    options: { $ref: '#/$defs/options' },
    note: { type: ['string', 'null'] },
  },
  $defs: { options: { type: 'object' } },
};
const tools = toolTable([
  { function: { name: 'weather', parameters: SCHEMA } },
  { function: { name: 'list', parameters: { type: 'object', properties: {} } } },
  {
    function: { name: 'write', parameters: { properties: { path: { type: 'string' }, content: { type: 'string' } } } },
  },
]);

function parser(insideThink = false, parallel = true): OutputParser {
  const callIds = (index: number): string => `call_${index}`;
  return createParser('qwen3', insideThink, { name: 'qwen3_xml', tools, parallel, callIds });
}

/** A call as the template writes it. */
function call(name: string, values: Record<string, string> = {}): string {
  const parameters = Object.entries(values).map(([key, value]) => `<parameter=${key}>\n${value}\n</parameter>\n`);
  return `<tool_call>\n<function=${name}>\n${parameters.join('')}</function>\n</tool_call>`;
}

type Expected = [content: string, ...calls: [name: string, args: string][]];

function expect(text: string, [content, ...calls]: Expected, complete = calls.length, cut = false): void {
  for (const pieces of [[text], Array.from(text)]) {
    const parsed = parse(parser(), pieces, cut);
    assert.equal(parsed.content, content, text);
    assert.deepEqual(
      parsed.calls.map(({ name, arguments: args }) => [name, args]),
      calls,
      text,
    );
    assert.equal(parsed.complete, complete, text);
  }
}

test('a call becomes a name and JSON; no markup is left in the content', () => {
  expect(call('weather', { city: 'Paris' }), ['', ['weather', '{"city":"Paris"}']]);
  expect(`Let me look.\n\n${call('weather', { city: 'Paris', days: '3' })}`, [
    'Let me look.',
    ['weather', '{"city":"Paris","days":3}'],
  ]);
  expect(`${call('weather', { city: 'Paris' })}\n${call('weather', { city: 'Rome' })}`, [
    '',
    ['weather', '{"city":"Paris"}'],
    ['weather', '{"city":"Rome"}'],
  ]);
  expect(`First.\n\n${call('list')}\n\nThen.`, ['First.\n\n\n\nThen.', ['list', '{}']]);
  expect(`${call('list')}\n\nThen.`, ['Then.', ['list', '{}']]);
});

test('a call without arguments has an empty object, once', () => {
  expect(call('list'), ['', ['list', '{}']]);
  expect('<tool_call><function=list></function></tool_call>', ['', ['list', '{}']]);
  expect(`${call('list')}\n${call('list')}`, ['', ['list', '{}'], ['list', '{}']]);
});

test('values have the types of the schema: numbers, booleans, null, objects and arrays are none of them strings', () => {
  const cases: [Record<string, string>, string][] = [
    [{ days: '3' }, '{"days":3}'],
    [{ days: ' -12 ' }, '{"days":-12}'],
    [{ days: '"7"' }, '{"days":7}'],
    [{ days: '12345678901234567890' }, '{"days":12345678901234567890}'],
    [{ days: 'three' }, '{"days":"three"}'],
    [{ days: 'null' }, '{"days":null}'],
    [{ metric: 'true' }, '{"metric":true}'],
    [{ metric: 'False' }, '{"metric":false}'],
    [{ metric: 'TRUE' }, '{"metric":true}'],
    [{ places: '["a", 1]' }, '{"places":["a",1]}'],
    [{ places: "['a', None]" }, '{"places":["a",null]}'],
    [{ options: '{"deep": {"x": [true]}}' }, '{"options":{"deep":{"x":[true]}}}'],
    [{ note: 'null' }, '{"note":null}'],
    [{ note: 'None' }, '{"note":null}'],
    [{ note: 'nullify' }, '{"note":"nullify"}'],
    [{ note: 'No' }, '{"note":"No"}'],
    [{ city: '75001' }, '{"city":"75001"}'],
    [{ city: 'true' }, '{"city":"true"}'],
    [{ city: '{"a": 1}' }, '{"city":"{\\"a\\": 1}"}'],
    [{ undeclared: '5' }, '{"undeclared":5}'],
    [{ undeclared: '007' }, '{"undeclared":"007"}'],
    [{ undeclared: 'five' }, '{"undeclared":"five"}'],
  ];
  for (const [values, args] of cases) expect(call('weather', values), ['', ['weather', args]]);
});

test('one line break at either end of a value is markup, everything else is the value', () => {
  const cases: [string, string][] = [
    ['<parameter=city>\nParis\n</parameter>', 'Paris'],
    ['<parameter=city>Paris</parameter>', 'Paris'],
    ['<parameter=city>\n\n\n</parameter>', '\n'],
    ['<parameter=city>\n\n</parameter>', ''],
    ['<parameter=city>\n</parameter>', ''],
    ['<parameter=city></parameter>', ''],
    ['<parameter=city>\n  Paris  \n\n</parameter>', '  Paris  \n'],
    ['<parameter=city>\n\nParis\n</parameter>', '\nParis'],
  ];
  for (const [text, city] of cases) {
    const args = JSON.stringify({ city });
    expect(`<tool_call>\n<function=weather>\n${text}\n</function>\n</tool_call>`, ['', ['weather', args]]);
  }
});

test('values may hold markup, end tags included, as long as no further markup follows', () => {
  for (const city of [
    '<a href="x">y</a>',
    'before </parameter> after',
    '</parameter>',
    '</parameter>\ntext',
    '<parameter=x>',
    'if (a < b) { </function> }',
    '</function>',
    '</tool_call>',
    '<tool_call>\n<function=list>',
    '<function=list>\n</function>',
    '</parameter',
    '<',
    '<<<<</parameter></parameter>x',
    '</think>',
    '<|im_end|>',
    '"quoted" \\ and \u0007 and 😀',
  ])
    expect(call('weather', { city }), ['', ['weather', JSON.stringify({ city })]]);
});

test('a file that documents the format itself arrives whole, when its path came first', () => {
  const content = '# Calls\n\n<parameter=path>\n/tmp\n</parameter>\n<parameter=path>\nx';
  expect(call('write', { path: '/a.md', content }), ['', ['write', JSON.stringify({ path: '/a.md', content })]]);
});

test('forgotten tags are forgiven where the meaning is plain', () => {
  const city: [string, string] = ['weather', '{"city":"Dallas"}'];
  const both: [string, string] = ['weather', '{"city":"Dallas","days":3}'];
  const value = '<parameter=city>\nDallas\n';
  const days = '<parameter=days>\n3\n</parameter>\n';
  expect(`<function=weather>\n${value}</parameter>\n</function>`, ['', city]);
  expect(`On it.\n<function=weather>\n${value}</parameter>\n</function>\n</tool_call>`, ['On it.', city]);
  expect(`<tool_call>\n<function=weather>\n${value}</parameter>\n</function>`, ['', city]);
  expect(`<tool_call>\n<function=weather>\n${value}</parameter>\n</tool_call>`, ['', city]);
  expect(`<tool_call>\n<function=weather>\n${value}</parameter>\n`, ['', city]);
  expect(`<tool_call>\n<function=weather>\n${value}${days}</function>\n</tool_call>`, ['', both]);
  expect(`<tool_call>\n<function=weather>\n${value}</function>\n</tool_call>`, ['', city]);
  expect(`<tool_call>\n<function=weather>\n${value}</parameter>\n</function>\n${call('list')}`, [
    '',
    city,
    ['list', '{}'],
  ]);
  expect(
    `<tool_call>\n<function=list>\n</function>\n<function=weather>\n${value}</parameter>\n</function>\n</tool_call>`,
    ['', ['list', '{}'], city],
  );
});

test('what is no call is text, to the letter', () => {
  for (const text of [
    'Use <tool_call> to call.',
    '<tool_call>',
    '<tool_call>\n',
    '<tool_call>\nhello\n</tool_call>',
    '<tool_call>\n<function=nope>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>',
    '<tool_call>\n<function=>\n</function>\n</tool_call>',
    '<tool_call>\n<function=weather',
    '<tool_call>\n<function=weather>\nParis\n</function>\n</tool_call>',
    '<tool_call>\n<function=weather>\n<parameter>\nx\n</parameter>\n</function>\n</tool_call>',
    '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>',
    'The tag <function=weather>\n<parameter=city>\n… begins a call.',
    '</tool_call>',
    '</function>\n</tool_call>\n',
    '<tool_call' + ' '.repeat(200),
    `<tool_call>${' '.repeat(100)}<function=list>\n</function>\n</tool_call>`,
    'a\n\n',
    '\n',
    '',
  ])
    expect(text, [text]);
});

test('a call that is broken off keeps what it has, shows no markup, and does not count', () => {
  const head = '<tool_call>\n<function=weather>\n<parameter=city>\nPar';
  for (const cut of [true, false]) {
    expect(head, ['', ['weather', '{"city":"Par']], 0, cut);
    expect(`${head}is\n</para`, ['', ['weather', '{"city":"Paris']], 0, cut);
    expect(`${head}is\n</parameter>\n</func`, ['', ['weather', '{"city":"Paris"']], 0, cut);
    expect(`${head}is\n</parameter>\n<parameter=days>\n1`, ['', ['weather', '{"city":"Paris","days":']], 0, cut);
  }
  // After the value's end tag the rest is only missing if the model came to an end; with the function's it is complete.
  expect(`${head}is\n</parameter>\n`, ['', ['weather', '{"city":"Paris"']], 0, true);
  expect(`${head}is\n</parameter>\n</function>\n</to`, ['', ['weather', '{"city":"Paris"']], 0, true);
  expect(`${head}is\n</parameter>\n</function>\n`, ['', ['weather', '{"city":"Paris"}']], 1, true);
});

test('calls inside the think block are thoughts', () => {
  const thought = `I could ${call('list')} or not.`;
  const parsed = parse(parser(true), Array.from(`${thought}\n</think>\n\nNo.`));
  assert.deepEqual([parsed.reasoning, parsed.content, parsed.calls], [thought, 'No.', []]);
  const after = parse(parser(true), Array.from(`${thought}\n</think>\n\n${call('list')}`));
  assert.deepEqual([after.content, after.calls.length, after.reasoning], ['', 1, thought]);
  const unfinished = parse(parser(true), [thought]);
  assert.deepEqual([unfinished.reasoning, unfinished.calls], [thought, []]);
});

test('without parallel calls the answer is over with the first', () => {
  const one = parser(false, false);
  const deltas = deltasOf(one, Array.from(`Well.\n${call('list')}\n${call('list')} and more`));
  const { content, calls } = join(deltas);
  assert.deepEqual([content, calls.length, one.ended], ['Well.', 1, true]);
});

test('strings stream as they arrive, and so do objects and arrays', () => {
  const long = 'word '.repeat(50);
  for (const [key, value] of [
    ['city', long],
    ['note', long],
    ['places', JSON.stringify(Array.from({ length: 50 }, (_, i) => i))],
    ['options', JSON.stringify({ text: long })],
  ] as const) {
    const pieces = Array.from(call('weather', { [key]: value }));
    const made = parser();
    let latest = 0;
    for (const [at, piece] of pieces.entries()) {
      const delta = made.push(piece);
      if (delta.parts.some((part) => part.kind === 'call' && part.call.arguments !== '')) {
        assert.ok(at - latest < 60, `${key}: silent for ${at - latest} characters`);
        latest = at;
      }
    }
  }
});

const FRAGMENTS = [
  '<tool_call>',
  '\n',
  '<function=weather>',
  '<function=list>',
  '<function=nope>',
  '<parameter=city>',
  '<parameter=days>',
  '<parameter=options>',
  '<parameter=',
  '</parameter>',
  '</function>',
  '</tool_call>',
  '</think>',
  '<think>',
  '<',
  '>',
  ' ',
  'Paris',
  '5',
  '{"a": [1, "x"]}',
  "{'a': True}",
  '{',
  '"',
  '\\',
  '😀',
  '\ud83d',
];
const adversarial = fc.array(fc.constantFrom(...FRAGMENTS), { maxLength: 40 }).map((parts) => parts.join(''));
const values = fc.dictionary(
  fc.constantFrom('city', 'days', 'metric', 'places', 'options', 'note', 'other'),
  fc.oneof(fc.string({ unit: 'grapheme' }), fc.json(), adversarial),
);
const transcripts = fc
  .array(
    fc.oneof(
      fc.string({ unit: 'grapheme' }),
      adversarial,
      fc.tuple(fc.constantFrom('weather', 'list', 'write', 'nope'), values).map(([name, given]) => call(name, given)),
    ),
    { maxLength: 6 },
  )
  .map((parts) => parts.join('\n'));
const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 16 });

/** Arguments of complete calls are JSON objects; those of the last, broken off, are the beginning of one. */
function assertSound({ calls, complete }: ParsedText): void {
  for (const { arguments: args } of calls.slice(0, complete)) {
    const value: unknown = JSON.parse(args);
    assert.equal(typeof value, 'object');
    assert.ok(value !== null && !Array.isArray(value));
  }
  assert.ok(calls.length - complete <= 1);
}

test('whatever the text, every way to cut it gives the same answer, and complete calls have valid JSON', () => {
  fc.assert(
    fc.property(transcripts, shares, fc.boolean(), fc.boolean(), fc.boolean(), (text, where, inside, parallel, cut) => {
      const whole = parse(parser(inside, parallel), [text], cut);
      assert.deepEqual(parse(parser(inside, parallel), cutAt(text, where), cut), whole);
      assertSound(whole);
    }),
    { numRuns: 1000 },
  );
});

test('every single cut of a text gives the same answer', () => {
  fc.assert(
    fc.property(transcripts, (text) => {
      const whole = parse(parser(), [text]);
      for (let at = 1; at < text.length; at += 1)
        assert.deepEqual(parse(parser(), [text.slice(0, at), text.slice(at)]), whole);
    }),
    { numRuns: 25, examples: [['<think>\n'], ['<think>\n\na\n</think>\n\nb']] },
  );
});

test('text in which no tool is named comes back as it is', () => {
  const harmless = transcripts.filter((text) => !/<function=(?:weather|list|write)>/.test(text));
  fc.assert(
    fc.property(harmless, (text) => {
      const { content, calls } = parse(
        createParser('none', false, { name: 'qwen3_xml', tools, parallel: true, callIds: String }),
        [text],
      );
      assert.deepEqual([content, calls], [text, []]);
    }),
  );
});

test('what the template writes of a call, the parser reads: arguments survive the way through history', () => {
  const { template } = tinyAssets();
  const plain = fc
    .string({ unit: 'grapheme' })
    .filter((text) => !/<(?:\/?parameter|\/?function|\/?tool_call)/.test(text));
  const args = fc.record(
    {
      city: plain,
      days: fc.integer(),
      metric: fc.boolean(),
      places: fc.array(fc.oneof(plain, fc.integer(), fc.constant(null)), { minLength: 1 }),
      options: fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.oneof(plain, fc.boolean()), { minKeys: 1 }),
      note: fc.constant(null),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(args, (given) => {
      const text = template?.render({
        messages: [
          { role: 'user', content: 'Go' },
          {
            role: 'assistant',
            content: '',
            tool_calls: [{ function: { name: 'weather', arguments: JSON.stringify(given) } }],
          },
        ],
        addGenerationPrompt: false,
      });
      const said = /<\/think>\n\n([\s\S]*)<\|im_end\|>\n$/.exec(text ?? '')?.[1] ?? '';
      const { calls, content, complete } = parse(parser(), [said]);
      assert.deepEqual([content, complete], ['', 1]);
      assert.deepEqual(JSON.parse(calls[0]?.arguments ?? ''), JSON.parse(JSON.stringify(given)));
    }),
    { numRuns: 200 },
  );
});
