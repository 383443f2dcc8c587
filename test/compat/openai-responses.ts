import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { until } from '../harness/wait.ts';
import type { Conformance } from './conformance.ts';
import { CITY, isCity, MODEL, QUESTION, type World } from './world.ts';

type Check = (checked: string, body: (world: World) => Promise<void>) => void;

const BODY = { model: MODEL, input: QUESTION, max_output_tokens: 60, temperature: 0, seed: 5 };

/** OpenAI's Responses API through its own client; `dialects.test.ts` of the suite e2e has background responses across gateways. */
export function openaiResponses(suite: Conformance): void {
  const check: Check = (checked, body) => suite.check('openai (npm)', 'responses', checked, body);
  making(check);
  parameters(check);
  keeping(check);
  functions(check);
}

function making(check: Check): void {
  check('a stream accumulated by the client equals the whole response', async ({ openai }) => {
    const whole = await openai.responses.create(BODY);
    const kinds = new Set<string>();
    const stream = openai.responses.stream(BODY);
    for await (const { type } of stream) kinds.add(type);
    const streamed = await stream.finalResponse();
    assert.equal(streamed.output_text, whole.output_text);
    assert.deepEqual(streamed.usage, whole.usage);
    for (const kind of ['created', 'in_progress', 'output_item.added', 'reasoning_text.delta', 'output_item.done'])
      assert.ok(kinds.has(`response.${kind}`), kind);
  });
  check('`parse` with a zod schema as `text.format`', async ({ openai }) => {
    const Place = z.object({ city: z.enum(['Paris', 'Rome']), sure: z.boolean() });
    const text = { format: zodTextFormat(Place, 'place') };
    const asked = { ...BODY, max_output_tokens: 300, reasoning: { effort: 'none' as const }, text };
    const { output_parsed: parsed } = await openai.responses.parse(asked);
    assert.ok(isCity(parsed), JSON.stringify(parsed));
  });
  check('`instructions`, `reasoning.summary`, `include` of log-probabilities, `top_logprobs`', async ({ openai }) => {
    const { output, instructions } = await openai.responses.create({
      ...BODY,
      max_output_tokens: 200,
      instructions: 'Be brief.',
      reasoning: { summary: 'auto' },
      include: ['message.output_text.logprobs'],
      top_logprobs: 2,
    });
    assert.equal(instructions, 'Be brief.');
    const summary = output.find((item) => item.type === 'reasoning')?.summary;
    assert.ok((summary?.[0]?.text ?? '').length > 0);
    const part = output.find((item) => item.type === 'message')?.content[0];
    assert.ok(part?.type === 'output_text' && (part.logprobs ?? []).length > 0);
    assert.ok(part.logprobs?.every((token) => token.top_logprobs.length === 2));
  });
  check('`inputTokens.count` is what the response then reads', async ({ openai }) => {
    const counted = await openai.responses.inputTokens.count({ model: MODEL, input: QUESTION });
    const { usage } = await openai.responses.create(BODY);
    assert.equal(counted.input_tokens, usage?.input_tokens);
  });
}

function parameters(check: Check): void {
  check('every parameter of the client’s types is accepted, ignored or refused by name', async ({ oracle }) => {
    oracle.knowsFields('responseRequest', 'ResponseRequestInput');
  });
  check('`usage` has the cached tokens of a prefix that was there, and those of the thinking', async ({ openai }) => {
    const input = Array.from({ length: 300 }, (_, i) => `response ${i}`).join(' ');
    const asked = { ...BODY, input, max_output_tokens: 2 };
    const cold = await openai.responses.create(asked);
    const warm = await openai.responses.create(asked);
    assert.equal(cold.usage?.input_tokens_details.cached_tokens, 0);
    assert.ok((warm.usage?.input_tokens_details.cached_tokens ?? 0) > 0);
    assert.equal(warm.usage?.input_tokens, cold.usage?.input_tokens);
    assert.deepEqual([warm.usage?.output_tokens, warm.usage?.output_tokens_details.reasoning_tokens], [2, 2]);
    const none = await openai.responses.create({ ...asked, reasoning: { effort: 'none' } });
    assert.equal(none.usage?.output_tokens_details.reasoning_tokens, 0);
  });
  check('`truncation`, `max_tool_calls`, `text.verbosity`, `stream_options`, `service_tier`', async ({ openai }) => {
    const asked = { ...BODY, max_output_tokens: 2, truncation: 'auto' as const, max_tool_calls: 3 };
    const made = await openai.responses.create({ ...asked, text: { verbosity: 'low' }, service_tier: 'flex' });
    assert.deepEqual([made.truncation, made.max_tool_calls, made.service_tier], ['auto', 3, 'flex']);
    const stream_options = { include_obfuscation: false };
    for await (const event of await openai.responses.create({ ...asked, stream: true, stream_options }))
      assert.ok(!('obfuscation' in event));
    for (const refused of [{ conversation: 'conv_1' }, { prompt: { id: 'pmpt_1' } }])
      await assert.rejects(openai.responses.create({ ...BODY, ...refused }), (error: unknown) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.equal(error.param, Object.keys(refused)[0]);
        return true;
      });
  });
}

