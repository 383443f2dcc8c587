import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertFails } from '../testing/errors.ts';
import { temporaryDirectory } from '../testing/random-checkpoint.ts';
import { ChatTemplate, type ChatMessage, type RenderInput } from './chat-template.ts';

const TINY = join(import.meta.dirname, '../../../../models/tiny');
const template = ChatTemplate.load(TINY);
const user = (content: unknown): ChatMessage => ({ role: 'user', content });

function render(messages: ChatMessage[], rest: Partial<RenderInput> = {}): string {
  return template.render({ addGenerationPrompt: true, ...rest, messages });
}

test('a turn is trimmed, has no default system prompt, and the answer starts in the thinking block', () => {
  assert.equal(render([user(' Hi \n')]), '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n');
  assert.equal(render([user('Hi')], { addGenerationPrompt: false }), '<|im_start|>user\nHi<|im_end|>\n');
});

test('thinking is switched off by an empty block', () => {
  const off = render([user('Hi')], { enable_thinking: false });
  assert.ok(off.endsWith('<|im_start|>assistant\n<think>\n\n</think>\n\n'));
  assert.ok(render([user('Hi')], { enable_thinking: true }).endsWith('assistant\n<think>\n'));
});

test('the system turn comes first and may be made of text parts', () => {
  const parts = [
    { type: 'text', text: 'Be ' },
    { type: 'text', text: 'brief.' },
  ];
  assert.ok(
    render([{ role: 'system', content: parts }, user('Hi')]).startsWith('<|im_start|>system\nBe brief.<|im_end|>\n'),
  );
});

const TOOL = {
  type: 'function',
  function: {
    name: 'add',
    description: 'Adds – exactly',
    parameters: { type: 'object', properties: { a: { type: 'number' } } },
  },
};

test('tools make one system turn with a schema on each line, before the system text', () => {
  const text = render([{ role: 'system', content: 'Be brief.' }, user('1+1?')], { tools: [TOOL, TOOL] });
  const line =
    '{"type": "function", "function": {"name": "add", "description": "Adds – exactly", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}}';
  assert.ok(text.startsWith('<|im_start|>system\n# Tools\n'), text);
  assert.ok(text.includes(`<tools>\n${line}\n${line}\n</tools>`), text);
  assert.ok(text.indexOf('\n\nBe brief.<|im_end|>') > text.indexOf('</tools>'), text);
  assert.equal(text.split('<|im_start|>system').length, 2);
  assert.equal(render([user('x')], { tools: [] }), render([user('x')]));
});

test('tool calls are spelled in tags, with text raw, structures as JSON and scalars as Python writes them', () => {
  const args = { city: 'Rome "x"', list: [1, 'a'], map: { k: null }, on: true, off: false, none: null, n: 3, f: 1.5 };
  const call = (args: unknown): unknown => ({ id: 'c', type: 'function', function: { name: 'f', arguments: args } });
  const turn = (args: unknown): ChatMessage[] => [
    user('go'),
    { role: 'assistant', content: 'Now.', tool_calls: [call(args), call({})] },
  ];
  const text = render(turn(JSON.stringify(args)));
  const parameters = [
    ['city', 'Rome "x"'],
    ['list', '[1, "a"]'],
    ['map', '{"k": null}'],
    ['on', 'True'],
    ['off', 'False'],
    ['none', 'None'],
    ['n', '3'],
    ['f', '1.5'],
  ].map(([name, value]) => `<parameter=${name}>\n${value}\n</parameter>\n`);
  const first = `<tool_call>\n<function=f>\n${parameters.join('')}</function>\n</tool_call>`;
  assert.ok(text.includes(`Now.\n\n${first}\n<tool_call>\n<function=f>\n</function>\n</tool_call><|im_end|>`), text);
  assert.equal(render(turn(args)), text);
});

test('results of tools in a row share one user turn', () => {
  const text = render([
    user('go'),
    { role: 'assistant', content: null, tool_calls: [{ function: { name: 'f', arguments: '' } }] },
    { role: 'tool', content: ' 1 ' },
    { role: 'tool', content: '2' },
  ]);
  const results =
    '<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n';
  assert.ok(text.includes(results), text);
  // A tool result is no new query: the call's thinking block stays.
  assert.ok(text.includes('assistant\n<think>\n\n</think>\n\n<tool_call>'), text);
});

