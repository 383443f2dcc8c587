import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ToolInput } from './tool-table.ts';
import type { ToolChoice } from './tool-choice.ts';
import { toolConstraint } from './tool-constraint.ts';

const tool = (name: string, parameters?: Record<string, unknown>, strict = false): ToolInput => ({
  function: { name, strict, ...(parameters === undefined ? {} : { parameters }) },
});
const WEATHER = {
  type: 'object',
  properties: { city: { type: 'string' }, days: { type: 'integer', maximum: 7 } },
  required: ['city'],
};

interface Format {
  type: string;
  [field: string]: unknown;
}

function tagOf(constraint: ReturnType<typeof toolConstraint>): string {
  return constraint?.kind?.$case === 'structuralTag' ? constraint.kind.value : '';
}

function formatOf(tools: ToolInput[], choice?: ToolChoice, parallel?: boolean): Format | undefined {
  const constraint = toolConstraint(tools, choice, parallel);
  if (constraint === undefined) return undefined;
  return (JSON.parse(tagOf(constraint)) as { format: Format }).format;
}

function tagsOf(format: Format | undefined): Format[] {
  return (format?.['tags'] ?? []) as Format[];
}

/** What may stand in a parameter, by name. */
function values(tools: ToolInput[]): Record<string, unknown> {
  const content = tagsOf(formatOf(tools, 'required'))[0]?.['content'] as { elements?: Format[] } | undefined;
  const elements = content?.elements ?? [];
  return Object.fromEntries(
    elements.map((element) => {
      const tag = (element.type === 'or' ? (element['elements'] as Format[])[1] : element) as Format;
      return [`${String(tag['begin']).trim()}${element.type === 'or' ? '?' : ''}`, tag['content']];
    }),
  );
}

test('a model that may do as it likes is not held to anything', () => {
  const plain = [tool('weather', WEATHER), tool('clock')];
  for (const choice of [undefined, 'auto', 'none'] as const)
    assert.equal(toolConstraint(plain, choice, true), undefined);
  assert.equal(toolConstraint([], 'required', true), undefined);
  assert.equal(toolConstraint(null, 'auto', true), undefined);
  assert.equal(toolConstraint([tool('weather', WEATHER, true)], 'none', true), undefined);
  assert.equal(toolConstraint(plain, 'required', true, 'none'), undefined);
});

test('a forced answer is calls and nothing else; a named one is one call of that function', () => {
  const tools = [tool('weather', WEATHER), tool('clock')];
  const required = formatOf(tools, 'required');
  assert.deepEqual(
    [required?.type, required?.['at_least_one'], required?.['stop_after_first']],
    ['tags_with_separator', true, false],
  );
  assert.deepEqual(
    tagsOf(required).map((tag) => tag['begin']),
    ['<tool_call>\n<function=weather>\n', '<tool_call>\n<function=clock>\n'],
  );
  assert.equal(formatOf(tools, 'required', false)?.['stop_after_first'], true);
  const named = formatOf(tools, { type: 'function', function: { name: 'clock' } });
  assert.deepEqual([tagsOf(named).length, named?.['stop_after_first']], [1, true]);
});

test('strict and allowed tools let the model write text too', () => {
  const strict = formatOf([tool('weather', WEATHER, true), tool('clock')]);
  assert.deepEqual(
    [strict?.type, strict?.['at_least_one'], strict?.['triggers']],
    ['triggered_tags', false, ['<tool_call>']],
  );
  const allowed = formatOf([tool('weather', WEATHER), tool('clock')], {
    type: 'allowed_tools',
    allowed_tools: { mode: 'auto', tools: [{ function: { name: 'clock' } }] },
  });
  assert.deepEqual(
    tagsOf(allowed).map((tag) => tag['begin']),
    ['<tool_call>\n<function=clock>\n'],
  );
});

