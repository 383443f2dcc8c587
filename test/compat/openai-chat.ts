import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import type { Conformance } from './conformance.ts';
import { CITY, isCity, MESSAGES, MODEL, type World } from './world.ts';

const CLIENT = 'openai (npm)';

const BODY = { model: MODEL, messages: MESSAGES, max_completion_tokens: 60, temperature: 0.7, seed: 5 };

/** Chat completions and text completions through the official client of OpenAI. */
export function openaiChat(suite: Conformance): void {
  const check = (feature: string, checked: string, body: (world: World) => Promise<void>): void =>
    suite.check(CLIENT, feature, checked, body);
  answers(check);
  parameters(check);
  reasoning(check);
  calls(check);
  functions(check);
  structured(check);
  texts(check);
  refusals(check);
}

type Check = (feature: string, checked: string, body: (world: World) => Promise<void>) => void;

function answers(check: Check): void {
  check('chat completions', 'a stream accumulated by the client equals the whole answer', async ({ openai }) => {
    const whole = await openai.chat.completions.create(BODY);
    const stream = openai.chat.completions.stream({ ...BODY, stream_options: { include_usage: true } });
    const streamed = await stream.finalChatCompletion();
    assert.equal(streamed.choices[0]?.message.content, whole.choices[0]?.message.content);
    assert.equal(streamed.choices[0]?.finish_reason, whole.choices[0]?.finish_reason);
    assert.equal((await stream.totalUsage()).total_tokens, whole.usage?.total_tokens);
  });
  check('chat completions', '`n`, `seed`, `logprobs` and `top_logprobs`', async ({ openai }) => {
    const asked = { ...BODY, n: 3, logprobs: true, top_logprobs: 4, max_completion_tokens: 8 };
    const first = await openai.chat.completions.create(asked);
    assert.deepEqual(
      first.choices.map(({ index }) => index),
      [0, 1, 2],
    );
    for (const { logprobs } of first.choices) {
      assert.equal(logprobs?.content?.length, 8);
      for (const token of logprobs?.content ?? []) {
        assert.equal(token.top_logprobs.length, 4);
        assert.equal(Buffer.from(token.bytes ?? []).toString('utf8'), token.token);
      }
    }
    assert.deepEqual((await openai.chat.completions.create(asked)).choices, first.choices);
  });
  check('chat completions', '`stop` is cut off; `max_completion_tokens` says `length`', async ({ openai }) => {
    const plain = { ...BODY, reasoning_effort: 'none' as const, temperature: 0 };
    const free = await openai.chat.completions.create(plain);
    const text = free.choices[0]?.message.content ?? '';
    assert.ok(text.length > 6);
    const stop = text.slice(3, 6);
    const cut = await openai.chat.completions.create({ ...plain, stop });
    assert.equal(cut.choices[0]?.message.content, text.slice(0, text.indexOf(stop)));
    assert.equal(cut.choices[0]?.finish_reason, 'stop');
    const short = await openai.chat.completions.create({ ...plain, max_completion_tokens: 2 });
    assert.deepEqual([short.choices[0]?.finish_reason, short.usage?.completion_tokens], ['length', 2]);
  });
  check(
    'chat completions',
    'content as parts, `logit_bias`, `user`, `metadata`, `service_tier`',
    async ({ openai }) => {
      const { choices, service_tier: tier } = await openai.chat.completions.create({
        ...BODY,
        messages: [
          { role: 'developer', content: [{ type: 'text', text: 'Be brief.' }] },
          { role: 'user', content: [{ type: 'text', text: 'Hello!' }], name: 'someone' },
        ],
        logit_bias: { 5: -100 },
        user: 'u',
        metadata: { a: 'b' },
        service_tier: 'flex',
        max_completion_tokens: 4,
      });
      assert.equal(choices.length, 1);
      assert.equal(tier, 'flex');
    },
  );
}

