import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
before(async () => {
  const tokens = await tokensOf('x</think>fine');
  gateway = await GatewayUnderTest.start({}, { script: () => ({ tokens }) });
});
after(() => gateway.stop());

const TEXTS = [
  '\ud800',
  '\udc00x\ud83d',
  '\0',
  '\u202eשלום',
  `e${'\u0301'.repeat(500)}`,
  '👩‍👩‍👧‍👦𠮷',
  '\ufeff\ufffe\u2028',
  '\r\nx: y',
];

/** Sends raw bytes on one connection and returns all that comes back. */
async function raw(bytes: string): Promise<string> {
  const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1', () => socket.end(bytes));
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}

test('text of every kind is taken wherever text goes', async () => {
  for (const text of TEXTS) {
    const messages = [
      { role: 'system', content: text },
      { role: 'user', content: [{ type: 'text', text: `a${text}` }] },
    ];
    const bodies: [string, object][] = [
      ['/v1/chat/completions', { model: 'tiny', messages, stop: [text], user: text, max_tokens: 4 }],
      ['/v1/completions', { model: 'tiny', prompt: `a${text}`, max_tokens: 4 }],
      ['/v1/responses', { model: 'tiny', input: text, instructions: text, metadata: { key: text } }],
      ['/v1/messages', { model: 'tiny', max_tokens: 4, system: text, messages: [{ role: 'user', content: text }] }],
      ['/tokenize', { prompt: text, return_token_strs: true }],
    ];
    for (const [path, body] of bodies) {
      const response = await gateway.fetch(path, body);
      assert.equal(response.status, 200, `${path} ${JSON.stringify(text)}: ${await response.text()}`);
    }
  }
});

test('JSON within texts may be nested as deeply as one likes', async () => {
  const deep = `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`;
  const call = { id: 'c', type: 'function', function: { name: 'f', arguments: deep } };
  const user = { role: 'user', content: 'Hi' };
  const fields: [string, object][] = [
    ['messages', { messages: [user, { role: 'assistant', content: null, tool_calls: [call] }] }],
    ['guided_json', { messages: [user], guided_json: `{"const":${deep}}` }],
    ['structured_outputs.structural_tag', { messages: [user], structured_outputs: { structural_tag: deep } }],
  ];
  for (const [param, extra] of fields) {
    const response = await gateway.fetch('/v1/chat/completions', { model: 'tiny', max_tokens: 4, ...extra });
    const { error } = (await response.json()) as { error: { param: string } };
    assert.equal(response.status, 400);
    assert.ok(error.param.startsWith(param), error.param);
  }
});

test('the last of two equal keys counts, and names of prototypes are names', async () => {
  const twice = '{"model":"gpt-7","model":"tiny","prompt":"a","max_tokens":4}';
  assert.equal((await gateway.fetch('/v1/completions', twice)).status, 200);
  for (const model of ['__proto__', 'constructor', 'toString']) {
    assert.equal((await gateway.fetch('/v1/completions', { model, prompt: 'a' })).status, 404);
  }
});

test('pipelined requests are answered in their order', async () => {
  const get = (path: string, end = ''): string => `GET ${path} HTTP/1.1\r\nhost: x\r\n${end}\r\n`;
  const text = await raw(
    `${get('/health').repeat(20)}${get('/v1/nothing')}${get('/version', 'connection: close\r\n')}`,
  );
  const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
  assert.deepEqual(statuses, [...Array.from({ length: 20 }, () => 200), 404, 200]);
});

test('a method that no route has is refused by the path, whatever comes with it', async () => {
  const query = async (path: string): Promise<Response> => gateway.fetch(path, undefined, { method: 'QUERY' });
  const known = await query('/v1/models');
  assert.deepEqual([known.status, known.headers.get('allow')], [405, 'GET, HEAD']);
  assert.equal((await query('/v1/nothing')).status, 404);
  const broken = await gateway.fetch('/v1/nothing', '{');
  assert.equal(broken.status, 404);
});

test('an expectation that nobody knows is passed over', async () => {
  const text = await raw('GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: nonsense\r\n\r\n');
  assert.match(text, /^HTTP\/1\.1 200 /);
});

test('what is no HTTP request is refused with an id like everything else', async () => {
  const text = await raw('GET / HTTP/9.9\r\n\r\n');
  assert.match(text, /^HTTP\/1\.1 400 /);
  assert.match(text, /\r\nx-request-id: req_[0-9a-f]{32}\r\n/);
});

test('a request id that would be more than one header comes back in none', async () => {
  for (const id of ['a\tb', 'a b', 'x'.repeat(129), 'é', '"a"', 'a\x7f']) {
    const text = await raw(`GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: ${id}\r\n\r\n`);
    assert.doesNotMatch(text, new RegExp(`x-request-id: ${id}`));
  }
  const folded = await raw(
    'GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: a\r\n x-injected: 1\r\n\r\n',
  );
  assert.doesNotMatch(folded, /x-injected/);
});
