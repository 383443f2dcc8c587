import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ConstrainedRequest, constraintOf } from './constraint.ts';
import { chatRequest } from './schema/chat.ts';

const tools = [
  {
    type: 'function',
    function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
  },
];

/** Body that has passed the schema. */
function body(fields: Record<string, unknown>): ConstrainedRequest {
  return chatRequest.parse({ model: 'm', messages: [{ role: 'user', content: 'x' }], ...fields });
}

function kindOf(fields: Record<string, unknown>): unknown {
  return constraintOf(body(fields), 7, 'qwen3_xml')?.constraint.kind;
}

/** Format of the structural tag that a request makes. */
function formatOf(fields: Record<string, unknown>): { type: string; elements?: { type: string }[] } {
  const kind = kindOf(fields) as { $case: string; value: string };
  assert.equal(kind.$case, 'structuralTag');
  return (JSON.parse(kind.value) as { format: { type: string; elements?: { type: string }[] } }).format;
}

test('each field becomes the constraint of its kind, after the think block', () => {
  const schema = { type: 'null' };
  const cases: [Record<string, unknown>, unknown][] = [
    [{}, undefined],
    [{ response_format: { type: 'text' } }, undefined],
    [{ structured_outputs: {} }, undefined],
    [{ structured_outputs: { json_object: false } }, undefined],
    [{ response_format: { type: 'json_object' } }, { $case: 'jsonObject', value: true }],
    [{ response_format: { type: 'json_schema', json_schema: { name: 'a' } } }, { $case: 'jsonObject', value: true }],
    [
      { response_format: { type: 'json_schema', json_schema: { name: 'a', schema } } },
      { $case: 'jsonSchema', value: '{"type":"null"}' },
    ],
    [{ guided_json: schema }, { $case: 'jsonSchema', value: '{"type":"null"}' }],
    [{ guided_json: '{"type": "null"}' }, { $case: 'jsonSchema', value: '{"type": "null"}' }],
    [{ guided_regex: 'a+' }, { $case: 'regex', value: 'a+' }],
    [{ guided_grammar: 'root ::= "a"' }, { $case: 'grammar', value: 'root ::= "a"' }],
    [{ structured_outputs: { json_object: true } }, { $case: 'jsonObject', value: true }],
  ];
  for (const [fields, kind] of cases) assert.deepEqual(kindOf(fields), kind, JSON.stringify(fields));
  assert.equal(constraintOf(body({ guided_regex: 'a' }), 7)?.constraint.afterToken, 7);
  const choice = kindOf({ guided_choice: ['a"b', 'a'] }) as { $case: string; value: string };
  assert.equal(choice.$case, 'grammar');
});

test('fields that exclude each other are refused by the second one', () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ guided_regex: 'a', guided_json: {} }, 'guided_regex'],
    [{ response_format: { type: 'json_object' }, guided_choice: ['a'] }, 'guided_choice'],
    [{ structured_outputs: { regex: 'a', choice: ['a'] } }, 'structured_outputs.choice'],
    [{ guided_regex: 'a', min_tokens: 1 }, 'min_tokens'],
    [{ guided_regex: 'a', ignore_eos: true }, 'ignore_eos'],
    [{ tools, tool_choice: 'required', min_tokens: 1 }, 'min_tokens'],
    [
      { tools, structured_outputs: { structural_tag: { type: 'structural_tag', format: { type: 'any_text' } } } },
      'structured_outputs.structural_tag',
    ],
  ];
  for (const [fields, field] of cases) {
    assert.throws(() => kindOf(fields), { code: 'invalid_value', field }, JSON.stringify(fields));
  }
});

test('with tools, an answer is calls or what is asked for; forced calls leave no room', () => {
  assert.equal(kindOf({ tools }), undefined);
  assert.equal(formatOf({ tools, tool_choice: 'required' }).type, 'tags_with_separator');
  assert.equal(
    formatOf({ tools, tool_choice: 'required', response_format: { type: 'json_object' } }).type,
    'tags_with_separator',
  );
  for (const [asked, type] of [
    [{ response_format: { type: 'json_object' } }, 'json_schema'],
    [{ guided_regex: 'a' }, 'regex'],
    [{ guided_choice: ['a'] }, 'grammar'],
  ] as const) {
    const { type: either, elements } = formatOf({ tools, ...asked });
    assert.equal(either, 'or');
    assert.deepEqual(
      elements?.map((element) => element.type),
      [type, 'tags_with_separator'],
    );
  }
  const none = kindOf({ tools, tool_choice: 'none', guided_regex: 'a' });
  assert.deepEqual(none, { $case: 'regex', value: 'a' });
});
