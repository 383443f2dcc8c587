import assert from 'node:assert/strict';
import { test } from 'node:test';
import { grammarText } from './index.ts';

function refusal(schema: unknown): { code: string; message: string; field: string | null } {
  try {
    grammarText({ jsonSchema: typeof schema === 'string' ? schema : JSON.stringify(schema) }, 'schema');
  } catch (err) {
    return err as { code: string; message: string; field: string | null };
  }
  return assert.fail(`accepted ${JSON.stringify(schema)}`);
}

/** A schema whose list of itself goes `depth` deep. */
function nested(depth: number): unknown {
  return depth === 0 ? { type: 'string' } : { type: 'array', items: nested(depth - 1) };
}

test('keywords that an answer cannot be held to are refused by name and place', () => {
  const refused: [schema: unknown, ...parts: string[]][] = [
    [{ type: 'object', properties: { a: { not: { type: 'null' } } } }, 'schema.properties.a', '"not"'],
    [{ type: 'array', items: { type: 'integer' }, uniqueItems: true }, 'schema', '"uniqueItems"'],
    [{ type: 'array', contains: { const: 1 } }, '"contains"'],
    [{ anyOf: [{ type: 'null' }, { if: {}, else: {} }] }, 'schema.anyOf[1]', '"if"'],
    [{ type: 'object', patternProperties: { '^a': {} } }, '"patternProperties"'],
    [{ type: 'object', propertyNames: {} }, '"propertyNames"'],
    [{ type: 'object', minProperties: 2, properties: { a: {} } }, '"minProperties"'],
    [{ type: 'object', maxProperties: 2 }, '"maxProperties"'],
    [{ type: 'integer', multipleOf: 3 }, '"multipleOf"'],
    [{ type: 'number', minimum: 0.5 }, '"minimum"'],
    [{ type: 'string', format: 'iri' }, '"format"', 'iri'],
    [{ type: 'string', pattern: '(?=a)b' }, '"pattern"', 'look-around'],
    [{ type: 'string', pattern: 'a', format: 'date' }, '"format"', '"pattern"'],
    [{ type: 'string', pattern: 'a*', maxLength: 0 }, '"maxLength"', '"pattern"'],
    [{ type: 'string', pattern: String.raw`\bword` }, '"pattern"'],
    [{ type: 'array', maxItems: 1e7 }, '"maxItems"', '1000000'],
    [{ anyOf: Array.from({ length: 200 }, (_, i) => ({ type: 'string', maxLength: 10 + i })) }, '"maxLength"', '121'],
    [{ enum: ['a'], minLength: 1 }, '"minLength"', '"enum"'],
    [{ oneOf: [{ type: 'string' }, { type: 'string', maxLength: 3 }] }, '"oneOf"', 'anyOf'],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, '"oneOf"'],
    [{ allOf: [{ minimum: 1 }, { minimum: 2 }], type: 'integer' }, '"allOf"'],
    [{ $ref: 'https://example.com/schema' }, '"$ref"'],
    [{ type: 'string', minLenght: 3 }, '"minLenght"', 'not known'],
    [{ items: [{ type: 'string' }] }, '"items"', 'prefixItems'],
    [nested(80), 'nested'],
  ];
  for (const [schema, ...parts] of refused) {
    const { code, message, field } = refusal(schema);
    assert.equal(code, 'unsupported', message);
    assert.equal(field, 'schema');
    for (const part of parts) assert.ok(message.includes(part), `${message} names ${part}`);
  }
});

test('schemas that make no sense are refused by place', () => {
  const refused: [schema: unknown, ...parts: string[]][] = [
    ['{"type":', 'JSON'],
    ['3', 'not a schema'],
    [{ type: 'text' }, '"type"'],
    [{ type: [] }, '"type"'],
    [false, 'no value'],
    [{ type: 'object', required: 'a' }, '"required"'],
    [{ type: 'object', properties: { a: {} }, required: ['b'] }, '"required"', '"b"'],
    [{ type: 'object', properties: [] }, '"properties"'],
    [{ properties: { a: 7 } }, 'schema.properties.a'],
    [{ enum: [] }, '"enum"'],
    [{ enum: [1, 2], type: 'string' }, '"enum"'],
    [{ anyOf: [] }, '"anyOf"'],
    [{ type: 'string', minLength: -1 }, '"minLength"'],
    [{ type: 'string', minLength: 5, maxLength: 4 }, '"maxLength"'],
    [{ type: 'integer', minimum: 5, maximum: 4 }, '"minimum"'],
    [{ $ref: '#/$defs/none' }, '"$ref"'],
    [{ $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/a' } } }, '"$ref"', 'itself'],
    [{ $ref: '#/$defs/a', $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }] } } }, '"$ref"', 'itself'],
    [{ type: 'array', minItems: 3, maxItems: 2 }, '"maxItems"'],
    ['"' + 'x'.repeat(300_000) + '"', 'bytes'],
  ];
  for (const [schema, ...parts] of refused) {
    const { code, message } = refusal(schema);
    assert.equal(code, 'invalid_value', message);
    for (const part of parts) assert.ok(message.includes(part), `${message} names ${part}`);
  }
});

