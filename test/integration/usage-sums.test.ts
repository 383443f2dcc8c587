import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import Anthropic from '@anthropic-ai/sdk';
import { Accounts, systemClock } from '@guildhall/common';
import { PLAIN_KEY, silentLogger } from '@guildhall/common/testing';
import fc from 'fast-check';
import OpenAI, { toFile } from 'openai';
import { guildhall } from '../harness/command.ts';
import { Cluster, sumOf, until } from '../harness/index.ts';

/** What clients were told, or the metrics, or `guildhall usage`. */
interface Sums {
  requests: number;
  input: number;
  cached: number;
  output: number;
  reasoning: number;
}

const NOTHING: Sums = { requests: 0, input: 0, cached: 0, output: 0, reasoning: 0 };

function plus(a: Sums, b: Sums): Sums {
  return {
    requests: a.requests + b.requests,
    input: a.input + b.input,
    cached: a.cached + b.cached,
    output: a.output + b.output,
    reasoning: a.reasoning + b.reasoning,
  };
}

let cluster: Cluster;
let accounts: Accounts;

before(async () => {
  cluster = await Cluster.start({ workers: 1, gatewayArgs: ['--require-key', '--metric-tenants', '1000'] });
  cluster.spawn('batch', ['--id', 'batch-1', '--data-dir', join(cluster.dir, 'files')]);
  accounts = new Accounts({ redis: cluster.redis.url, name: 'test', clock: systemClock, logger: silentLogger() });
  await accounts.start();
});
after(async () => {
  accounts?.close();
  await cluster?.stop();
});

interface Client {
  id: string;
  tenant: string;
  openai: OpenAI;
  anthropic: Anthropic;
}

async function newClient(tenant: string): Promise<Client> {
  const { key, record } = await accounts.keys.create({ ...PLAIN_KEY, tenant }, Date.now());
  const options = { apiKey: key, maxRetries: 0 };
  return {
    id: record.id,
    tenant,
    openai: new OpenAI({ ...options, baseURL: `${cluster.url}/v1` }),
    anthropic: new Anthropic({ ...options, baseURL: cluster.url }),
  };
}

function ofUsage(usage: OpenAI.CompletionUsage | null | undefined): Sums {
  assert.ok(usage);
  return {
    requests: 1,
    input: usage.prompt_tokens,
    cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
    output: usage.completion_tokens,
    reasoning: usage.completion_tokens_details?.reasoning_tokens ?? 0,
  };
}

function ofResponse({ usage }: OpenAI.Responses.Response): Sums {
  assert.ok(usage);
  return {
    requests: 1,
    input: usage.input_tokens,
    cached: usage.input_tokens_details.cached_tokens,
    output: usage.output_tokens,
    reasoning: usage.output_tokens_details.reasoning_tokens,
  };
}

/** Long enough for pages of the cache. */
const LONG = 'The guild keeps a hall by the river, and every trade has a bench in it. '.repeat(12);

/** A request of one kind; `seed` makes it another one. Resolves with what its client was told. */
type Kind = (client: Client, seed: number) => Promise<Sums>;

const chat = (seed: number): OpenAI.ChatCompletionCreateParamsNonStreaming => ({
  model: 'tiny',
  messages: [{ role: 'user', content: `${seed % 2 === 0 ? LONG : ''} Number ${seed % 5}?` }],
  max_completion_tokens: 3 + (seed % 9),
  temperature: 0.8,
  seed,
});

async function refused(call: Promise<unknown>, status: number): Promise<Sums> {
  await assert.rejects(call, (err) => err instanceof OpenAI.APIError && err.status === status);
  return NOTHING;
}

