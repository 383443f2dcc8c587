import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import type { ConstraintSpec } from './grammars.ts';
import type { PreparedGrammar } from './sequence-grammar.ts';
import { allowedIds, constraint, TINY_STOPS, tinyGrammars, tinyTokenizer, walk } from './testing/walk.ts';

const grammars = tinyGrammars();
after(() => grammars.stop());

const ajv = new Ajv2020({ strict: false, validateFormats: false });
const lineBreak = tinyTokenizer.tokenToId('ĊĊ') ?? assert.fail('there is a token of two line breaks');
const thinkEnd = tinyTokenizer.tokenToId('</think>') ?? assert.fail('there is a token that ends thinking');

async function prepared(given: Partial<ConstraintSpec>): Promise<PreparedGrammar> {
  return await grammars.prepare(constraint(given));
}

/** Texts of `count` walks that ended by themselves. */
async function texts(given: Partial<ConstraintSpec>, count: number): Promise<string[]> {
  const grammar = await prepared(given);
  const ended: string[] = [];
  for (let seed = 0; ended.length < count; seed++) {
    assert.ok(seed < 4 * count + 10, 'most walks end');
    const matcher = grammars.matcher(grammar, []);
    const { text, ended: whole } = await walk(matcher, seed);
    matcher.close();
    if (whole) ended.push(text);
  }
  grammar.release();
  return ended;
}

const name = fc.constantFrom('a', 'b', 'ab', 'name', 'ü"\n', '');
const scalar: fc.Arbitrary<Record<string, unknown>> = fc.oneof(
  fc.constantFrom({ type: 'string' }, { type: 'boolean' }, { type: 'null' }, { type: 'integer' }, { type: 'number' }),
  fc.record({ enum: fc.array(fc.oneof(fc.string(), fc.integer(), fc.constant(null)), { minLength: 1, maxLength: 4 }) }),
  fc
    .tuple(fc.integer({ min: -300, max: 300 }), fc.nat(2000))
    .map(([minimum, size]) => ({ type: 'integer', minimum, maximum: minimum + size })),
  fc
    .tuple(fc.integer({ min: -30, max: 30 }), fc.integer({ min: 1, max: 50 }))
    .map(([low, size]) => ({ type: 'number', exclusiveMinimum: low, maximum: low + size })),
  fc
    .tuple(fc.nat(3), fc.nat(4))
    .map(([minLength, more]) => ({ type: 'string', minLength, maxLength: minLength + more })),
  fc.constantFrom({ type: 'string', minLength: 7 }, { type: 'string', maxLength: 300 }),
  fc.constantFrom(
    { type: 'string', pattern: '^[a-c]{1,3}".$' },
    { type: 'string', pattern: 'x|^y' },
    { type: 'string', pattern: '^[ab"]*$', minLength: 2, maxLength: 5 },
    { type: 'string', pattern: String.raw`^\S+\s\D$` },
  ),
);
const schemas = fc.letrec<{ schema: Record<string, unknown> }>((tie) => ({
  schema: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalar,
    fc
      .tuple(
        fc.uniqueArray(fc.tuple(name, tie('schema')), { selector: ([key]) => key, maxLength: 4 }),
        fc.integer(),
        fc.option(tie('schema')),
      )
      .map(([members, bits, extra]) => ({
        type: 'object',
        properties: Object.fromEntries(members),
        required: members.filter((_, i) => ((bits >> i) & 1) === 1).map(([key]) => key),
        ...(extra === null ? {} : { additionalProperties: extra }),
      })),
    fc
      .tuple(tie('schema'), fc.nat(2), fc.nat(2))
      .map(([items, minItems, more]) => ({ type: 'array', items, minItems, maxItems: minItems + more })),
    fc.tuple(fc.nat(9), fc.nat(20)).map(([minItems, more]) => ({
      type: 'array',
      items: { type: 'boolean' },
      minItems,
      maxItems: minItems + more,
    })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 2 }).map((prefixItems) => ({ type: 'array', prefixItems })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
  ),
})).schema;

test('whatever the schema, random answers under its mask are JSON that a validator accepts', async () => {
  await fc.assert(
    fc.asyncProperty(schemas, async (schema) => {
      const validate = ajv.compile(schema);
      const grammar = await prepared({ jsonSchema: JSON.stringify(schema) });
      for (let seed = 0; seed < 4; seed++) {
        const matcher = grammars.matcher(grammar, []);
        const { text, ended } = await walk(matcher, seed, 150);
        matcher.close();
        if (ended) assert.ok(validate(JSON.parse(text)), `${text} for ${JSON.stringify(schema)}`);
      }
      grammar.release();
    }),
    { numRuns: 15 },
  );
});

