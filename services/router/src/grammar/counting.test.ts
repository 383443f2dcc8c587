import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import type { PreparedGrammar, SequenceGrammar } from './sequence-grammar.ts';
import { allowedIds, constraint, TINY_STOPS, tinyGrammars, tinyTokenizer, uniformAt, walk } from './testing/walk.ts';

const grammars = tinyGrammars();
after(() => grammars.stop());

const ajv = new Ajv2020({ strict: false });

async function prepared(schema: unknown): Promise<PreparedGrammar> {
  return await grammars.prepare(constraint({ jsonSchema: JSON.stringify(schema) }));
}

/** Whether a text, written in bytes, is an answer. */
async function takes(grammar: PreparedGrammar, text: string): Promise<boolean> {
  const matcher = grammars.matcher(grammar, []);
  try {
    for (const byte of Buffer.from(text)) {
      const id = byteIds[byte] as number;
      if (!allowedIds(await matcher.mask()).includes(id)) return false;
      matcher.accept(id);
    }
    return allowedIds(await matcher.mask()).some((id) => TINY_STOPS.includes(id));
  } catch (err) {
    // Within its length nothing can be added any more that the pattern takes.
    assert.match(String(err), /after which no text matches/);
    return false;
  } finally {
    matcher.close();
  }
}

/** Tokens of single bytes. */
const byteIds = Array.from({ length: 256 }, (_, byte) => {
  for (let id = 0; id < tinyTokenizer.size; id++) {
    const bytes = tinyTokenizer.tokenBytes(id);
    if (bytes.length === 1 && bytes[0] === byte && !tinyTokenizer.isSpecial(id)) return id;
  }
  return assert.fail(`byte ${byte} has no token`);
});

/** Writes a long string: never ends it before it has to. */
async function longest(
  grammar: SequenceGrammar,
  seed: number,
  limit: number,
): Promise<{ text: string; whole: boolean }> {
  const ids: number[] = [];
  while (ids.length < limit) {
    const allowed = allowedIds(await grammar.mask());
    const open = allowed.filter((id) => !TINY_STOPS.includes(id));
    if (open.length === 0) return { text: tinyTokenizer.decode(ids), whole: true };
    const going = open.filter((id) => !tinyTokenizer.decode([id]).includes('"'));
    const from = going.length > 0 ? going : open;
    const next = from[Math.floor(uniformAt(seed, ids.length) * from.length)] as number;
    ids.push(next);
    grammar.accept(next);
  }
  return { text: tinyTokenizer.decode(ids), whole: false };
}