const KINDS: Record<string, Kind> = {
  chat: async ({ openai }, seed) => ofUsage((await openai.chat.completions.create(chat(seed))).usage),
  choices: async ({ openai }, seed) =>
    ofUsage((await openai.chat.completions.create({ ...chat(seed), n: 1 + (seed % 4) })).usage),
  stream: async ({ openai }, seed) => {
    const stream = await openai.chat.completions.create({
      ...chat(seed),
      stream: true,
      stream_options: { include_usage: true },
    });
    let last: OpenAI.CompletionUsage | null = null;
    for await (const { usage } of stream) last = usage ?? last;
    return ofUsage(last);
  },
  prompts: async ({ openai }, seed) => {
    const body = { model: 'tiny', prompt: [LONG, `Say ${seed}`], n: 2, max_tokens: 4, seed };
    return ofUsage((await openai.completions.create(body)).usage);
  },
  stopped: async ({ openai }, seed) => {
    const body = { model: 'tiny', prompt: `Count to ${seed}`, max_tokens: 30, stop: ['e', ' '], seed };
    return ofUsage((await openai.completions.create(body)).usage);
  },
  constrained: async ({ openai }, seed) => {
    const schema = { type: 'object', properties: { a: { enum: ['x', 'y'] } }, required: ['a'] };
    const response_format = { type: 'json_schema', json_schema: { name: 'answer', schema } } as const;
    const body = { ...chat(seed), max_completion_tokens: 24, response_format };
    return ofUsage((await openai.chat.completions.create(body)).usage);
  },
  response: async ({ openai }, seed) =>
    ofResponse(await openai.responses.create({ model: 'tiny', input: `Hello ${seed}`, max_output_tokens: 5 })),
  background: async ({ openai }, seed) => {
    const made = { model: 'tiny', input: `Hello ${seed}`, max_output_tokens: 5, background: true };
    const { id } = await openai.responses.create(made);
    const over = async (): Promise<OpenAI.Responses.Response | null> => {
      const now = await openai.responses.retrieve(id);
      return now.status === 'completed' || now.status === 'incomplete' ? now : null;
    };
    return ofResponse(await until('the background response', over));
  },
  message: async ({ anthropic }, seed) => {
    const { usage } = await anthropic.messages.create({
      model: 'tiny',
      messages: [{ role: 'user', content: `${LONG} Number ${seed % 3}?` }],
      max_tokens: 6,
    });
    const cached = usage.cache_read_input_tokens ?? 0;
    const details = usage as { output_tokens_details?: { thinking_tokens?: number } };
    const reasoning = details.output_tokens_details?.thinking_tokens ?? 0;
    return { requests: 1, input: usage.input_tokens + cached, cached, output: usage.output_tokens, reasoning };
  },
  invalid: async ({ openai }, seed) => refused(openai.chat.completions.create({ ...chat(seed), temperature: -1 }), 400),
  unknownModel: async ({ openai }, seed) =>
    refused(openai.chat.completions.create({ ...chat(seed), model: 'nobody' }), 404),
  tooLong: async ({ openai }) =>
    refused(openai.completions.create({ model: 'tiny', prompt: 'x', max_tokens: 1 << 22 }), 400),
};

interface ReportLine {
  requests: number;
  input_tokens: number;
  input_cached_tokens: number;
  output_tokens: number;
  reasoning_tokens: number;
}

function ofLine(line: ReportLine): Sums {
  return {
    requests: Number(line.requests),
    input: Number(line.input_tokens),
    cached: Number(line.input_cached_tokens),
    output: Number(line.output_tokens),
    reasoning: Number(line.reasoning_tokens),
  };
}

/** `GET /v1/usage` of a client. */
async function told({ openai }: Client): Promise<Sums> {
  const { total } = await openai.get<{ total: ReportLine }>('/usage');
  return ofLine(total);
}

/** Resolves when `read` tells `expected`; requests are counted while they run, and told every second. Fails with what it tells. */
async function comesTo(read: () => Promise<Sums>, expected: Sums): Promise<void> {
  let last: Sums = NOTHING;
  const equal = async (): Promise<boolean> => isDeepStrictEqual((last = await read()), expected);
  await until('usage', equal, 20_000).catch(() => assert.deepEqual(last, expected));
}

/** What the gateway's metrics tell of a tenant. */
async function counted(tenant: string): Promise<Sums> {
  const own = (await cluster.samples(cluster.gateway)).filter(({ labels }) => labels.includes(`tenant="${tenant}"`));
  const tokens = (kind: string): number => sumOf(own, 'guildhall_tenant_tokens_total', `kind="${kind}"`);
  return {
    requests: sumOf(own, 'guildhall_tenant_requests_total'),
    input: tokens('input'),
    cached: tokens('cached'),
    output: tokens('output'),
    reasoning: tokens('reasoning'),
  };
}

/** Lines of `guildhall usage`. */
async function report(...args: string[]): Promise<string[]> {
  const text = await guildhall(['usage', '--redis', cluster.redis.url, '--cluster', 'test', ...args]);
  return text.split(/\r?\n/).filter((line) => line !== '');
}

let runs = 0;

test('usage and metrics are the sum of what clients were told, over any mix of requests', async () => {
  const names = Object.keys(KINDS);
  const requests = fc.array(fc.record({ kind: fc.constantFrom(...names), seed: fc.nat(1000) }), {
    minLength: 4,
    maxLength: 16,
    size: 'max',
  });
  const all: [Client, Sums][] = [];
  await fc.assert(
    fc.asyncProperty(requests, async (list) => {
      const client = await newClient(`mix-${runs++}`);
      const answers = await Promise.all(list.map(({ kind, seed }) => (KINDS[kind] as Kind)(client, seed)));
      const expected = answers.reduce(plus, NOTHING);
      await comesTo(() => told(client), expected);
      await comesTo(() => counted(client.tenant), expected);
      all.push([client, expected]);
    }),
    { numRuns: 6, examples: [[names.map((kind, seed) => ({ kind, seed }))]] },
  );
  // Nothing is counted twice afterwards.
  for (const [client, expected] of all) assert.deepEqual(await told(client), expected);
});

