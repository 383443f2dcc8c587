import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type OpenAI from 'openai';
import { Cluster } from '../harness/cluster.ts';
import { IGNORE_EOS } from '../harness/stream.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;
let client: OpenAI;

before(async () => {
  cluster = await Cluster.start({ workers: 2, weights: 'bf16' });
  client = cluster.client();
});
after(async () => cluster?.stop());

const QUESTIONS = [
  'Hello! Who are you?',
  'What is the capital of France?',
  'What is the opposite of hot?',
  'Which day comes after Monday?',
  'Thank you, goodbye!',
  'What is 3 + 4?',
  'What color is the sky?',
  'What does a router do?',
];

function ask(index: number): OpenAI.ChatCompletionCreateParamsNonStreaming {
  const question = QUESTIONS[index % QUESTIONS.length] as string;
  // Prompts of mixed lengths, up to several chunks.
  const padding = 'Please answer briefly. '.repeat((index * 7) % 40);
  return {
    model: index % 2 === 0 ? 'tiny' : 'tiny-alias',
    messages: [{ role: 'user', content: `${padding}${question}` }],
    max_tokens: 8 + ((index * 5) % 40),
    temperature: index % 3 === 0 ? 0 : 0.8,
    seed: index,
    logprobs: true,
  };
}

interface Answer {
  tokens: string[];
  logprobs: number[];
  finish: string | null;
}

async function complete(index: number): Promise<Answer> {
  const completion = await client.chat.completions.create(ask(index));
  const [choice] = completion.choices;
  const content = choice?.logprobs?.content ?? [];
  return {
    tokens: content.map((token) => token.token),
    logprobs: content.map((token) => token.logprob),
    finish: choice?.finish_reason ?? null,
  };
}

async function stream(index: number): Promise<Answer> {
  const answer: Answer = { tokens: [], logprobs: [], finish: null };
  const events = await client.chat.completions.create({ ...ask(index), stream: true });
  for await (const { choices } of events) {
    for (const token of choices[0]?.logprobs?.content ?? []) {
      answer.tokens.push(token.token);
      answer.logprobs.push(token.logprob);
    }
    answer.finish = choices[0]?.finish_reason ?? answer.finish;
  }
  return answer;
}

test('the models endpoint lists the name and its alias', async () => {
  const models = await client.models.list();
  assert.deepEqual(models.data.map((model) => model.id).sort(), ['tiny', 'tiny-alias']);
});

test('a chat turn answers, ends by itself and counts its tokens', async () => {
  const completion = await client.chat.completions.create({
    model: 'tiny',
    messages: [{ role: 'user', content: 'Hello! Who are you?' }],
    temperature: 0,
    max_tokens: 200,
  });
  assert.equal(completion.choices[0]?.finish_reason, 'stop');
  assert.ok((completion.choices[0]?.message.content ?? '').length > 0);
  assert.ok((completion.usage?.completion_tokens ?? 0) > 1);
  assert.equal(
    completion.usage?.total_tokens,
    (completion.usage?.prompt_tokens ?? 0) + (completion.usage?.completion_tokens ?? 0),
  );
});

test('a thinking budget closes the block after exactly so many tokens, and the answer follows', async () => {
  const think = async (extra: object): Promise<{ count: number; reasoning: string; content: string }> => {
    const body = { model: 'tiny', messages: [{ role: 'user' as const, content: 'What is 3 + 4?' }], temperature: 0 };
    const { choices, usage } = await client.chat.completions.create({ ...body, max_tokens: 200, ...extra });
    const message = choices[0]?.message as { content: string; reasoning: string | null } | undefined;
    const count = usage?.completion_tokens_details?.reasoning_tokens ?? 0;
    return { count, reasoning: message?.reasoning ?? '', content: message?.content ?? '' };
  };
  const free = await think({});
  assert.ok(free.count > 3, 'it thinks by itself');
  const closing = await think({ thinking_token_budget: 0 });
  assert.match(closing.reasoning, /^\s*Considering the limited time.*directly now\.$/);
  const short = await think({ thinking_token_budget: 2 });
  assert.equal(short.count, 2 + closing.count);
  assert.ok(short.reasoning.endsWith(closing.reasoning) && short.reasoning.length > closing.reasoning.length);
  assert.ok(short.content.length > 0);
  assert.deepEqual(await think({ thinking_token_budget: 1000 }), free, 'a budget that is not used up changes nothing');
});

test('64 concurrent streams of mixed lengths equal each answer alone, bit for bit', async () => {
  const alone: Answer[] = [];
  for (let index = 0; index < 64; index++) alone.push(await complete(index));
  const together = await Promise.all(alone.map((_, index) => stream(index)));
  assert.deepEqual(together, alone);
  assert.ok(new Set(alone.map((answer) => answer.tokens.join(''))).size > 8, 'the answers differ from each other');
});

test('every worker computed expert rows', async () => {
  for (const expert of cluster.experts) {
    assert.ok((await cluster.metric(expert, 'guildhall_expert_rows_total')) > 0);
  }
});

test('everything is freed when nothing runs', async () => {
  const [router] = cluster.routers;
  assert.ok(router !== undefined);
  await until('no sequence to run', async () => (await cluster.metric(router, 'vllm:num_requests_running')) === 0);
  assert.equal(await cluster.metric(router, 'guildhall_kv_pages', 'state="used"'), 0);
  assert.equal(await cluster.metric(router, 'guildhall_state_slots', 'state="used"'), 0);
});

test('a client that leaves frees its sequence, and others are served', async () => {
  const abort = new AbortController();
  const events = await client.chat.completions.create(
    { model: 'tiny', messages: [{ role: 'user', content: 'Hello!' }], stream: true, max_tokens: 4000, ...IGNORE_EOS },
    { signal: abort.signal },
  );
  let chunks = 0;
  // The client ends the iteration quietly when its caller aborts.
  for await (const _ of events) if (++chunks === 5) abort.abort();
  assert.ok(chunks < 4000, 'the stream was cut, it did not end by itself');
  const [router] = cluster.routers;
  assert.ok(router !== undefined);
  await until(
    'the sequence to end',
    async () => (await cluster.metric(router, 'vllm:num_requests_running')) === 0,
    10_000,
  );
  assert.equal((await complete(1)).finish === null, false);
});

test('a client that reads slowly gets everything, and others are served meanwhile', async () => {
  const response = await fetch(`${cluster.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny',
      messages: [{ role: 'user', content: 'Hello!' }],
      stream: true,
      max_tokens: 300,
      ignore_eos: true,
      stream_options: { include_usage: true },
    }),
  });
  const reader = response.body?.getReader();
  assert.ok(reader !== undefined);
  await reader.read();
  // Not read any further while others run.
  const others = await Promise.all([complete(2), complete(3), complete(4)]);
  assert.equal(others.length, 3);
  let text = '';
  const decoder = new TextDecoder();
  for (let next = await reader.read(); !next.done; next = await reader.read())
    text += decoder.decode(next.value, { stream: true });
  assert.match(text, /"completion_tokens":300/);
  assert.match(text, /data: \[DONE\]/);
});
