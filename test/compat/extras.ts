import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { until } from '../harness/wait.ts';
import type { Conformance } from './conformance.ts';
import { MESSAGES, MODEL, type World } from './world.ts';

const CLIENT = 'openai (npm)';
const MAIN = fileURLToPath(new URL('../../services/cli/src/main.ts', import.meta.url));
const BODY = { model: MODEL, messages: MESSAGES, max_tokens: 4, temperature: 0 };

interface Made {
  key: string;
}

/** A key of the cluster, made as an operator makes it. */
async function newKey({ cluster }: World, ...args: string[]): Promise<string> {
  const place = ['--redis', cluster.redis.url, '--cluster', 'test', '--json'];
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, 'keys', 'create', ...place, ...args]);
  return (JSON.parse(stdout) as Made).key;
}

/** Keys and quotas, and what vLLM has beyond OpenAI, through OpenAI's own client. */
export function extras(suite: Conformance): void {
  keys(suite);
  fields(suite);
  paths(suite);
}

function keys(suite: Conformance): void {
  suite.check(
    CLIENT,
    'quotas',
    '429 with its headers, and the client waits `retry-after` and succeeds',
    async (world) => {
      const key = await newKey(world, '--requests-per-minute', '60');
      const first = await world.openaiWith(key).chat.completions.create(BODY).withResponse();
      assert.equal(first.response.headers.get('x-ratelimit-limit-requests'), '60');
      assert.equal(first.response.headers.get('x-ratelimit-remaining-requests'), '59');
      const small = await newKey(world, '--tokens-per-minute', '1');
      await assert.rejects(world.openaiWith(small).chat.completions.create(BODY), (error: unknown) => {
        assert.ok(error instanceof OpenAI.RateLimitError);
        assert.equal(error.headers.get('x-guildhall-reason'), 'too_large');
        return true;
      });
      const few = await newKey(world, '--requests-per-minute', '30');
      const client = world.openaiWith(few).withOptions({ maxRetries: 5 });
      const asked = { ...BODY, max_tokens: 1 };
      const answers = await Promise.all(Array.from({ length: 31 }, () => client.chat.completions.create(asked)));
      assert.equal(answers.length, 31);
    },
  );
  suite.check(CLIENT, 'keys', 'a key for one model has 403 for others; usage is that of the key', async (world) => {
    const client = world.openaiWith(await newKey(world, '--model', MODEL));
    const { usage } = await client.chat.completions.create(BODY);
    await assert.rejects(
      client.chat.completions.create({ ...BODY, model: 'tiny-alias' }),
      OpenAI.PermissionDeniedError,
    );
    // Running requests are counted once a second, so the last tokens may be told later than the first.
    const total = await until('the usage to be told', async () => {
      const told = await client.get<{ total: { requests: number; output_tokens: number } }>('/usage');
      return told.total.output_tokens >= (usage?.completion_tokens ?? 0) ? told.total : null;
    });
    assert.deepEqual([total.requests, total.output_tokens], [1, usage?.completion_tokens]);
  });
}

function fields(suite: Conformance): void {
  suite.check(
    CLIENT,
    'vLLM extras',
    'fields of vLLM beside those of OpenAI, and what they bring',
    async ({ openai }) => {
      const asked = { ...BODY, prompt_logprobs: 1, return_token_ids: true, top_k: 3, min_p: 0.1, priority: 1 };
      const answer = (await openai.chat.completions.create(asked)) as unknown as {
        prompt_token_ids: number[];
        prompt_logprobs: unknown[];
        choices: { token_ids: number[] }[];
        usage: OpenAI.CompletionUsage;
      };
      assert.equal(answer.prompt_token_ids.length, answer.usage.prompt_tokens);
      assert.equal(answer.prompt_logprobs.length, answer.usage.prompt_tokens);
      assert.equal(answer.prompt_logprobs[0], null);
      assert.equal(answer.choices[0]?.token_ids.length, answer.usage.completion_tokens);
    },
  );
  suite.check(
    CLIENT,
    'structured output',
    '`guided_choice`, `guided_regex`, `guided_json` beside OpenAI’s fields',
    async ({ openai }) => {
      const plain = { ...BODY, max_tokens: 200, reasoning_effort: 'none' as const };
      const ask = async (extra: object): Promise<string> =>
        (await openai.chat.completions.create({ ...plain, ...extra })).choices[0]?.message.content ?? '';
      assert.match(await ask({ guided_choice: ['Paris', 'Rome'] }), /^(Paris|Rome)$/);
      assert.match(await ask({ guided_regex: '[A-Z]{2}-[0-9]{3}' }), /^[A-Z]{2}-[0-9]{3}$/);
      assert.match(await ask({ guided_json: { type: 'boolean' } }), /^(true|false)$/);
    },
  );
}

function paths(suite: Conformance): void {
  suite.check(CLIENT, 'vLLM extras', '`/tokenize`, `/detokenize`, `render`, `/version`, `/ping`', async (world) => {
    const root = world.openai.withOptions({ baseURL: world.cluster.url });
    const body = { model: MODEL, prompt: 'Hello' };
    const { tokens, count } = await root.post<{ tokens: number[]; count: number }>('/tokenize', { body });
    assert.equal(tokens.length, count);
    const text = await root.post<{ prompt: string }>('/detokenize', { body: { model: MODEL, tokens } });
    assert.equal(text.prompt, 'Hello');
    const rendered = await root.post<{ token_ids: number[] }>('/v1/chat/completions/render', { body: BODY });
    const { usage } = await world.openai.chat.completions.create(BODY);
    assert.equal(rendered.token_ids.length, usage?.prompt_tokens);
    const { version } = await root.get<{ version: string }>('/version');
    assert.match(version, /^\d+\.\d+\.\d+/);
    assert.equal((await fetch(`${world.cluster.url}/ping`)).status, 200);
  });
}