test('regular expressions that are none, or that are not regular, are refused with the place', () => {
  for (const regex of [
    '(',
    'a)',
    '[',
    '[]',
    'a{3,2}',
    'a**',
    '*',
    '(?<=a)b',
    String.raw`\1`,
    'a^b',
    '(a$)b',
    '[z-a]',
    'a{5000}',
    '(a{100}){100}',
    String.raw`\p{L}`,
    '('.repeat(60) + ')'.repeat(60),
  ]) {
    assert.throws(
      () => grammarText({ regex }, 'guided_regex'),
      { code: 'invalid_value', field: 'guided_regex' },
      regex,
    );
  }
});

test('the rules of schemas hold within structural tags, in the present and the older form', () => {
  const of = (schema: unknown): string =>
    JSON.stringify({
      type: 'structural_tag',
      format: { type: 'tag', begin: '<a>', content: { type: 'json_schema', json_schema: schema }, end: '</a>' },
    });
  const { kind, text } = grammarText({ structuralTag: of({ type: 'null' }) }, 'tag');
  assert.equal(kind, 'structural_tag');
  assert.match(text, /"type":"grammar","grammar":"root ::= null/);
  assert.throws(() => grammarText({ structuralTag: of({ not: {} }) }, 'tag'), { code: 'unsupported', field: 'tag' });
  const older = { structures: [{ begin: '<a>', schema: { type: 'null' }, end: '</a>' }], triggers: ['<a'] };
  assert.match(
    grammarText({ structuralTag: JSON.stringify(older) }, 'tag').text,
    /"triggered_tags","triggers":\["<a"\]/,
  );
});

test('grammars are bounded in size and depth; nothing at all is refused', () => {
  const refused = [
    { grammar: ' ' },
    { grammar: `root ::= ${'('.repeat(200)}` },
    { grammar: '#'.repeat(300_000) },
    {},
    { structuralTag: '{' },
  ];
  for (const constraint of refused)
    assert.throws(() => grammarText(constraint, 'g'), { code: 'invalid_value', field: 'g' });
});

test('structural tags of a wrong shape are refused with the place', () => {
  const any = { type: 'any_text' };
  const triggered = (begin: string, triggers = ['<a']): unknown => ({
    format: { type: 'triggered_tags', triggers, tags: [{ begin, content: any, end: '' }] },
  });
  const refused: [tag: unknown, place: string][] = [
    [7, 't: must be an object'],
    [{}, 't.format'],
    [{ format: 5 }, 't.format'],
    [{ format: any, more: 1 }, 't: '],
    [{ format: { type: 'nope' } }, 't.format.type'],
    [{ format: { type: 'tag', content: any, end: '' } }, 't.format.begin'],
    [{ format: { type: 'tag', begin: '', content: any } }, 't.format.end'],
    [{ format: { type: 'tag', begin: '', content: { type: 'regex' }, end: '' } }, 't.format.content.pattern'],
    [{ format: { type: 'sequence', elements: [any, { type: 'or', elements: [] }] } }, 't.format.elements[1].elements'],
    [triggered('<b>'), 't.format.tags[0].begin'],
    [triggered('<ab>', ['<a', '<ab']), 't.format.tags[0].begin'],
    [triggered('<a>', []), 't.format.triggers'],
    [{ structures: [{ begin: '<a>', schema: 3, end: '' }], triggers: ['<a'] }, 't.structures[0].schema'],
  ];
  for (const [tag, place] of refused) {
    assert.throws(
      () => grammarText({ structuralTag: JSON.stringify(tag) }, 't'),
      (err: { code: string; message: string }) => err.code === 'invalid_value' && err.message.startsWith(place),
      `${JSON.stringify(tag)} at ${place}`,
    );
  }
  const parameters = { properties: { a: { type: 'string', maxLength: 3 } } };
  assert.throws(
    () =>
      grammarText(
        { structuralTag: JSON.stringify({ format: { type: 'qwen_xml_parameter', json_schema: parameters } }) },
        't',
      ),
    { code: 'unsupported', message: /t\.format\.json_schema: keyword "maxLength"/ },
  );
  assert.throws(
    () =>
      grammarText(
        { structuralTag: `{"format":${'{"type":"or","elements":['.repeat(9000)}{}${']}'.repeat(9000)}}` },
        't',
      ),
    { code: 'invalid_value', message: /nested too deeply/ },
  );
});