test('a string ends at its maxLength and not before its minLength, to the character', async () => {
  const chars = fc.stringMatching(/^[aé😀"\\\n]{0,12}$/u);
  await fc.assert(
    fc.asyncProperty(
      fc.nat(6),
      fc.nat(5),
      fc.array(chars, { minLength: 4, maxLength: 8 }),
      async (least, more, texts) => {
        const schema = { type: 'string', minLength: least, maxLength: least + more };
        const validate = ajv.compile(schema);
        const grammar = await prepared(schema);
        for (const text of texts) {
          assert.equal(
            await takes(grammar, JSON.stringify(text)),
            validate(text),
            `${JSON.stringify(text)}, ${least}+${more}`,
          );
        }
        grammar.release();
      },
    ),
    { numRuns: 12 },
  );
});

test('strings that go on as long as they may have exactly the length that they may have', async () => {
  for (const maxLength of [1, 7, 600]) {
    const grammar = await prepared({ type: 'string', maxLength });
    const matcher = grammars.matcher(grammar, []);
    const { text, whole } = await longest(matcher, maxLength, 1500);
    matcher.close();
    grammar.release();
    assert.ok(whole, `${maxLength}: it has to end`);
    assert.equal(Array.from(JSON.parse(text) as string).length, maxLength);
  }
});

test('arrays have as many items as they may', async () => {
  const schema = {
    type: 'array',
    items: { type: 'string', minLength: 1, maxLength: 10_000 },
    minItems: 3,
    maxItems: 64,
  };
  const grammar = await prepared(schema);
  const validate = ajv.compile(schema);
  for (let seed = 0; seed < 6; seed++) {
    const matcher = grammars.matcher(grammar, []);
    const { text, ended } = await walk(matcher, seed, 300);
    matcher.close();
    if (ended) assert.ok(validate(JSON.parse(text)), text);
  }
  for (const count of [2, 3, 64, 65]) {
    const text = JSON.stringify(Array<string>(count).fill('x'));
    assert.equal(await takes(grammar, text), validate(JSON.parse(text)), `${count} items`);
  }
  grammar.release();
});

test('where several strings may stand, each is held to its own bounds', async () => {
  const closed = (properties: Record<string, unknown>): Record<string, unknown> => ({
    type: 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  });
  const schema = {
    anyOf: [
      closed({ a: { type: 'string', maxLength: 2 }, b: { type: 'null' } }),
      closed({ a: { type: 'string', minLength: 4, maxLength: 6 }, c: { type: 'null' } }),
      closed({ a: { const: 'const' }, d: { type: 'null' } }),
      closed({ a: { type: 'string' }, e: { type: 'null' } }),
    ],
  };
  const validate = ajv.compile(schema);
  const grammar = await prepared(schema);
  for (const a of ['', 'xy', 'xyz', 'wxyz', 'const', 'sixsix', 'seventh']) {
    for (const other of ['b', 'c', 'd', 'e']) {
      const value = { a, [other]: null };
      assert.equal(await takes(grammar, JSON.stringify(value)), validate(value), JSON.stringify(value));
    }
  }
  grammar.release();
});

test('patterns and formats are held to lengths too', async () => {
  const cases: [schema: Record<string, unknown>, texts: string[]][] = [
    [{ pattern: '^[a-z]+$', minLength: 2, maxLength: 4 }, ['a', 'ab', 'abcd', 'abcde', 'ab1']],
    [{ pattern: 'é', maxLength: 3 }, ['é', 'xé', 'xxé', 'xxxé', 'xxx']],
    [{ format: 'email', maxLength: 7 }, ['a@b.cd', 'a@bc.de', 'ab@bc.de']],
    [{ pattern: '^"?$', minLength: 1 }, ['', '"', '""']],
  ];
  for (const [keywords, texts] of cases) {
    const { format, ...rest } = keywords;
    const validate = ajv.compile({ type: 'string', ...rest });
    const grammar = await prepared({ type: 'string', ...keywords });
    for (const text of texts) {
      const isRight = validate(text) && (format === undefined || /^[^@]+@[^@]+\.[^@]+$/.test(text));
      assert.equal(await takes(grammar, JSON.stringify(text)), isRight, `${text} for ${JSON.stringify(keywords)}`);
    }
    grammar.release();
  }
});

test('bytes that stand for lengths are never sampled, and half characters count for whole ones', async () => {
  const grammar = await prepared({ type: 'string', maxLength: 2 });
  const matcher = grammars.matcher(grammar, []);
  matcher.accept(byteIds[0x22] as number);
  const [lead, ...others] = Buffer.from('😀', 'utf8');
  for (const byte of [lead as number, ...others, lead as number]) {
    const allowed = allowedIds(await matcher.mask());
    for (const never of [0xc0, 0xf5, 0xff]) assert.ok(!allowed.includes(byteIds[never] as number));
    assert.ok(allowed.includes(byteIds[byte] as number));
    matcher.accept(byteIds[byte] as number);
  }
  // The second character has begun: its other bytes may come, and nothing that begins a third one.
  for (const byte of others) {
    const allowed = allowedIds(await matcher.mask());
    assert.ok(
      allowed.every((id) => tinyTokenizer.tokenBytes(id).every((entry) => (entry & 0xc0) === 0x80 || entry === 0x22)),
    );
    matcher.accept(byteIds[byte] as number);
  }
  assert.deepEqual(
    allowedIds(await matcher.mask()).map((id) => tinyTokenizer.decode([id])),
    ['"'],
  );
  matcher.close();
  grammar.release();
});

test('taking tokens back takes lengths back', async () => {
  const grammar = await prepared({
    type: 'array',
    items: { type: 'string', minLength: 2, maxLength: 5 },
    minItems: 40,
  });
  const live = grammars.matcher(grammar, []);
  const masks = [await live.mask()];
  const ids: number[] = [];
  for (let i = 0; i < 40; i++) {
    const allowed = allowedIds(masks.at(-1) as Int32Array<ArrayBuffer>).filter((id) => !TINY_STOPS.includes(id));
    const next = allowed[Math.floor(uniformAt(4, i) * allowed.length)] as number;
    ids.push(next);
    live.accept(next);
    masks.push(await live.mask());
  }
  for (const back of [1, 2, 7, 19]) {
    live.rollback(back);
    assert.deepEqual(await live.mask(), masks[ids.length - back]);
    const replayed = grammars.matcher(grammar, ids.slice(0, ids.length - back));
    assert.deepEqual(await replayed.mask(), masks[ids.length - back]);
    replayed.close();
    for (const id of ids.slice(ids.length - back)) live.accept(id);
    assert.deepEqual(await live.mask(), masks[ids.length]);
  }
  live.close();
  grammar.release();
});

test('within structural tags strings are counted from where they begin, whatever stands before them', async () => {
  const tag = {
    type: 'structural_tag',
    format: {
      type: 'triggered_tags',
      triggers: ['<a>'],
      tags: [
        {
          type: 'tag',
          begin: '<a>',
          content: { type: 'json_schema', json_schema: { type: 'string', maxLength: 3 } },
          end: '</a>',
        },
      ],
    },
  };
  const grammar = await grammars.prepare(constraint({ structuralTag: JSON.stringify(tag) }));
  for (const [text, whole] of [
    ['5" is long <a>"abc"</a> and 6" too <a>""</a>', true],
    ['5" is long <a>"abcd"</a>', false],
    ['"quoted" <a>"😀\\n\\""</a>', true],
  ] as const) {
    assert.equal(await takes(grammar, text), whole, text);
  }
  grammar.release();
});

test('a line of plain text is held to lengths, patterns and formats', async () => {
  const cases: [schema: Record<string, unknown>, right: string[], wrong: string[]][] = [
    [{ minLength: 2, maxLength: 4 }, ['ab', '"\\é😀'], ['a', 'abcde', '']],
    [{ maxLength: 600 }, ['', 'x'.repeat(600)], ['x'.repeat(601)]],
    [{ pattern: '^[^a]+$', maxLength: 3 }, ['bcd'], ['bcde', 'a', '']],
    [{ format: 'date' }, ['2024-02-28'], ['2024-02-30', '']],
    [{ maxLength: 0 }, [''], ['a']],
  ];
  for (const [schema, right, wrong] of cases) {
    const tag = { type: 'tag', begin: '<p>\n', content: { type: 'line', schema }, end: '</p>' };
    const format = { type: 'sequence', elements: [{ type: 'const_string', value: '"' }, tag] };
    const grammar = await grammars.prepare(constraint({ structuralTag: JSON.stringify({ format }) }));
    const wrapped = (text: string): string => `"<p>\n${text}\n</p>`;
    for (const text of right) assert.ok(await takes(grammar, wrapped(text)), `${text} for ${JSON.stringify(schema)}`);
    for (const text of wrong)
      assert.ok(!(await takes(grammar, wrapped(text))), `${text} for ${JSON.stringify(schema)}`);
    grammar.release();
  }
});
