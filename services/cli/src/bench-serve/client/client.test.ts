import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { FakeClock, systemClock } from '@guildhall/common';
import fc from 'fast-check';
import { answerUncounted, answerWell, event, type Handler, ScriptedServer } from '../testing/scripted-server.ts';
import { AnswerReader } from './answer-reader.ts';
import { type ApiName, bodyOf, readEvent } from './api.ts';
import { HttpClient, type OutgoingRequest } from './http-client.ts';
import { baseUrl, firstModel } from './models.ts';
import { SseReader } from './sse-reader.ts';

let server: ScriptedServer;
before(async () => {
  server = await ScriptedServer.start(answerWell);
});
after(() => server.stop());

const BODY = { model: 'm', outputTokens: 3, temperature: 0, ignoreEos: true, seed: null, extra: {} };
const never = new AbortController().signal;

function request(change: Partial<OutgoingRequest> = {}): OutgoingRequest {
  const messages = [{ role: 'user', content: 'one two three' }];
  return { messages, body: BODY, keepText: true, onText: () => undefined, ...change };
}

async function ask(
  handler: Handler,
  options: { timeoutMs?: number; api?: ApiName; signal?: AbortSignal; url?: string } = {},
): ReturnType<HttpClient['send']> {
  server.handler = handler;
  const { timeoutMs = 60_000, api = 'chat', url = server.url } = options;
  const client = new HttpClient({ url, api, headers: { 'x-test': 'yes' }, timeoutMs }, systemClock);
  try {
    return await client.send(request(), options.signal ?? never);
  } finally {
    client.close();
  }
}

test('events are the same however the bytes are cut, with any line ending', () => {
  const data = fc.array(fc.constantFrom('a', 'ü', '漢', '🜚', '{"x":1}', ' ', ':', 'data:'), { maxLength: 5 });
  const lines = data.map((parts) => parts.join(''));
  fc.assert(
    fc.property(
      fc.array(fc.array(lines, { minLength: 1, maxLength: 3 }), { maxLength: 5 }),
      fc.constantFrom('\n', '\r\n', '\r'),
      fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 9 }),
      (events, ending, cuts) => {
        const text = events.map(
          (each) => each.map((line) => `data: ${line}${ending}`).join('') + `: comment${ending}${ending}`,
        );
        const bytes = Buffer.from(text.join(''));
        const reader = new SseReader();
        const got: string[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = cuts[turn % cuts.length] as number;
          got.push(...(reader.feed(bytes.subarray(at, at + size)) ?? []));
          at += size;
        }
        // A lone \r at the very end may yet be the first half of \r\n; that makes no event.
        assert.deepEqual(
          got,
          events.map((each) => each.join('\n')),
        );
      },
    ),
  );
});

test('an event without an end is not kept for ever', () => {
  const reader = new SseReader();
  const part = Buffer.alloc(1 << 20, 'x');
  let result: string[] | null = [];
  for (let index = 0; index < 20 && result !== null; index++) result = reader.feed(part);
  assert.equal(result, null);
});

test('times come from the clock: first token, gaps, last token', () => {
  const clock = new FakeClock(0);
  const answer = new AnswerReader('chat', true, () => undefined);
  const said = (delta: object, finish: string | null = null): Buffer =>
    Buffer.from(`data: ${JSON.stringify({ choices: [{ delta, finish_reason: finish }] })}\n\n`);
  const feed = async (afterMs: number, bytes: Buffer): Promise<void> => {
    await clock.advance(afterMs);
    answer.feed(bytes, clock.monotonicMs());
  };
  return (async () => {
    await feed(10, said({ role: 'assistant', content: '' }));
    assert.equal(answer.firstTokenMs, null, 'a role is no token');
    await feed(100, said({ reasoning_content: 'hm' }));
    await feed(30, said({ content: 'yes' }));
    await feed(50, said({ tool_calls: [{ index: 0, function: { name: 'f', arguments: '{' } }] }));
    await feed(5, said({}, 'stop'));
    await feed(
      5,
      Buffer.from('data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\ndata: [DONE]\n\n'),
    );
    answer.end();
    assert.equal(answer.failure, null);
    assert.deepEqual([answer.firstTokenMs, answer.lastTokenMs, answer.gapsMs], [110, 190, [30, 50]]);
    assert.deepEqual([answer.chunks, answer.outputTokens, answer.content], [3, 9, 'yes']);
  })();
});

test('bodies have what the APIs want, and extra fields win', () => {
  const messages = [
    { role: 'system', content: 'a' },
    { role: 'user', content: 'b' },
  ];
  const parse = (api: ApiName, change: object): unknown => JSON.parse(bodyOf(api, messages, { ...BODY, ...change }));
  assert.deepEqual(parse('chat', { extra: { max_tokens: null, top_p: 0.5 } }), {
    model: 'm',
    messages,
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0,
    ignore_eos: true,
    top_p: 0.5,
  });
  assert.deepEqual(parse('completions', { ignoreEos: false, seed: 4 }), {
    model: 'm',
    prompt: 'a\n\nb',
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: 3,
    temperature: 0,
    seed: 4,
  });
  assert.deepEqual(parse('responses', { outputTokens: null }), {
    model: 'm',
    input: messages,
    stream: true,
    store: false,
    temperature: 0,
  });
});

