import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { sealText } from '../sealed-text.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from '../testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;

before(async () => {
  gateway = await GatewayUnderTest.start(
    { responseMaxBytes: 2000, maxBackgroundResponses: 0 },
    { script: () => script, maxContext: 600 },
  );
  client = gateway.client();
  script = { tokens: await tokensOf('Fine.\n</think>\n\nYes.') };
});
after(() => gateway.stop());

type Body = OpenAI.Responses.ResponseCreateParamsNonStreaming;

const create = (extra: object) => client.responses.create({ model: 'tiny', input: 'Hi', ...extra } as Body);

function lastPrompt(): string {
  return tinyAssets().tokenizer.decode(gateway.router.calls.at(-1)?.request.promptIds ?? [], { skipSpecial: false });
}

const call = { type: 'function_call', call_id: 'c1', name: 'f', arguments: '{"a":1}' };
const output = { type: 'function_call_output', call_id: 'c1', output: 'done' };
const hello = { role: 'user', content: 'Hello' };

test('what is wrong with a request is said with the field that is wrong', async () => {
  const cases: [object, number, string | null, RegExp][] = [
    [{ input: undefined }, 400, 'input', /input is required/],
    [{ input: [] }, 400, 'input', /input/],
    [{ input: [{ type: 'nonsense' }] }, 400, 'input[0].type', /input\[0\]/],
    [
      { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }] },
      400,
      'input[0].content[0].type',
      /image input is not supported/,
    ],
    [{ input: [{ type: 'computer_call' }] }, 400, 'input[0].type', /"computer_call" is not supported/],
    [{ input: [hello, output] }, 400, 'input[1].call_id', /no function_call with this call_id/],
    [{ input: [hello, call] }, 400, 'input', /no function_call_output for the call c1/],
    [{ input: [hello, call, hello] }, 400, 'input[2]', /no function_call_output/],
    [{ input: [hello, call, output, output] }, 400, 'input[3].call_id', /answered before/],
    [{ input: [hello, call, call] }, 400, 'input[2].call_id', /same call_id/],
    [{ input: [{ type: 'item_reference', id: 'msg_1' }] }, 400, 'input[0].id', /no stored item/],
    [
      { input: [hello, { type: 'reasoning', summary: [], encrypted_content: 'junk' }] },
      400,
      'input[1].encrypted_content',
      /not given by this server/,
    ],
    [{ previous_response_id: 'resp_1' }, 400, 'previous_response_id', /resp_ and 32 hex digits/],
    [{ previous_response_id: `resp_${'0'.repeat(32)}` }, 400, 'previous_response_id', /there is no response/],
    [{ tools: [{ type: 'web_search' }] }, 400, 'tools[0].type', /no built-in tools/],
    [{ tool_choice: { type: 'function', name: 'f' } }, 400, 'tool_choice', /no tool "f"/],
    [{ background: true, store: false }, 400, 'background', /needs store/],
    [{ background: true }, 503, null, /too many background responses/],
    [{ conversation: 'conv_1' }, 400, 'conversation', /use previous_response_id/],
    [{ include: ['everything'] }, 400, 'include[0]', /include/],
    [{ metadata: { a: 1 } }, 400, 'metadata.a', /metadata/],
    [{ nonsense: 1 }, 400, 'nonsense', /unknown field/],
    [{ input: 'x'.repeat(3000) }, 413, 'input', /send store: false/],
    [{ input: 'word '.repeat(900), store: false }, 400, 'input', /maximum context length/],
    [{ max_output_tokens: 100_000 }, 400, null, /maximum context length/],
    [{ model: 'other' }, 404, 'model', /other/],
  ];
  for (const [extra, status, field, message] of cases) {
    const error = await create(extra).then(
      () => assert.fail(`taken: ${JSON.stringify(extra).slice(0, 200)}`),
      (err: unknown) => err,
    );
    assert.ok(error instanceof OpenAI.APIError, String(error));
    assert.equal(error.status, status, `${JSON.stringify(extra).slice(0, 200)}: ${error.message}`);
    assert.match(error.message, message);
    if (field !== null) assert.equal(error.param, field, error.message);
  }
});