test('`guildhall usage` tells the same by key and day, as JSON and as comma-separated values', async () => {
  const client = await newClient('export');
  const answers = await Promise.all([1, 2, 3].map((seed) => (KINDS['choices'] as Kind)(client, seed)));
  const expected = answers.reduce(plus, NOTHING);
  await comesTo(() => told(client), expected);
  const lines = await report('--key', client.id, '--by', 'key,day', '--json');
  const days = lines.map((line) => JSON.parse(line) as ReportLine & { day: string; key: string });
  assert.ok(days.every(({ key, day }) => key === client.id && /^\d{4}-\d\d-\d\d$/.test(day)));
  assert.deepEqual(days.map(ofLine).reduce(plus, NOTHING), expected);
  const [head = '', ...rows] = await report('--key', client.id, '--by', 'key,day', '--csv');
  const columns = head.split(',');
  const cells = rows.map((row) => Object.fromEntries(row.split(',').map((cell, i) => [columns[i], cell])));
  assert.deepEqual(cells.map((row) => ofLine(row as unknown as ReportLine)).reduce(plus, NOTHING), expected);
});

test('streams that their clients leave count what was generated, at least what was seen', async () => {
  const client = await newClient('leaving');
  let seen = 0;
  let input = 0;
  const most = 400;
  for (let turn = 0; turn < 3; turn++) {
    const prompt = `Turn ${turn}`;
    const { usage } = await client.openai.completions.create({ model: 'tiny', prompt, max_tokens: 1 });
    input += usage?.prompt_tokens ?? 0;
    seen += usage?.completion_tokens ?? 0;
    const body = { model: 'tiny', prompt, max_tokens: most, ignore_eos: true, return_token_ids: true, stream: true };
    const stream = await client.openai.completions.create({ ...body, stream: true });
    let here = 0;
    for await (const { choices } of stream) {
      here += (choices[0] as { token_ids?: number[] } | undefined)?.token_ids?.length ?? 0;
      if (here >= 5) break;
    }
    input += usage?.prompt_tokens ?? 0;
    seen += here;
  }
  const inFlight = async (): Promise<boolean> =>
    (await cluster.metric(cluster.gateway, 'guildhall_http_in_flight')) === 0;
  await until('the gateway to be idle', inFlight);
  const settled = await until('usage that both tell', async () => {
    const now = await told(client);
    return isDeepStrictEqual(now, await counted(client.tenant)) ? now : null;
  });
  assert.deepEqual([settled.requests, settled.input], [6, input]);
  assert.ok(settled.output >= seen && settled.output < 3 * most, `${seen} seen, ${settled.output} counted`);
});

test('lines of a batch count for its tenant, as the results say', async () => {
  const client = await newClient('batching');
  await until('the batch service', async () => (await client.openai.files.list({ limit: 1 })).data !== null);
  const line = (i: number): string =>
    JSON.stringify({ custom_id: `${i}`, method: 'POST', url: '/v1/chat/completions', body: chat(i) });
  const bad = JSON.stringify({
    custom_id: 'bad',
    method: 'POST',
    url: '/v1/chat/completions',
    body: { ...chat(1), temperature: -1 },
  });
  const text = [line(0), line(1), bad, line(2)].join('\n');
  const file = await client.openai.files.create({
    file: await toFile(Buffer.from(text), 'in.jsonl'),
    purpose: 'batch',
  });
  const { id } = await client.openai.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });
  const done = await until('the batch', async () => {
    const batch = await client.openai.batches.retrieve(id);
    return batch.status === 'completed' ? batch : null;
  });
  const output = await (await client.openai.files.content(done.output_file_id ?? '')).text();
  const results = output.trimEnd().split('\n');
  const expected = results
    .map((result) => JSON.parse(result) as { response: { body: OpenAI.ChatCompletion } })
    .map(({ response }) => ofUsage(response.body.usage))
    .reduce(plus, NOTHING);
  assert.equal(expected.requests, 3);
  const lines = async (): Promise<Sums> => {
    const rows = await report('--tenant', client.tenant, '--by', 'tenant', '--json');
    return rows.map((one) => ofLine(JSON.parse(one) as ReportLine)).reduce(plus, NOTHING);
  };
  await comesTo(() => counted(client.tenant), expected);
  await comesTo(lines, expected);
});
