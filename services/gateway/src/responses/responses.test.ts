import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fail } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import OpenAI from 'openai';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { response as responseSchema } from '../schema/responses.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from '../testing/gateway-under-test.ts';

const ANSWER = 'I think.\n</think>\n\nHello there, friend!';
const KEYS = ['key-one', 'key-two'];
let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;

before(async () => {
  gateway = await GatewayUnderTest.start({ apiKey: KEYS }, { script: () => script });
  client = gateway.client('key-one');
});
after(() => gateway.stop());

const eosId = (): number => tinyAssets().generation.eosIds[0] ?? 0;

async function answers(text: string): Promise<void> {
  script = { tokens: [...(await tokensOf(text)), eosId()], finished: { stopTokenId: eosId() } };
}

/** What the router was asked last, as text. */
function lastPrompt(): string {
  return tinyAssets().tokenizer.decode(gateway.router.calls.at(-1)?.request.promptIds ?? [], { skipSpecial: false });
}

type Extra = Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming>;

const create = (extra: Extra = {}) => client.responses.create({ model: 'tiny', input: 'Hi', ...extra });

test('a response has reasoning and message items, usage and the shape that the schema says', async () => {
  await answers(ANSWER);
  const made = await create({ instructions: 'Be kind.', metadata: { a: 'b' } });
  const { output_text: text, ...plain } = made;
  assert.equal(responseSchema.safeParse(plain).error, undefined);
  assert.equal(text, 'Hello there, friend!');
  assert.deepEqual(
    made.output.map((item) => item.type),
    ['reasoning', 'message'],
  );
  assert.equal(made.status, 'completed');
  assert.equal(made.usage?.output_tokens, script.tokens.length);
  assert.equal(made.usage?.input_tokens, gateway.router.calls.at(-1)?.request.promptIds.length);
  assert.match(lastPrompt(), /system\nBe kind\.<\|im_end\|>\n<\|im_start\|>user\nHi<\|im_end\|>/);
  const again = await client.responses.retrieve(made.id);
  assert.deepEqual(again, made);
});

test('a stream has the events of OpenAI in order, and its deltas add up to the response', async () => {
  await answers(ANSWER);
  const types: string[] = [];
  const stream = client.responses.stream({ model: 'tiny', input: 'Hi' });
  const numbers: number[] = [];
  for await (const event of stream) {
    numbers.push(event.sequence_number ?? -1);
    if (types.at(-1) !== event.type) types.push(event.type);
  }
  assert.deepEqual(types, [
    'response.created',
    'response.in_progress',
    'response.output_item.added',
    'response.content_part.added',
    'response.reasoning_text.delta',
    'response.reasoning_text.done',
    'response.content_part.done',
    'response.output_item.done',
    'response.output_item.added',
    'response.content_part.added',
    'response.output_text.delta',
    'response.output_text.done',
    'response.content_part.done',
    'response.output_item.done',
    'response.completed',
  ]);
  assert.deepEqual(numbers, [...numbers.keys()]);
  const final = await stream.finalResponse();
  assert.equal(final.output_text, 'Hello there, friend!');
  assert.equal((await client.responses.retrieve(final.id)).output_text, 'Hello there, friend!');
});

test('a conversation goes on from a stored response, without its instructions', async () => {
  await answers(ANSWER);
  const first = await create({ instructions: 'Be kind.', input: 'One' });
  const second = await create({ previous_response_id: first.id, input: 'Two' });
  const third = await create({ previous_response_id: second.id, input: [{ role: 'user', content: 'Three' }] });
  const prompt = lastPrompt();
  assert.doesNotMatch(prompt, /Be kind/);
  assert.match(prompt, /user\nOne[^]*assistant\nHello there, friend![^]*user\nTwo[^]*user\nThree/);
  assert.equal(third.previous_response_id, second.id);
});

test('another key neither reads, cancels, removes nor goes on from a response', async () => {
  await answers(ANSWER);
  const made = await create();
  const other = gateway.client('key-two');
  await assert.rejects(other.responses.retrieve(made.id), OpenAI.NotFoundError);
  await assert.rejects(other.responses.cancel(made.id), OpenAI.NotFoundError);
  await assert.rejects(other.responses.delete(made.id), OpenAI.NotFoundError);
  await assert.rejects(other.responses.inputItems.list(made.id), OpenAI.NotFoundError);
  await assert.rejects(
    other.responses.create({ model: 'tiny', input: 'x', previous_response_id: made.id }),
    (err: unknown) => err instanceof OpenAI.BadRequestError && err.code === 'previous_response_not_found',
  );
  assert.equal((await client.responses.retrieve(made.id)).id, made.id);
  await client.responses.delete(made.id);
  await assert.rejects(client.responses.retrieve(made.id), OpenAI.NotFoundError);
});