function parameters(check: Check): void {
  check(
    'chat completions',
    'every parameter of the client’s types is accepted, ignored or refused by name',
    async ({ oracle }) => {
      oracle.knowsFields('chatRequest', 'ChatCompletionRequestInput');
    },
  );
  check(
    'text completions',
    'every parameter of the client’s types is accepted or refused by name',
    async ({ oracle }) => {
      oracle.knowsFields('completionRequest', 'CompletionRequestInput');
    },
  );
  check(
    'chat completions',
    '`prediction`, `verbosity`, `prompt_cache_key`, `safety_identifier`, `store: false` change nothing',
    async ({ openai }) => {
      const plain = await openai.chat.completions.create({ ...BODY, max_completion_tokens: 8 });
      const { choices } = await openai.chat.completions.create({
        ...BODY,
        max_completion_tokens: 8,
        prediction: { type: 'content', content: 'Paris' },
        verbosity: 'low',
        prompt_cache_key: 'k',
        prompt_cache_retention: '24h',
        safety_identifier: 's',
        store: false,
        modalities: ['text'],
      });
      assert.deepEqual(choices, plain.choices);
    },
  );
  check('chat completions', '`reasoning_effort` from `none` to `max`', async ({ openai }) => {
    for (const effort of ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const) {
      const asked = { ...BODY, max_completion_tokens: 2, reasoning_effort: effort };
      const { usage } = await openai.chat.completions.create(asked);
      assert.equal(usage?.completion_tokens_details?.reasoning_tokens, effort === 'none' ? 0 : 2, effort);
    }
  });
  check('chat completions', '`usage` has the cached tokens of a prefix that was there', async ({ openai }) => {
    const words = Array.from({ length: 300 }, (_, i) => `chat ${i}`).join(' ');
    const asked = { ...BODY, messages: [{ role: 'user' as const, content: words }], max_completion_tokens: 2 };
    const cold = await openai.chat.completions.create(asked);
    const warm = await openai.chat.completions.create(asked);
    assert.equal(cold.usage?.prompt_tokens_details?.cached_tokens, 0);
    assert.ok((warm.usage?.prompt_tokens_details?.cached_tokens ?? 0) > 0);
    assert.equal(warm.usage?.prompt_tokens, cold.usage?.prompt_tokens);
  });
}

function functions(check: Check): void {
  check('tool calls', 'the deprecated `functions` and `function_call`, whole, streamed and answered', async (world) => {
    const asked = {
      ...BODY,
      max_completion_tokens: 300,
      functions: [{ name: 'place', description: 'A city.', parameters: CITY }],
      function_call: { name: 'place' },
    };
    const { choices } = await world.openai.chat.completions.create(asked);
    const call = choices[0]?.message.function_call;
    assert.equal(call?.name, 'place');
    assert.equal(choices[0]?.finish_reason, 'function_call');
    JSON.parse(call.arguments);
    let streamed = '';
    for await (const chunk of await world.openai.chat.completions.create({ ...asked, stream: true }))
      streamed += chunk.choices[0]?.delta.function_call?.arguments ?? '';
    assert.equal(streamed, call.arguments);
    const next = await world.openai.chat.completions.create({
      ...BODY,
      functions: asked.functions,
      messages: [
        ...MESSAGES,
        { role: 'assistant', content: null, function_call: call },
        { role: 'function', name: 'place', content: 'noted' },
      ],
    });
    assert.equal(next.choices[0]?.message.role, 'assistant');
  });
}

function reasoning(check: Check): void {
  check(
    'reasoning',
    '`reasoning_effort: none` answers at once; reasoning comes apart and is counted',
    async ({ openai }) => {
      const free = await openai.chat.completions.create({ ...BODY, max_completion_tokens: 200, temperature: 0 });
      const message = free.choices[0]?.message as unknown as Record<string, string | null>;
      assert.ok((message['reasoning_content'] ?? '').length > 0);
      assert.equal(message['reasoning'], message['reasoning_content']);
      assert.ok((free.usage?.completion_tokens_details?.reasoning_tokens ?? 0) > 0);
      const none = await openai.chat.completions.create({ ...BODY, reasoning_effort: 'none' });
      assert.equal(none.usage?.completion_tokens_details?.reasoning_tokens, 0);
    },
  );
}

