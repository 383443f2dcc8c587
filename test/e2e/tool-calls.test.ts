import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type OpenAI from 'openai';
import { Cluster } from '../harness/cluster.ts';

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({ workers: 2, weights: 'bf16' });
});
after(async () => {
  await cluster?.stop();
});

type Body = OpenAI.Chat.ChatCompletionCreateParams;

const WEATHER = {
  type: 'object',
  properties: {
    city: { type: 'string' },
    days: { type: 'integer' },
    mode: { enum: ['fast', 'slow'] },
    tags: { type: 'array', items: { type: 'boolean' }, maxItems: 3 },
  },
  required: ['city', 'days', 'mode', 'tags'],
  additionalProperties: false,
};

const TOOLS: OpenAI.Chat.ChatCompletionTool[] = [
  { type: 'function', function: { name: 'weather', strict: true, parameters: WEATHER } },
  {
    type: 'function',
    function: { name: 'clock', parameters: { type: 'object', properties: { zone: { type: 'string' } } } },
  },
];

interface Call {
  name: string;
  arguments: string;
}

/** The answer as a whole and the same one streamed and put together. */
async function both(given: Record<string, unknown>): Promise<{ whole: OpenAI.Chat.ChatCompletion; streamed: Call[] }> {
  const body = {
    model: 'tiny',
    messages: [{ role: 'user', content: 'What is 3 + 4?' }],
    tools: TOOLS,
    max_tokens: 400,
    temperature: 0.8,
    ...given,
  } as Body;
  const client = cluster.client();
  const whole = await client.chat.completions.create({ ...body, stream: false });
  const streamed: Call[] = [];
  for await (const { choices } of await client.chat.completions.create({ ...body, stream: true })) {
    for (const { index, function: piece } of choices[0]?.delta.tool_calls ?? []) {
      const call = (streamed[index] ??= { name: piece?.name ?? '', arguments: '' });
      call.arguments += piece?.arguments ?? '';
    }
  }
  return { whole, streamed };
}

function callsOf({ choices }: OpenAI.Chat.ChatCompletion): Call[] {
  return (choices[0]?.message.tool_calls ?? []).flatMap((call) =>
    call.type === 'function' ? [{ name: call.function.name, arguments: call.function.arguments }] : [],
  );
}

function checkWeather(text: string): void {
  const { city, days, mode, tags, ...rest } = JSON.parse(text) as Record<string, unknown>;
  assert.equal(typeof city, 'string');
  assert.ok(Number.isInteger(days));
  assert.ok(mode === 'fast' || mode === 'slow');
  assert.ok(Array.isArray(tags) && tags.length <= 3 && tags.every((tag) => typeof tag === 'boolean'));
  assert.deepEqual(rest, {});
}

const CASES: Record<string, { given: Record<string, unknown>; names: string[]; most: number }> = {
  'any call': { given: { tool_choice: 'required' }, names: ['weather', 'clock'], most: Infinity },
  'a strict one by name': {
    given: { tool_choice: { type: 'function', function: { name: 'weather' } } },
    names: ['weather'],
    most: 1,
  },
  'one by name, without thinking': {
    given: { tool_choice: { type: 'function', function: { name: 'clock' } }, enable_thinking: false },
    names: ['clock'],
    most: 1,
  },
  'one call, after a short thought': {
    given: { tool_choice: 'required', parallel_tool_calls: false, thinking_token_budget: 2 },
    names: ['weather', 'clock'],
    most: 1,
  },
};

for (const [what, { given, names, most }] of Object.entries(CASES)) {
  test(`forced calls are calls, streamed as whole: ${what}`, async () => {
    for (const seed of [1, 2]) {
      const { whole, streamed } = await both({ ...given, seed });
      const calls = callsOf(whole);
      assert.deepEqual(streamed, calls);
      const reason = whole.choices[0]?.finish_reason;
      assert.ok(calls.length >= 1 && calls.length <= most, `${calls.length} calls`);
      assert.ok(calls.every(({ name }) => names.includes(name)));
      assert.equal((whole.choices[0]?.message.content ?? '').trim(), '');
      if (reason === 'length') continue;
      assert.equal(reason, 'tool_calls');
      for (const call of calls) {
        if (call.name === 'weather') checkWeather(call.arguments);
        else assert.equal(typeof JSON.parse(call.arguments), 'object');
      }
    }
  });
}