test('a background response is queued, told as it comes, and over in the end', async () => {
  await answers(ANSWER);
  gateway.router.holdBeforeToken(3);
  const made = await create({ background: true });
  assert.equal(made.status, 'queued');
  const during = await eventually(async () => {
    const now = await client.responses.retrieve(made.id);
    return now.status === 'in_progress' && now.output.length > 0 && now;
  }, 'the first tokens');
  assert.equal(during.output[0]?.type, 'reasoning');
  gateway.router.release();
  const done = await eventually(async () => {
    const now = await client.responses.retrieve(made.id);
    return now.status === 'completed' && now;
  }, 'the end');
  assert.equal(done.output_text, 'Hello there, friend!');
  const whole = await client.responses.retrieve(made.id, { stream: true });
  const events = [];
  for await (const event of whole) events.push(event);
  assert.equal(events.at(-1)?.type, 'response.completed');
  const rest = [];
  for await (const event of await client.responses.retrieve(made.id, { stream: true, starting_after: 4 }))
    rest.push(event);
  assert.deepEqual(rest, events.slice(5));
  // Nothing came after the last one: a stream without events, and a whole answer.
  const path = `/v1/responses/${made.id}?stream=true&starting_after=${events.length + 5}`;
  const beyond = await gateway.fetch(path, undefined, { headers: { authorization: 'Bearer key-one' } });
  assert.deepEqual([beyond.status, await beyond.text()], [200, '']);
  assert.match(beyond.headers.get('content-type') ?? '', /^text\/event-stream/);
  assert.match(beyond.headers.get('x-request-id') ?? '', /./);
});

const CALL =
  'Look it up.\n</think>\n\nLet me see.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n' +
  '<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=weather>\n<parameter=city>\n' +
  'Rome\n</parameter>\n</function>\n</tool_call>';
const weather = {
  type: 'function' as const,
  name: 'weather',
  strict: false,
  parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
};

test('calls are items, streamed with their arguments, and answered in the next response', async () => {
  await answers(CALL);
  const stream = client.responses.stream({ model: 'tiny', input: 'Weather?', tools: [weather] });
  const deltas: string[] = [];
  for await (const event of stream)
    if (event.type === 'response.function_call_arguments.delta') deltas.push(event.delta);
  const final = await stream.finalResponse();
  assert.deepEqual(
    final.output.map((item) => item.type),
    ['reasoning', 'message', 'function_call', 'function_call'],
  );
  const calls = final.output.filter((item) => item.type === 'function_call');
  assert.deepEqual(
    calls.map((call) => [call.name, JSON.parse(call.arguments)]),
    [
      ['weather', { city: 'Oslo', days: 3 }],
      ['weather', { city: 'Rome' }],
    ],
  );
  assert.equal(deltas.join(''), calls.map((call) => call.arguments).join(''));
  assert.ok(deltas.length > calls.length, 'arguments come in pieces');
  assert.equal(final.output_text, 'Let me see.');
  await answers('Cold there.\n</think>\n\nSnow.');
  const results = calls.map(({ call_id }) => ({ type: 'function_call_output' as const, call_id, output: 'cold' }));
  const next = await create({ previous_response_id: final.id, input: results, tools: [weather] });
  assert.equal(next.output_text, 'Snow.');
  assert.match(
    lastPrompt(),
    /Look it up\.\n<\/think>\n\nLet me see\.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo/,
  );
  assert.match(lastPrompt(), /<tool_response>\ncold\n<\/tool_response>\n<tool_response>\ncold/);
  await assert.rejects(create({ previous_response_id: final.id, input: 'Never mind' }), /no function_call_output/);
});

test('log-probabilities belong to the text, not to the thinking before it', async () => {
  await answers(ANSWER);
  const made = await create({ include: ['message.output_text.logprobs'], top_logprobs: 2 });
  const message = made.output.find((item) => item.type === 'message');
  const part = message?.content[0];
  assert.ok(part?.type === 'output_text');
  assert.equal(part.logprobs?.map(({ token }) => token).join(''), 'Hello there, friend!');
  assert.ok(part.logprobs?.every((token) => token.top_logprobs?.length === 2));
});

test('what breaks before the first event has a status, after it an event', async () => {
  await answers(ANSWER);
  gateway.router.failNext(fail('invalid_value', 'no'));
  await assert.rejects(client.responses.create({ model: 'tiny', input: 'Hi', stream: true }), OpenAI.BadRequestError);
  await answers(ANSWER);
  script = { ...script, failure: fail('out_of_pages', 'no page is left') };
  const events = [];
  for await (const event of await client.responses.create({ model: 'tiny', input: 'Hi', stream: true }))
    events.push(event);
  const last = events.at(-1);
  assert.ok(last?.type === 'response.failed', last?.type);
  assert.equal(last.response.status, 'failed');
  assert.equal(last.response.error?.code, 'server_error');
  assert.equal((await client.responses.retrieve(last.response.id)).status, 'failed');
});