test('ids that are none, and what is not kept, are not found', async () => {
  const unstored = await create({ store: false });
  for (const id of [unstored.id, 'nonsense', `resp_${'f'.repeat(32)}`, '..%2f..', 'x'.repeat(200)]) {
    await assert.rejects(client.responses.retrieve(id), (err: unknown) => {
      return err instanceof OpenAI.APIError && (err.status === 404 || err.status === 400);
    });
  }
  const kept = await create({});
  await assert.rejects(client.responses.cancel(kept.id), /only background responses/);
  await assert.rejects(client.responses.inputItems.list(kept.id, { after: 'msg_9' }), /no such item/);
  await assert.rejects(
    client.responses.retrieve(kept.id, { stream: true, starting_after: 1 }),
    /only streams of background responses/,
  );
});

test('tools, their results and thinking come back to the model where they belong', async () => {
  const thought = { type: 'reasoning', summary: [], encrypted_content: sealText('Deep thought.') };
  await create({ input: [hello, thought, call, output] });
  assert.match(
    lastPrompt(),
    /user\nHello[^]*<think>\nDeep thought\.\n<\/think>[^]*<function=f>[^]*<tool_response>\ndone/,
  );
  const made = await create({ include: ['reasoning.encrypted_content'], reasoning: { summary: 'auto' } });
  const [reasoning, message] = made.output;
  assert.ok(reasoning?.type === 'reasoning' && message?.type === 'message');
  assert.deepEqual(reasoning.summary, [{ type: 'summary_text', text: 'Fine.' }]);
  assert.equal(reasoning.encrypted_content, sealText('Fine.'));
  // As clients of a stored response do: by reference.
  await create({
    input: [hello, { type: 'item_reference', id: message.id }, { role: 'developer', content: 'Stop.' }, hello],
  });
  assert.match(lastPrompt(), /^<\|im_start\|>system\nStop\.[^]*user\nHello[^]*assistant\nYes\.[^]*user\nHello/);
});

test('input items have ids, in pages, newest first unless asked otherwise', async () => {
  const made = await create({ input: [hello, call, output] });
  const page = await client.responses.inputItems.list(made.id, { limit: 2, order: 'asc' });
  assert.deepEqual(
    page.data.map((item) => item.type),
    ['message', 'function_call'],
  );
  assert.equal(page.has_more, true);
  const all = [];
  for await (const item of client.responses.inputItems.list(made.id, { limit: 1 })) all.push(item.type);
  assert.deepEqual(all, ['function_call_output', 'function_call', 'message']);
});

test('truncation drops the oldest turns, and the count says what is read', async () => {
  const long = Array.from({ length: 24 }, (_, i) => ({ role: 'user', content: `${i} ${'word '.repeat(40)}` }));
  await assert.rejects(create({ input: long, store: false }), /maximum context length/);
  await create({ input: long, store: false, truncation: 'auto', max_output_tokens: 20 });
  const prompt = lastPrompt();
  assert.match(prompt, /user\n23 word/);
  assert.doesNotMatch(prompt, /user\n0 word/);
  assert.ok((gateway.router.calls.at(-1)?.request.promptIds.length ?? 0) <= 580);
  const { input_tokens: count } = await client.responses.inputTokens.count({ model: 'tiny', input: 'Hi' });
  await create({});
  assert.equal(count, gateway.router.calls.at(-1)?.request.promptIds.length);
});

test('a response that is cut short is incomplete', async () => {
  const cut = await create({ max_output_tokens: 2 });
  assert.equal(cut.status, 'incomplete');
  assert.deepEqual(cut.incomplete_details, { reason: 'max_output_tokens' });
  assert.equal(cut.output.at(-1)?.type, 'reasoning');
  assert.equal((cut.output.at(-1) as { status?: string }).status, 'incomplete');
});

test('without Redis responses are answered and not kept; what needs the store says so', async () => {
  const before = await create({});
  await gateway.redis.stop();
  const made = await create({});
  assert.equal(made.output_text, 'Yes.');
  assert.equal((made as { store?: boolean }).store, false);
  for (const failing of [
    () => client.responses.retrieve(before.id),
    () => create({ background: true }),
    () => create({ previous_response_id: before.id }),
  ])
    await assert.rejects(
      async () => await failing(),
      (err: unknown) => err instanceof OpenAI.APIError && err.code === 'redis_unavailable',
    );
});