test('keywords that go with others: references, recursion, joined and split schemas', async () => {
  const list = {
    type: 'object',
    properties: { value: { type: 'integer' }, next: { anyOf: [{ $ref: '#/$defs/list' }, { type: 'null' }] } },
    required: ['value', 'next'],
  };
  const cases = [
    { $ref: '#/$defs/list', $defs: { list } },
    { type: 'object', properties: { kids: { type: 'array', items: { $ref: '#' } } } },
    {
      allOf: [{ $ref: '#/$defs/a' }, { properties: { b: { const: [1, { x: 'y' }] } }, required: ['b'] }],
      type: 'object',
      $defs: { a: { properties: { a: { type: 'null' } }, required: ['a'] } },
    },
    {
      oneOf: [
        { type: 'object', properties: { kind: { const: 'a' }, x: { type: 'integer' } }, required: ['kind', 'x'] },
        { type: 'object', properties: { kind: { enum: ['b', 'c'] } }, required: ['kind'] },
      ],
    },
    { type: ['integer', 'null'], maximum: -4 },
    {
      type: 'object',
      additionalProperties: { type: 'boolean' },
      properties: { abc: { type: 'null' }, ab: { type: 'integer' } },
    },
  ];
  for (const schema of cases) {
    const validate = ajv.compile(schema);
    for (const text of await texts({ jsonSchema: JSON.stringify(schema) }, 4))
      assert.ok(validate(JSON.parse(text)), `${text} for ${JSON.stringify(schema)}`);
  }
});

test('every format gives texts of its kind', async () => {
  const checks: Record<string, (text: string) => boolean> = {
    date: (text) => new Date(`${text}T00:00:00Z`).toISOString().startsWith(text),
    time: (text) => !Number.isNaN(Date.parse(`2020-01-01T${text}`)),
    'date-time': (text) => !Number.isNaN(Date.parse(text)),
    duration: (text) => /^P.+$/.test(text),
    email: (text) => /^[^@]+@[^@]+\.[^@]+$/.test(text),
    hostname: (text) => new URL(`http://x${text}`).hostname !== '',
    ipv4: (text) => text.split('.').every((part) => Number(part) <= 255 && String(Number(part)) === part),
    ipv6: (text) => URL.canParse(`http://[${text}]`),
    uuid: (text) => /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(text),
    uri: (text) => URL.canParse(text),
  };
  for (const [format, check] of Object.entries(checks)) {
    for (const text of await texts({ jsonSchema: JSON.stringify({ type: 'string', format }) }, 3)) {
      assert.ok(check(JSON.parse(text) as string), `${format}: ${text}`);
    }
  }
});

test('regular expressions and grammars are matched whole; any JSON object is one', async () => {
  const expressions = ['[a-c]{2,4}\\d+x?', '(yes|no)( sir)?', '^\\w{3}-[^a-z\\s]{2}$', 'ü{1,2}\u{1f600}?'];
  for (const regex of expressions) {
    const whole = new RegExp(`^(?:${regex.replaceAll(/^\^|\$$/g, '')})$`, 'u');
    for (const text of await texts({ regex }, 5)) assert.match(text, whole);
  }
  for (const text of await texts({ grammar: 'root ::= "yes" | "no"' }, 4)) assert.match(text, /^(yes|no)$/);
  for (const text of await texts({ jsonObject: true }, 3)) assert.ok(JSON.parse(text) instanceof Object);
});

test('control tokens match nothing; those around tool calls only where a grammar says so', async () => {
  const open = tinyTokenizer.tokenToId('<tool_call>') ?? assert.fail();
  const first = async (given: Partial<ConstraintSpec>): Promise<number[]> => {
    const grammar = await prepared(given);
    const matcher = grammars.matcher(grammar, []);
    const ids = allowedIds(await matcher.mask());
    matcher.close();
    assert.ok(ids.every((id) => !tinyTokenizer.isSpecial(id) || TINY_STOPS.includes(id)));
    return ids;
  };
  const grammar = 'root ::= "<tool_call>" | "<|im_start|>"';
  assert.ok(!(await first({ grammar })).includes(open));
  assert.ok((await first({ grammar, addedTokens: true })).includes(open));
  const tag = { type: 'structural_tag', format: { type: 'const_string', value: '<tool_call>' } };
  assert.ok((await first({ structuralTag: JSON.stringify(tag) })).includes(open));
  assert.ok(!(await first({ regex: '.*' })).includes(open));
});