function calls(check: Check): void {
  const tools: OpenAI.Chat.ChatCompletionTool[] = [
    { type: 'function', function: { name: 'place', description: 'A city.', strict: true, parameters: CITY } },
  ];
  check(
    'tool calls',
    '`runTools` calls the function with parsed arguments and sends back what it says',
    async ({ openai }) => {
      const seen: unknown[] = [];
      const run = openai.chat.completions.runTools(
        {
          ...BODY,
          max_completion_tokens: 300,
          tool_choice: { type: 'function', function: { name: 'place' } },
          tools: [
            {
              type: 'function',
              function: {
                name: 'place',
                description: 'A city.',
                strict: true,
                parameters: CITY,
                parse: JSON.parse as (text: string) => object,
                function: (given: object) => {
                  seen.push(given);
                  return 'noted';
                },
              },
            },
          ],
        },
        { maxChatCompletions: 2 },
      );
      await run.done();
      assert.equal(seen.length, 1);
      assert.ok(isCity(seen[0]), JSON.stringify(seen));
      assert.ok(run.messages.some((message) => message.role === 'tool' && message.content === 'noted'));
    },
  );
  check('tool calls', 'deltas accumulated by the client equal the whole call', async ({ openai }) => {
    const body = { ...BODY, max_completion_tokens: 300, tools, tool_choice: 'required' as const };
    const whole = await openai.chat.completions.create(body);
    const streamed = await openai.chat.completions.stream(body).finalChatCompletion();
    const shown = ({ choices }: OpenAI.Chat.ChatCompletion): unknown =>
      choices[0]?.message.tool_calls?.map((call) => (call.type === 'function' ? call.function.arguments : call.type));
    assert.deepEqual(shown(streamed), shown(whole));
    assert.equal(streamed.choices[0]?.finish_reason, 'tool_calls');
  });
}

function structured(check: Check): void {
  const Place = z.object({ city: z.enum(['Paris', 'Rome']), sure: z.boolean() });
  check('structured output', '`parse` with a zod schema, streamed or not', async ({ openai }) => {
    const body = { ...BODY, max_completion_tokens: 300, response_format: zodResponseFormat(Place, 'place') };
    const whole = await openai.chat.completions.parse({ ...body, reasoning_effort: 'none' });
    assert.ok(isCity(whole.choices[0]?.message.parsed));
    const streamed = await openai.chat.completions.stream({ ...body, reasoning_effort: 'none' }).finalChatCompletion();
    assert.deepEqual(streamed.choices[0]?.message.parsed, whole.choices[0]?.message.parsed);
  });
}

function texts(check: Check): void {
  const body = { model: MODEL, prompt: ['Once upon', 'a time'], max_tokens: 6, temperature: 0, seed: 1 };
  check(
    'text completions',
    'several prompts, `echo`, `logprobs`; a stream equals the whole answer',
    async ({ openai }) => {
      const whole = await openai.completions.create(body);
      assert.equal(whole.choices.length, 2);
      const parts = ['', ''];
      for await (const { choices } of await openai.completions.create({ ...body, stream: true }))
        for (const { index, text } of choices) parts[index] += text;
      assert.deepEqual(
        parts,
        whole.choices.map(({ text }) => text),
      );
      const echoed = await openai.completions.create({ ...body, prompt: 'Once upon', echo: true, logprobs: 2 });
      assert.ok(echoed.choices[0]?.text.startsWith('Once upon'));
      const { tokens, token_logprobs: values } = echoed.choices[0]?.logprobs ?? {};
      assert.equal(tokens?.join(''), echoed.choices[0]?.text);
      assert.equal(values?.[0], null);
    },
  );
  check('models', 'listed and retrieved by name', async ({ openai }) => {
    const names = (await openai.models.list()).data.map(({ id }) => id);
    assert.ok(names.includes(MODEL));
    assert.equal((await openai.models.retrieve(MODEL)).id, MODEL);
    await assert.rejects(openai.models.retrieve('nothing'), OpenAI.NotFoundError);
  });
}

function refusals(check: Check): void {
  check(
    'errors',
    'the client’s classes for 400, 401 and 404, with `code` and `param`',
    async ({ openai, openaiWith }) => {
      await assert.rejects(openai.chat.completions.create({ ...BODY, temperature: 9 }), (error: unknown) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.equal(error.param, 'temperature');
        assert.equal(error.type, 'invalid_request_error');
        assert.ok((error.requestID ?? '').length > 0);
        return true;
      });
      await assert.rejects(openaiWith('wrong').models.list(), OpenAI.AuthenticationError);
      await assert.rejects(openai.chat.completions.create({ ...BODY, model: 'none' }), OpenAI.NotFoundError);
      await assert.rejects(openai.embeddings.create({ model: MODEL, input: 'x' }), OpenAI.NotFoundError);
    },
  );
}
