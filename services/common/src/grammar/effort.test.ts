import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GuildhallError } from '../errors.ts';
import { choiceGrammar, type ConstraintText, grammarText } from './index.ts';

function refusalOf(write: () => unknown): GuildhallError {
  try {
    write();
  } catch (err) {
    return err as GuildhallError;
  }
  return assert.fail('accepted');
}

function refusal(constraint: ConstraintText): GuildhallError {
  return refusalOf(() => grammarText(constraint, 'field'));
}

const numbers = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i));

// Each of these is small, and takes minutes to write to the end.
test('what multiplies is given up after a bounded number of steps', () => {
  const schemas: unknown[] = [
    { oneOf: numbers(9000, (i) => ({ const: i })) },
    { oneOf: numbers(600, (i) => ({ enum: numbers(60, (j) => i * 60 + j) })) },
    { allOf: numbers(6000, (i) => ({ properties: { [`p${i}`]: {} } })) },
    { type: 'object', properties: Object.fromEntries(numbers(800, (i) => [`property_${i}`, { type: 'string' }])) },
  ];
  const constraints: ConstraintText[] = [
    { regex: '(a?b?c?d?e?f?g?){500}' },
    { regex: String.raw`(\w*\s*){1000}x` },
    ...schemas.map((schema) => ({ jsonSchema: JSON.stringify(schema) })),
    {
      structuralTag: JSON.stringify({
        type: 'structural_tag',
        format: { type: 'or', elements: numbers(1000, () => ({ type: 'regex', pattern: '(.*a){10}.*b' })) },
      }),
    },
  ];
  for (const constraint of constraints) {
    const { code, field, message } = refusal(constraint);
    assert.deepEqual([code, field], ['unsupported', 'field'], message);
    assert.match(message, /^field: has too many alternatives or repetitions/, JSON.stringify(constraint).slice(0, 80));
  }
});

test('what people ask for is within the steps', () => {
  const properties = Object.fromEntries(numbers(150, (i) => [`property_${i}`, { type: ['string', 'null'] }]));
  grammarText({ jsonSchema: JSON.stringify({ type: 'object', properties }) }, 'field');
  grammarText({ jsonSchema: JSON.stringify({ enum: numbers(1000, (i) => `value ${i}`) }) }, 'field');
  grammarText({ regex: '(.*){20}(.*a.*b){20}' }, 'field');
  choiceGrammar(
    numbers(1024, (i) => `choice number ${i}`),
    'field',
  );
});

test('texts of choices are bounded together', () => {
  const { code, field, message } = refusalOf(() =>
    choiceGrammar(
      numbers(1024, (i) => `${i}`.padEnd(4096, 'x')),
      'guided_choice',
    ),
  );
  assert.deepEqual([code, field], ['unsupported', 'guided_choice'], message);
});

test('values of a schema that are nested without end, and references that are no references, are refused', () => {
  const deep = refusal({ jsonSchema: `{"const":${'['.repeat(10_000)}${']'.repeat(10_000)}}` });
  assert.deepEqual([deep.code, deep.message], ['invalid_value', 'field: is nested too deeply']);
  for (const $ref of ['#/%', '#/%ff/~5', '#/$defs/%zz']) {
    const { code, message } = refusal({ jsonSchema: JSON.stringify({ $ref, $defs: {} }) });
    assert.equal(code, 'invalid_value');
    assert.match(message, /"\$ref" ".*" is not there/);
  }
  grammarText({ jsonSchema: '{"$ref":"#/$defs/50%","$defs":{"50%":{"type":"null"}}}' }, 'field');
});