test('reasoning is kept after the last query only, also when it is part of the content', () => {
  const text = render([
    user('a'),
    { role: 'assistant', content: '<think>\nold\n</think>\n\nA' },
    user('b'),
    { role: 'assistant', content: 'B', reasoning_content: 'new' },
  ]);
  assert.ok(text.includes('<|im_start|>assistant\nA<|im_end|>'), text);
  assert.ok(!text.includes('old'), text);
  assert.ok(text.includes('<|im_start|>assistant\n<think>\nnew\n</think>\n\nB<|im_end|>'), text);
});

test('media become their placeholders, numbered on request', () => {
  const parts = [{ type: 'image_url', image_url: { url: 'x' } }, { type: 'text', text: 'what?' }, { type: 'video' }];
  const text = render([user(parts)], { add_vision_id: true });
  const pad = (kind: string): string => `<|vision_start|><|${kind}_pad|><|vision_end|>`;
  assert.ok(text.includes(`user\nPicture 1: ${pad('image')}what?Video 1: ${pad('video')}<|im_end|>`), text);
});

const call = (args: string): ChatMessage => ({
  role: 'assistant',
  content: '',
  tool_calls: [{ function: { name: 'f', arguments: args } }],
});
const deep = (depth: number): unknown => (depth === 0 ? 1 : [deep(depth - 1)]);

const REFUSED: [title: string, messages: ChatMessage[], ...parts: string[]][] = [
  ['no messages', [], 'No messages'],
  ['no user turn', [{ role: 'assistant', content: 'x' }], 'No user query'],
  ['late system turn', [user('x'), { role: 'system', content: 'x' }], 'at the beginning'],
  ['media in the system turn', [{ role: 'system', content: [{ type: 'image' }] }, user('x')], 'images'],
  ['unknown role', [user('x'), { role: 'king', content: 'x' }], 'role'],
  ['content of a wrong kind', [user(7)], 'content type'],
  ['arguments that are no JSON', [user('x'), call('{')], 'messages[1].tool_calls[0].function.arguments', 'JSON'],
  ['arguments that are no object', [user('x'), call('[1]')], 'expected a JSON object'],
];

for (const [title, messages, ...parts] of REFUSED) {
  test(`refused: ${title}`, () => assertFails(() => render(messages), 'invalid_value', ...parts));
}

test('the string filter spells constants as Python does and leaves the rest alone', () => {
  const spell = ChatTemplate.parse('t', '{% for v in values %}{{ v | string }};{% endfor %}{{ values | tojson }}');
  const text = spell.render({ messages: [], addGenerationPrompt: false, values: [true, false, null, 1, 1.5, 'x'] });
  assert.equal(text, 'True;False;None;1;1.5;x;[true, false, null, 1, 1.5, "x"]');
});

test('values nested beyond the stack and variables that hide a global are errors, not crashes', () => {
  assertFails(() => render([user('x')], { tools: [deep(5000)] }), 'invalid_value', 'messages');
  assertFails(() => render([user('x')], { raise_exception: 1 }), 'invalid_value', 'raise_exception');
});

test('the template is found in its file or in tokenizer_config.json', () => {
  using dir = temporaryDirectory();
  const messages = [user('m')];
  const configure = (value: unknown): void =>
    writeFileSync(
      join(dir.path, 'tokenizer_config.json'),
      JSON.stringify({ chat_template: value, eos_token: { content: '<e>' } }),
    );
  const text = (): string => ChatTemplate.load(dir.path).render({ messages, addGenerationPrompt: true });
  assertFails(text, 'checkpoint_not_found', dir.path);
  configure('{{ messages[0].content }}{{ eos_token }}');
  assert.equal(text(), 'm<e>');
  configure([
    { name: 'tool_use', template: 'no' },
    { name: 'default', template: 'yes' },
  ]);
  assert.equal(text(), 'yes');
  configure(7);
  assertFails(text, 'checkpoint_invalid', 'tokenizer_config.json', 'chat_template');
  configure('{% if %}');
  assertFails(text, 'checkpoint_invalid', 'tokenizer_config.json');
  writeFileSync(
    join(dir.path, 'chat_template.jinja'),
    '{% for i in range(1, 3) %}{{ i }}{% endfor %}{{ none is none }}',
  );
  assert.equal(text(), '12true');
  assert.ok(readFileSync(join(TINY, 'chat_template.jinja'), 'utf8').length > 0);
});