test('events of the Responses API are read', () => {
  const read = (value: object): unknown => readEvent('responses', JSON.stringify(value));
  const nothing = { text: '', content: '', usage: null, finished: false, error: null };
  assert.deepEqual(read({ type: 'response.created', response: { error: null } }), nothing);
  assert.deepEqual(read({ type: 'response.output_text.delta', delta: 'x' }), { ...nothing, text: 'x', content: 'x' });
  assert.deepEqual(read({ type: 'response.reasoning_text.delta', delta: 'x' }), { ...nothing, text: 'x' });
  const usage = { input_tokens: 5, output_tokens: 2, input_tokens_details: { cached_tokens: 4 } };
  assert.deepEqual(read({ type: 'response.completed', response: { usage } }), {
    ...nothing,
    usage: { prompt: 5, completion: 2, cached: 4 },
    finished: true,
  });
  assert.deepEqual(read({ type: 'response.failed', response: { error: { message: 'no' } } }), {
    ...nothing,
    error: 'no',
  });
  assert.equal(readEvent('responses', '[1'), null);
});

test('a good answer is read whole, over chat and completions, with and without usage', async () => {
  for (const api of ['chat', 'completions'] as const) {
    const { answer, failure } = await ask(answerWell, { api });
    assert.equal(failure, null);
    assert.deepEqual([answer.content, answer.outputTokens, answer.usage?.cached], ['w0 w1 w2 ', 3, 2]);
    assert.equal(server.seen.at(-1)?.headers['x-test'], 'yes');
  }
  const { answer, failure } = await ask(answerUncounted);
  assert.deepEqual([failure, answer.usage, answer.outputTokens], [null, null, 3]);
});

test('every way to fail has its kind', async () => {
  const stream = (response: Parameters<Handler>[1], ...events: unknown[]): void => {
    response.setHeader('content-type', 'text/event-stream');
    for (const each of events) event(response, each);
  };
  const piece = { choices: [{ delta: { content: 'x' } }] };
  const kinds: [string, Handler][] = [
    ['http_429', (_, r) => void r.writeHead(429).end('{"error":{"message":"slow down"}}')],
    ['http_500', (_, r) => void r.writeHead(500).end('<html>broken</html>')],
    ['bad_answer', (_, r) => void r.setHeader('content-type', 'application/json').end('{}')],
    ['bad_answer', (_, r) => (stream(r, '{nonsense'), void r.end())],
    ['stream_error', (_, r) => (stream(r, piece, { error: { message: 'lost' } }), void r.end())],
    ['stream_cut', (_, r) => (stream(r, piece), void r.end())],
    ['no_tokens', (_, r) => (stream(r, { choices: [{ delta: {}, finish_reason: 'stop' }] }, '[DONE]'), void r.end())],
    ['connection_lost', (_, r) => (stream(r, piece), void setImmediate(() => r.destroy()))],
    ['connection_lost', (_, r) => void r.destroy()],
    ['timeout', () => undefined],
  ];
  for (const [kind, handler] of kinds) {
    const { failure } = await ask(handler, kind === 'timeout' ? { timeoutMs: 50 } : {});
    assert.ok(failure !== null && failure !== 'aborted', kind);
    assert.equal(failure.kind, kind);
  }
  const message = await ask((_, r) => void r.writeHead(429).end('{"error":{"message":"slow down"}}'));
  assert.deepEqual(message.failure, { kind: 'http_429', message: 'slow down' });
});

test('nothing that listens, a name without an address, and a stop by the user', async () => {
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const { port } = free.address() as { port: number };
  free.close();
  await once(free, 'close');
  const refused = await ask(answerWell, { url: `http://127.0.0.1:${port}` });
  assert.equal((refused.failure as { kind: string }).kind, 'connection_refused');
  const unknown = await ask(answerWell, { url: 'http://name.invalid' });
  assert.equal((unknown.failure as { kind: string }).kind, 'connection_failed');
  const abort = new AbortController();
  const stopped = await ask(() => abort.abort(), { signal: abort.signal });
  assert.equal(stopped.failure, 'aborted');
});

test('addresses and models', async () => {
  for (const url of ['http://h:1', 'http://h:1/', 'http://h:1/v1', 'http://h:1/v1/'])
    assert.equal(baseUrl(url), 'http://h:1');
  for (const url of ['h:1', 'ftp://h', '', 'http://user:secret@h'])
    assert.throws(() => baseUrl(url), { code: 'config_invalid', field: '--url' });
  assert.equal(await firstModel(server.url, {}), 'scripted');
});