test('a strict value matches its schema, any other its types', () => {
  const parameters = {
    properties: {
      ...WEATHER.properties,
      mode: { enum: ['fast', 'slow'] },
      level: { enum: [1, null, 'x'] },
      only: { const: 'yes' },
      note: { anyOf: [{ type: 'string' }, { type: 'null' }] },
      options: { $ref: '#/$defs/options' },
      code: { type: 'string', pattern: '^[A-Z]{3}$' },
      part: { type: 'string', pattern: 'a|b' },
      short: { type: 'string', minLength: 1, maxLength: 500 },
      day: { anyOf: [{ type: 'string', format: 'date' }, { type: 'null' }] },
    },
    required: ['city'],
    $defs: { options: { type: 'object', properties: { x: { type: 'boolean' } } } },
  };
  const text = { type: 'any_text' };
  const constant = (...list: string[]): object[] => list.map((value) => ({ type: 'const_string', value }));
  const { $defs } = parameters;
  const common = {
    '<parameter=city>': text,
    '<parameter=mode>?': { type: 'or', elements: constant('fast', 'slow') },
    '<parameter=level>?': { type: 'or', elements: constant('1', 'null', 'x') },
    '<parameter=only>?': constant('yes')[0],
    '<parameter=note>?': text,
  };
  assert.deepEqual(values([tool('f', parameters, true)]), {
    ...common,
    '<parameter=days>?': { type: 'json_schema', json_schema: { ...WEATHER.properties.days, $defs } },
    '<parameter=options>?': { type: 'json_schema', json_schema: { ...$defs.options, $defs } },
    '<parameter=code>?': { type: 'line', schema: { pattern: '^[A-Z]{3}$' } },
    '<parameter=part>?': { type: 'line', schema: { pattern: 'a|b' } },
    '<parameter=short>?': { type: 'line', schema: { minLength: 1, maxLength: 500 } },
    '<parameter=day>?': {
      type: 'or',
      elements: [
        { type: 'line', schema: { format: 'date' } },
        {
          type: 'sequence',
          elements: [{ type: 'json_schema', json_schema: { type: 'null', $defs } }, constant('\n')[0]],
        },
      ],
    },
  });
  assert.deepEqual(values([tool('f', parameters)]), {
    ...common,
    '<parameter=days>?': { type: 'json_schema', json_schema: { type: ['number'] } },
    '<parameter=options>?': { type: 'json_schema', json_schema: { type: ['object'] } },
    '<parameter=code>?': text,
    '<parameter=part>?': text,
    '<parameter=short>?': text,
    '<parameter=day>?': text,
  });
});

test('without declared parameters a strict tool has none, any other may have any', () => {
  const content = (strict: boolean): unknown =>
    (tagsOf(formatOf([tool('f', {}, strict)], 'required'))[0]?.['content'] as Format | undefined)?.['grammar'];
  assert.equal(content(true), 'root ::= ""');
  assert.match(String(content(false)), /^root ::= parameter\*/);
});

test("Hermes' form has the schema itself", () => {
  const constraint = toolConstraint([tool('f', WEATHER, true)], 'required', true, 'hermes');
  const { format } = JSON.parse(tagOf(constraint)) as { format: { tags: object[] } };
  assert.deepEqual(format.tags[0], {
    type: 'tag',
    begin: '<tool_call>\n{"name": "f", "arguments": ',
    content: { type: 'json_schema', json_schema: WEATHER },
    end: '}\n</tool_call>',
  });
});

test('keywords of strings that a text beside other types cannot be held to are refused by name', () => {
  const strict = (value: unknown): (() => unknown) => {
    return () => toolConstraint([tool('f', { properties: { a: value } }, true)], 'auto', true);
  };
  const refused = { code: 'unsupported', field: 'tools', message: /"maxLength"/ };
  assert.throws(strict({ type: ['string', 'null'], maxLength: 3 }), refused);
  assert.throws(strict({ allOf: [{ type: 'string' }, { maxLength: 3 }] }), refused);
  strict({ allOf: [{ properties: { maxLength: { type: 'integer' } } }, { type: ['string', 'object'] }] })();
});