test('a replay leads to the masks of the first time, and taking tokens back to earlier ones', async () => {
  const grammar = await prepared({ jsonObject: true, afterToken: thinkEnd });
  const live = grammars.matcher(grammar, []);
  const masks = [await live.mask()];
  assert.ok(
    !TINY_STOPS.some((id) => allowedIds(masks[0] as Int32Array<ArrayBuffer>).includes(id)),
    'no end within thoughts',
  );
  const thoughts = [100, 200, thinkEnd, lineBreak];
  for (const id of thoughts) {
    live.accept(id);
    masks.push(await live.mask());
  }
  assert.ok(allowedIds(masks[3] as Int32Array<ArrayBuffer>).includes(lineBreak), 'line breaks may follow the thoughts');
  assert.ok(!allowedIds(masks[4] as Int32Array<ArrayBuffer>).includes(lineBreak), 'two of them');
  const { ids } = await walk(live, 3, 60);
  const all = [...thoughts, ...ids];
  for (const cut of [0, 1, 3, 4, 5, 17, ids.length]) {
    const again = grammars.matcher(grammar, all.slice(0, cut));
    if (cut < masks.length) assert.deepEqual(await again.mask(), masks[cut]);
    for (const id of all.slice(cut)) again.accept(id);
    assert.deepEqual(await again.mask(), await live.mask());
    again.rollback(all.length - cut);
    if (cut < masks.length) assert.deepEqual(await again.mask(), masks[cut]);
    for (const id of all.slice(cut)) again.accept(id);
    assert.deepEqual(await again.mask(), await live.mask());
    again.close();
  }
  live.close();
});

test('a token that does not match fails its own sequence and no other', async () => {
  const grammar = await prepared({ regex: 'abc' });
  const [wrong, right] = [grammars.matcher(grammar, []), grammars.matcher(grammar, [])];
  const other = allowedIds(await right.mask())[0] as number;
  wrong.accept(tinyTokenizer.tokenToId('z') ?? assert.fail());
  right.accept(other);
  await assert.rejects(wrong.mask(), { code: 'internal' });
  assert.ok(allowedIds(await right.mask()).length > 0);
  wrong.close();
  right.close();
});

test("what cannot be compiled is refused with the engine's words; running matchers notice nothing", async () => {
  const running = grammars.matcher(await prepared({ jsonObject: true }), []);
  const before = await running.mask();
  const refused: Partial<ConstraintSpec>[] = [
    { grammar: 'root ::= "a' },
    { grammar: 'start ::= "a"' },
    { grammar: 'root ::= other' },
    { structuralTag: '{"type":"structural_tag","format":{"type":"no_such"}}' },
    { structuralTag: '7' },
  ];
  for (const given of refused)
    await assert.rejects(prepared(given), { code: 'invalid_value', field: /^constraint/ }, JSON.stringify(given));
  await assert.rejects(prepared({ jsonObject: true, afterToken: 5000 }), { code: 'invalid_value' });
  assert.deepEqual(await running.mask(), before);
  running.close();
});

test('a grammar that leads nowhere is refused where it does', async () => {
  const nowhere = { code: 'invalid_value', field: 'constraint', message: /after which no text matches/ };
  const empty = grammars.matcher(await prepared({ grammar: 'root ::= root' }), []);
  await assert.rejects(empty.mask(), nowhere);
  const later = grammars.matcher(await prepared({ grammar: 'root ::= "a" other\nother ::= "b" other' }), []);
  const [a] = allowedIds(await later.mask());
  assert.ok(a !== undefined);
  empty.close();
  later.close();
});

test('a grammar that takes too long is refused in time, and the next one is compiled', async () => {
  const strict = tinyGrammars({ compileLimitMs: 2000 });
  const slow = 'root ::= (([a-z]{1,99} "b"?){1,99} "c"?){1,99}';
  await assert.rejects(strict.prepare(constraint({ grammar: slow })), {
    code: 'invalid_value',
    message: /too complex/,
  });
  (await strict.prepare(constraint({ regex: 'a' }))).release();
  await strict.stop();
});

test("deep recursion of a grammar does not write over the engine's data", async () => {
  const deep = Array.from({ length: 800 }, (_, i) => `${i === 0 ? 'root' : `a${i}`} ::= "x" a${i + 1} | "y"`).join(
    '\n',
  );
  const chain = await prepared({ grammar: `${deep}\na800 ::= "z"` });
  for (const seed of [1, 2]) {
    const matcher = grammars.matcher(chain, []);
    assert.match((await walk(matcher, seed, 50)).text, /^x*[yz]?$/);
    matcher.close();
  }
  for (const text of await texts({ jsonSchema: '{"enum":["a","b"]}' }, 2)) assert.match(text, /^"[ab]"$/);
});

for (const when of ['before', 'while'] as const) {
  test(`sequences whose thread is lost go on in another one: lost ${when} the next token is taken`, async () => {
    const own = tinyGrammars();
    // Each token changes what may follow it.
    const regex = '([a-z][0-9]){20}';
    const grammar = await own.prepare(constraint({ regex }));
    const matcher = own.matcher(grammar, []);
    const { ids } = await walk(matcher, 5, 10);
    const allowed = allowedIds(await matcher.mask());
    const next = allowed[allowed.length - 1] as number;
    // A call that cannot be: the engine gives up.
    const lost = assert.rejects(grammar.lane.rollback(-1, 1), { code: 'internal' });
    if (when === 'before') await lost;
    matcher.accept(next);
    await lost;
    const replayed = grammars.matcher(await prepared({ regex }), [...ids, next]);
    assert.deepEqual(await matcher.mask(), await replayed.mask());
    replayed.close();
    await own.stop();
  });
}
