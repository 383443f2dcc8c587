import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type OpenAI from 'openai';
import type { FakeScript } from '../../../test/fakes/fake-router.ts';
import { chatChunk, chatResponse } from './schema/chat.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;

before(async () => {
  gateway = await GatewayUnderTest.start({}, { script: () => script });
  client = gateway.client();
});
after(() => gateway.stop());

const TOOLS: OpenAI.ChatCompletionTool[] = [
  {
    type: 'function',
    function: {
      name: 'weather',
      description: 'The weather of a place.',
      parameters: {
        type: 'object',
        properties: { city: { type: 'string' }, days: { type: 'integer' } },
        required: ['city'],
      },
    },
  },
  { type: 'function', function: { name: 'clock' } },
];
const PARIS =
  '<tool_call>\n<function=weather>\n<parameter=city>\nParis "la belle"\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>';
const CLOCK = '<tool_call>\n<function=clock>\n</function>\n</tool_call>';
const PARIS_ARGS = '{"city":"Paris \\"la belle\\"","days":3}';

const ask = (extra: object = {}): OpenAI.ChatCompletionCreateParamsNonStreaming => ({
  model: 'tiny',
  messages: [{ role: 'user', content: 'Weather in Paris?' }],
  tools: TOOLS,
  ...extra,
});

const eosId = (): number => tinyAssets().generation.eosIds[0] ?? 0;

/** The script of a text that ends its turn. */
async function answers(text: string, finished: FakeScript['finished'] = { stopTokenId: eosId() }): Promise<void> {
  script = { tokens: [...(await tokensOf(text)), eosId()], finished };
}

const lastRequest = () => gateway.router.calls.at(-1)?.request;
const lastPrompt = (): string => tinyAssets().tokenizer.decode(lastRequest()?.promptIds ?? [], { skipSpecial: false });

interface Streamed {
  content: string;
  reasoning: string;
  calls: OpenAI.ChatCompletionMessageFunctionToolCall[];
  pieces: number;
  finish: string | null | undefined;
}

/** Puts chunks together, as a client does. */
async function streamed(extra: object = {}, from = client): Promise<Streamed> {
  const whole: Streamed = { content: '', reasoning: '', calls: [], pieces: 0, finish: null };
  for await (const chunk of await from.chat.completions.create({ ...ask(extra), stream: true })) {
    assert.equal(chatChunk.safeParse(chunk).error, undefined);
    const choice = chunk.choices[0];
    const delta = choice?.delta as { content?: string; reasoning_content?: string; reasoning?: string } | undefined;
    whole.content += delta?.content ?? '';
    whole.reasoning += delta?.reasoning_content ?? '';
    assert.equal(delta?.reasoning, delta?.reasoning_content, 'both names say the same');
    for (const piece of choice?.delta.tool_calls ?? []) {
      whole.pieces += 1;
      if (piece.id !== undefined) {
        assert.deepEqual([piece.type, piece.function?.arguments, piece.index], ['function', '', whole.calls.length]);
        whole.calls.push({
          id: piece.id,
          type: 'function',
          function: { name: piece.function?.name ?? '', arguments: '' },
        });
      } else {
        assert.deepEqual(Object.keys(piece.function ?? {}), ['arguments']);
        const call = whole.calls[piece.index];
        if (call !== undefined) call.function.arguments += piece.function?.arguments ?? '';
      }
    }
    whole.finish = choice?.finish_reason ?? whole.finish;
  }
  return whole;
}

const named = (message: OpenAI.ChatCompletionMessage | undefined): [string, string][] =>
  (message?.tool_calls ?? []).flatMap((call) =>
    call.type === 'function' ? [[call.function.name, call.function.arguments]] : [],
  );

test('calls come back as calls, with reasoning in its own fields and no content', async () => {
  await answers(`I need it.\n</think>\n\n${PARIS}\n${CLOCK}`);
  const completion = await client.chat.completions.create(ask());
  assert.equal(chatResponse.safeParse(completion).error, undefined);
  const choice = completion.choices[0];
  assert.equal(choice?.finish_reason, 'tool_calls');
  assert.equal(choice.message.content, null);
  assert.deepEqual(named(choice.message), [
    ['weather', PARIS_ARGS],
    ['clock', '{}'],
  ]);
  const ids = (choice.message.tool_calls ?? []).map((call) => call.id);
  assert.equal(new Set(ids).size, 2);
  for (const id of ids) assert.match(id, /^call_[0-9a-f]{24}$/);
  const message = choice.message as unknown as { reasoning: string; reasoning_content: string };
  assert.deepEqual([message.reasoning, message.reasoning_content], ['I need it.', 'I need it.']);
});