function keeping(check: Check): void {
  check('retrieve, input items, `previous_response_id`, delete', async ({ openai }) => {
    const first = await openai.responses.create({ ...BODY, metadata: { a: 'b' } });
    const read = await openai.responses.retrieve(first.id);
    assert.deepEqual([read.output, read.metadata], [first.output, { a: 'b' }]);
    const items: unknown[] = [];
    for await (const item of openai.responses.inputItems.list(first.id)) items.push(item);
    assert.equal(items.length, 1);
    const second = await openai.responses.create({ ...BODY, input: 'And of Italy?', previous_response_id: first.id });
    assert.ok((second.usage?.input_tokens ?? 0) > (first.usage?.input_tokens ?? 0));
    await openai.responses.delete(first.id);
    await assert.rejects(openai.responses.retrieve(first.id), OpenAI.NotFoundError);
  });
  check('`background`: followed by its events, and cancelled', async ({ openai }) => {
    const asked = { ...BODY, background: true, max_output_tokens: 20 };
    const { id } = await openai.responses.create(asked);
    await until('the response to be over', async () => {
      const { status } = await openai.responses.retrieve(id);
      return status !== 'queued' && status !== 'in_progress';
    });
    const numbers: number[] = [];
    for await (const event of await openai.responses.retrieve(id, { stream: true, starting_after: 2 }))
      numbers.push(event.sequence_number);
    assert.equal(numbers[0], 3);
    const long = await openai.responses.create({ ...asked, temperature: 1.5, max_output_tokens: 2000 });
    const cancelled = await openai.responses.cancel(long.id);
    assert.ok(cancelled.status === 'cancelled' || cancelled.status === 'completed', cancelled.status);
  });
  check('what is stored nowhere and what is unknown has the client’s error classes', async ({ openai }) => {
    const { id } = await openai.responses.create({ ...BODY, store: false, max_output_tokens: 2 });
    await assert.rejects(openai.responses.retrieve(id), OpenAI.NotFoundError);
    const tools = [{ type: 'web_search' as const }];
    await assert.rejects(openai.responses.create({ ...BODY, tools }), OpenAI.BadRequestError);
  });
}

function functions(check: Check): void {
  const tools: OpenAI.Responses.FunctionTool[] = [
    { type: 'function', name: 'place', description: 'A city.', strict: true, parameters: CITY },
  ];
  check('function calls: streamed arguments equal the whole, and their output is answered', async ({ openai }) => {
    const asked = { ...BODY, max_output_tokens: 300, tools, tool_choice: 'required' as const };
    const whole = await openai.responses.create({ ...asked, parallel_tool_calls: false });
    const call = whole.output.find((item) => item.type === 'function_call');
    assert.ok(call !== undefined && isCity(JSON.parse(call.arguments)));
    const streamed = await openai.responses.stream({ ...asked, parallel_tool_calls: false }).finalResponse();
    assert.equal(streamed.output.find((item) => item.type === 'function_call')?.arguments, call.arguments);
    const { status } = await openai.responses.create({
      ...BODY,
      tools,
      previous_response_id: whole.id,
      input: [{ type: 'function_call_output', call_id: call.call_id, output: 'noted' }],
    });
    assert.ok(status === 'completed' || status === 'incomplete');
  });
}
