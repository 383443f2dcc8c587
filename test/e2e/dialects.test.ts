import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { Cluster } from '../harness/cluster.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;
let client: OpenAI;

before(async () => {
  cluster = await Cluster.start({ workers: 1, weights: 'bf16' });
  client = cluster.client();
});
after(async () => cluster?.stop());

const QUESTION = 'What is the capital of France?';

test('the same question has the same answer in all dialects, streamed or not', async () => {
  const settings = { model: 'tiny', temperature: 0, seed: 1 };
  const messages = [{ role: 'user' as const, content: QUESTION }];
  const chat = await client.chat.completions.create({ ...settings, messages, max_tokens: 40 });
  const asked = { ...settings, input: QUESTION, max_output_tokens: 40 };
  const whole = await client.responses.create(asked);
  const streamed = await client.responses.stream(asked).finalResponse();
  assert.equal(whole.output_text, chat.choices[0]?.message.content);
  assert.equal(whole.usage?.total_tokens, chat.usage?.total_tokens);
  assert.deepEqual(
    streamed.output.map((item) => ({ ...item, id: '' }).type),
    whole.output.map((item) => item.type),
  );
  assert.equal(streamed.output_text, whole.output_text);

  const anthropic = new Anthropic({ apiKey: 'none', baseURL: cluster.url, maxRetries: 0 });
  const ask = { model: 'tiny', messages, max_tokens: 40, thinking: { type: 'adaptive' as const }, temperature: 0 };
  const message = await anthropic.messages.create(ask);
  const told = await anthropic.messages.stream(ask).finalMessage();
  const text = message.content.flatMap((block) => (block.type === 'text' ? [block.text] : [])).join('');
  assert.equal(text, chat.choices[0]?.message.content);
  assert.deepEqual(told.content, message.content);
  const { input_tokens: input, cache_read_input_tokens: cached } = message.usage;
  assert.equal(input + (cached ?? 0), chat.usage?.prompt_tokens);
});

test('a background response outlives the gateway that died under it, and is what it would have been', async () => {
  const asked = { model: 'tiny', input: QUESTION, max_output_tokens: 700, temperature: 0.7, seed: 7 };
  const { id } = await client.responses.create({ ...asked, background: true });
  await until('some of it to be there', async () => (await client.responses.retrieve(id)).output.length > 0);
  const before = await client.responses.retrieve(id);
  cluster.gateway.kill();
  const next = cluster.spawn('gateway', ['--id=gateway-2', `--model=${cluster.options.model}`]);
  const { address } = await next.listening();
  const other = new OpenAI({ apiKey: 'none', baseURL: `http://${address}/v1`, maxRetries: 5 });
  await until('the response to be over', async () => {
    const { status } = await other.responses.retrieve(id);
    return status === 'completed' || status === 'incomplete';
  });
  const done = await other.responses.retrieve(id);
  assert.ok(before.status === 'in_progress' || before.status === done.status);
  const undisturbed = await other.responses.create(asked);
  assert.equal(done.output_text, undisturbed.output_text);
  assert.deepEqual(done.usage?.output_tokens, undisturbed.usage?.output_tokens);
  const events: OpenAI.Responses.ResponseStreamEvent[] = [];
  for await (const event of await other.responses.retrieve(id, { stream: true })) events.push(event);
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    [...events.keys()],
  );
});