test('a stream of calls adds up to the answer that is not streamed', async () => {
  for (const text of [
    `Hm.\n</think>\n\n${PARIS}\n${CLOCK}`,
    `Hm.\n</think>\n\nLet me look.\n\n${PARIS}`,
    `Hm ${CLOCK}.\n</think>\n\nNo call <tool_call> here.`,
    `Hm.\n</think>\n\n<tool_call>\n<function=unknown>\n</function>\n</tool_call>`,
  ]) {
    await answers(text);
    const whole = (await client.chat.completions.create(ask())).choices[0];
    const { content, reasoning, calls, finish } = await streamed();
    assert.equal(content, whole?.message.content ?? '');
    assert.equal(reasoning, (whole?.message as { reasoning?: string } | undefined)?.reasoning);
    assert.deepEqual(
      calls.map((call) => [call.function.name, call.function.arguments]),
      named(whole?.message),
    );
    assert.equal(finish, whole?.finish_reason);
  }
});

test('arguments stream in pieces, not as one', async () => {
  const city = 'Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch and '.repeat(4);
  await answers(`x</think>${PARIS.replace('Paris "la belle"', city)}`);
  const { calls, pieces } = await streamed();
  assert.equal(calls[0]?.function.arguments, JSON.stringify({ city, days: 3 }));
  assert.ok(pieces > 20, `${pieces} pieces`);
});

test("the client's own helper runs the tools and brings their results back", async () => {
  const seen: unknown[] = [];
  await answers(`x</think>${PARIS}`);
  const turns = [script];
  await answers('x</think>Sunny.');
  turns.push(script);
  script = turns[0] as FakeScript;
  const runner = client.chat.completions.runTools({
    model: 'tiny',
    messages: [{ role: 'user', content: 'Weather?' }],
    tools: [
      {
        type: 'function',
        function: {
          name: 'weather',
          description: 'The weather.',
          parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
          parse: (text: string) => JSON.parse(text) as { city: string; days: number },
          function: (args: { city: string; days: number }) => {
            seen.push(args);
            script = turns[1] as FakeScript;
            return 'sunny, 21 degrees';
          },
        },
      },
    ],
  });
  assert.equal(await runner.finalContent(), 'Sunny.');
  assert.deepEqual(seen, [{ city: 'Paris "la belle"', days: 3 }]);
  assert.match(lastPrompt(), /<parameter=city>\nParis "la belle"\n<\/parameter>\n<parameter=days>\n3\n/);
  assert.match(lastPrompt(), /<tool_response>\nsunny, 21 degrees\n<\/tool_response>/);
});

test('tool_choice none, and no tools at all, leave everything text', async () => {
  await answers(`x</think>${CLOCK}`);
  for (const extra of [{ tool_choice: 'none' }, { tools: null }, { tools: [] }]) {
    const choice = (await client.chat.completions.create(ask(extra))).choices[0];
    assert.deepEqual([choice?.message.content, choice?.finish_reason], [CLOCK, 'stop']);
    assert.ok(!('tool_calls' in (choice?.message ?? {})));
    assert.ok(!lastPrompt().includes('# Tools'));
  }
});

test('allowed_tools shows the model every tool and takes calls of those allowed only', async () => {
  const allowed = (name: string): object => ({
    tool_choice: {
      type: 'allowed_tools',
      allowed_tools: { mode: 'auto', tools: [{ type: 'function', function: { name } }] },
    },
  });
  await answers(`x</think>${CLOCK}`);
  const taken = (await client.chat.completions.create(ask(allowed('clock')))).choices[0];
  assert.deepEqual(named(taken?.message), [['clock', '{}']]);
  assert.ok(lastPrompt().includes('"weather"'));
  const left = (await client.chat.completions.create(ask(allowed('weather')))).choices[0];
  assert.deepEqual([named(left?.message), left?.finish_reason], [[], 'stop']);
});

