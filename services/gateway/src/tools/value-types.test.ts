import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toolTable } from './tool-table.ts';
import { ANY_TYPE, TYPE, typesOf } from './value-types.ts';

const ROOT = {
  $defs: {
    count: { type: 'integer' },
    either: { anyOf: [{ $ref: '#/$defs/count' }, { type: 'null' }] },
    loop: { $ref: '#/$defs/loop' },
    tree: { anyOf: [{ $ref: '#/$defs/tree' }, { type: 'string' }] },
    'a/b': { type: 'boolean' },
  },
};

test('the types of a value are read from type, enum, const, references and alternatives', () => {
  const cases: [unknown, number][] = [
    [{ type: 'string' }, TYPE.string],
    [{ type: 'integer' }, TYPE.number],
    [{ type: ['number', 'null'] }, TYPE.number | TYPE.null],
    [{ enum: ['a', 'b'] }, TYPE.string],
    [{ enum: [1, null] }, TYPE.number | TYPE.null],
    [{ const: true }, TYPE.boolean],
    [{ type: ['string', 'integer'], enum: [1, 2] }, TYPE.number],
    [{ $ref: '#/$defs/count' }, TYPE.number],
    [{ $ref: '#/$defs/either' }, TYPE.number | TYPE.null],
    [{ $ref: '#/$defs/a~1b' }, TYPE.boolean],
    [{ oneOf: [{ type: 'string' }, { type: 'array' }] }, TYPE.string | TYPE.array],
    [{ allOf: [{ type: ['string', 'null'] }, { type: 'string' }] }, TYPE.string],
    [{ type: 'object', nullable: true }, TYPE.object | TYPE.null],
    [{}, ANY_TYPE],
    [true, ANY_TYPE],
    [{ type: 'nonsense' }, ANY_TYPE],
    [{ allOf: [{ type: 'string' }, { type: 'null' }] }, ANY_TYPE],
    [{ $ref: '#/nowhere' }, ANY_TYPE],
    [{ $ref: 'https://example.com/schema' }, ANY_TYPE],
    [{ $ref: '#/%zz' }, ANY_TYPE],
  ];
  for (const [schema, types] of cases) assert.equal(typesOf(schema, ROOT), types, JSON.stringify(schema));
});

test('schemas that refer to themselves come to an end', () => {
  assert.equal(typesOf({ $ref: '#/$defs/loop' }, ROOT), ANY_TYPE);
  assert.equal(typesOf({ $ref: '#/$defs/tree' }, ROOT) & TYPE.string, TYPE.string);
  // Looked into to the end, this would take longer than the world has been there.
  const wide = { $defs: { x: { anyOf: Array.from({ length: 8 }, () => ({ $ref: '#/$defs/x' })) } } };
  assert.equal(typesOf({ $ref: '#/$defs/x' }, wide), ANY_TYPE);
});

test('a tool declares the parameters of its schema, of its branches too; others follow additionalProperties', () => {
  const table = toolTable([
    {
      function: {
        name: 'f',
        parameters: {
          properties: { a: { type: 'integer' } },
          anyOf: [{ properties: { b: { type: 'string' } } }, { properties: { b: { type: 'null' } } }],
          additionalProperties: { type: 'boolean' },
        },
      },
    },
    { function: { name: 'g' } },
    {
      function: {
        name: 'h',
        parameters: { $ref: '#/$defs/p', $defs: { p: { properties: { c: { type: 'array' } } } } },
      },
    },
  ]);
  const f = table.get('f');
  assert.deepEqual(
    ['a', 'b', 'c'].map((key) => [f?.typesOf(key), f?.declares(key)]),
    [
      [TYPE.number, true],
      [TYPE.string | TYPE.null, true],
      [TYPE.boolean, false],
    ],
  );
  assert.deepEqual([table.get('g')?.typesOf('x'), table.get('g')?.declares('x')], [ANY_TYPE, false]);
  assert.deepEqual([table.get('h')?.typesOf('c'), table.get('h')?.declares('c')], [TYPE.array, true]);
});