test('without parallel calls the answer ends with its first, and its router is told to stop', async () => {
  await answers(`x</think>${CLOCK}\n${PARIS} and much more of it`);
  gateway.router.holdBeforeToken((await tokensOf(`x</think>${CLOCK}`)).length);
  const choice = (await client.chat.completions.create(ask({ parallel_tool_calls: false }))).choices[0];
  assert.deepEqual([named(choice?.message), choice?.finish_reason], [[['clock', '{}']], 'tool_calls']);
  await gateway.router.calls.at(-1)?.whenCancelled;
  gateway.router.release();
});

test('a call that max_tokens breaks off is unfinished, and the reason says so', async () => {
  await answers(`x</think>${PARIS}`);
  const length = (await tokensOf(`x</think>${PARIS.slice(0, PARIS.indexOf('la belle'))}`)).length;
  const choice = (await client.chat.completions.create(ask({ max_tokens: length }))).choices[0];
  assert.equal(choice?.finish_reason, 'length');
  const [name, args] = named(choice.message)[0] ?? [];
  assert.equal(name, 'weather');
  assert.ok(PARIS_ARGS.startsWith(args ?? 'x') && args !== PARIS_ARGS, args);
});

test('each of n choices has its own calls and ids', async () => {
  await answers(`x</think>${CLOCK}`);
  const { choices } = await client.chat.completions.create(ask({ n: 3 }));
  assert.deepEqual(
    choices.map((choice) => named(choice.message)),
    [[['clock', '{}']], [['clock', '{}']], [['clock', '{}']]],
  );
  assert.equal(new Set(choices.map((choice) => choice.message.tool_calls?.[0]?.id)).size, 3);
});

test('a call goes on over the death of its router', async () => {
  await answers(`x</think>${PARIS}`);
  const at = (await tokensOf('x</think><tool_call>\n<function=weather>\n<parameter=city>\nPar')).length;
  const own = await GatewayUnderTest.start({}, { script: () => script }, { script: () => script });
  try {
    for (const router of own.routers) router.endAfterToken(at);
    const { calls, finish } = await streamed({}, own.client());
    assert.deepEqual([calls[0]?.function.arguments, finish], [PARIS_ARGS, 'tool_calls']);
    assert.ok(own.routers.flatMap((router) => router.calls).some((call) => call.request.generatedIds.length > 0));
  } finally {
    await own.stop();
  }
});

test('--tool-call-parser none leaves calls in the text, hermes reads the JSON form', async () => {
  const hermes = 'x</think><tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>';
  const readers = [
    ['none', PARIS, []],
    ['hermes', hermes, [['weather', '{"city":"Paris"}']]],
  ] as const;
  for (const [toolCallParser, text, calls] of readers) {
    await answers(text.startsWith('x') ? text : `x</think>${text}`);
    const own = await GatewayUnderTest.start({ toolCallParser }, { script: () => script });
    try {
      const choice = (await own.client().chat.completions.create(ask())).choices[0];
      assert.deepEqual(named(choice?.message), calls);
      assert.equal(choice?.message.content, calls.length === 0 ? text : null);
    } finally {
      await own.stop();
    }
  }
});

test('reasoning may come back under either name, and is shown after the last question only', async () => {
  await answers('x</think>ok');
  const call = (id: string, extra: object): object => ({
    role: 'assistant',
    content: null,
    tool_calls: [{ id, type: 'function', function: { name: 'clock', arguments: '{}' } }],
    ...extra,
  });
  const messages = [
    { role: 'user', content: 'One?' },
    { role: 'assistant', content: 'One.', reasoning: 'old thought' },
    { role: 'user', content: 'Two?' },
    call('c1', { reasoning: 'first thought' }),
    { role: 'tool', tool_call_id: 'c1', content: 'noon' },
    call('c2', { reasoning_content: 'second thought', reasoning: 'not this' }),
    { role: 'tool', tool_call_id: 'c2', content: 'one' },
  ];
  await client.chat.completions.create(ask({ messages }));
  const prompt = lastPrompt();
  assert.ok(!prompt.includes('old thought') && !prompt.includes('not this'));
  assert.match(prompt, /<think>\nfirst thought\n<\/think>\n\n<tool_call>/);
  assert.match(prompt, /<think>\nsecond thought\n<\/think>/);
  // A new question drops them all.
  await client.chat.completions.create(ask({ messages: [...messages, { role: 'user', content: 'Three?' }] }));
  assert.ok(!/(?:first|second) thought/.test(lastPrompt()));
});

test('consecutive tool results are one user turn', async () => {
  await answers('x</think>ok');
  const calls = ['a', 'b'].map((id) => ({ id, type: 'function', function: { name: 'clock', arguments: '{}' } }));
  const messages = [
    { role: 'user', content: 'Both?' },
    { role: 'assistant', content: '', tool_calls: calls },
    { role: 'tool', tool_call_id: 'a', content: 'one' },
    { role: 'tool', tool_call_id: 'b', content: [{ type: 'text', text: 'two' }] },
  ];
  await client.chat.completions.create(ask({ messages }));
  assert.match(
    lastPrompt(),
    /<\|im_start\|>user\n<tool_response>\none\n<\/tool_response>\n<tool_response>\ntwo\n<\/tool_response><\|im_end\|>/,
  );
});

test('a thinking budget reaches the router with the words that close the block, under any of its names', async () => {
  await answers('x</think>ok');
  const { tokenizer } = tinyAssets();
  for (const extra of [{ thinking_token_budget: 32 }, { chat_template_kwargs: { thinking_budget: 32 } }]) {
    await client.chat.completions.create(ask(extra));
    const thinking = lastRequest()?.thinking;
    assert.equal(thinking?.tokens, 32);
    assert.equal(thinking.endIds.at(-1), tokenizer.tokenToId('</think>'));
    assert.match(
      tokenizer.decode(thinking.endIds, { skipSpecial: false }),
      /limited time[^<]*directly now\.\n<\/think>$/,
    );
  }
  for (const extra of [{}, { thinking_token_budget: 32, enable_thinking: false }]) {
    await client.chat.completions.create(ask(extra));
    assert.equal(lastRequest()?.thinking, undefined);
  }
});

test('a tier decides about the priority, and the answer says which it was', async () => {
  await answers('x</think>ok');
  const cases: [object, string | undefined, number][] = [
    [{}, undefined, 0],
    [{ service_tier: 'auto' }, 'default', 0],
    [{ service_tier: 'default' }, 'default', 0],
    [{ service_tier: 'scale' }, 'default', 0],
    [{ service_tier: 'flex' }, 'flex', -10],
    [{ service_tier: 'priority' }, 'priority', 10],
    [{ service_tier: 'flex', priority: 3 }, 'flex', -3],
  ];
  for (const [extra, tier, priority] of cases) {
    const completion = await client.chat.completions.create(ask(extra));
    assert.deepEqual([completion.service_tier, lastRequest()?.priority], [tier, priority]);
  }
  const text = await client.completions.create({ model: 'tiny', prompt: 'x', ...{ service_tier: 'flex' } });
  assert.equal((text as { service_tier?: string }).service_tier, 'flex');
});

test('where callers may not hurry, the priority tier is the default one', async () => {
  await answers('x</think>ok');
  const own = await GatewayUnderTest.start({ apiKey: ['secret'] }, { script: () => script });
  try {
    for (const [asked, tier, priority] of [
      ['priority', 'default', 0],
      ['flex', 'flex', -10],
    ] as const) {
      const completion = await own.client('secret').chat.completions.create(ask({ service_tier: asked }));
      assert.deepEqual([completion.service_tier, own.router.calls.at(-1)?.request.priority], [tier, priority]);
    }
  } finally {
    await own.stop();
  }
});

test('what clients add to the messages that they send back changes nothing', async () => {
  await answers('x</think>ok');
  const call = { id: 'a', type: 'function', function: { name: 'clock', arguments: '{}' } };
  const turns = (message: object) => [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: null, ...message },
    { role: 'tool', tool_call_id: 'a', content: 'noon' },
  ];
  const added = { ...call, function: { ...call.function, parsed_arguments: {} } };
  for (const message of [
    { tool_calls: [call] },
    { tool_calls: [added], parsed: null, refusal: null, annotations: [], audio: null, function_call: null },
  ]) {
    const { status } = await gateway.fetch('/v1/chat/completions', { ...ask(), messages: turns(message) });
    assert.equal(status, 200);
  }
  const [plain, more] = gateway.router.calls.slice(-2).map(({ request }) => request.promptIds);
  assert.deepEqual(more, plain);
});

test('a predicted output changes nothing', async () => {
  await answers('x</think>ok');
  const completion = await client.chat.completions.create(ask({ prediction: { type: 'content', content: 'guess' } }));
  assert.equal(completion.choices[0]?.message.content, 'ok');
});
