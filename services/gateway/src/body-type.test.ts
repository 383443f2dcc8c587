import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { eventually } from '@guildhall/common/testing';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
before(async () => {
  const tokens = await tokensOf('x</think>fine');
  gateway = await GatewayUnderTest.start({}, { script: () => ({ tokens }) });
});
after(() => gateway.stop());

const BODY = JSON.stringify({ model: 'tiny', prompt: 'a', max_tokens: 4 });

async function post(
  headers: Record<string, string>,
  body: string | Uint8Array<ArrayBuffer> = BODY,
  path = '/v1/completions',
): Promise<Response> {
  const type = { 'content-type': 'application/json', ...headers };
  return fetch(`${gateway.url}${path}`, { method: 'POST', body, headers: type });
}

async function refused(response: Response, param: string): Promise<void> {
  const { error } = (await response.json()) as { error: { code: string; param: string; message: string } };
  assert.deepEqual([response.status, error.code, error.param], [415, 'unsupported_media_type', param]);
  assert.match(error.message, new RegExp(param === 'content-type' ? 'utf-8|Content-Type' : param, 'i'));
}

test('compressed bodies are refused by their header, before anything is read as JSON', async () => {
  for (const coding of ['gzip', 'br', 'deflate', 'zstd', 'GZIP', 'gzip, identity', 'x']) {
    const response = await post({ 'content-encoding': coding }, gzipSync(BODY));
    await refused(response.clone(), 'content-encoding');
    assert.equal(response.headers.get('accept-encoding'), 'identity');
  }
  // Plain bodies that say they are compressed too.
  await refused(await post({ 'content-encoding': 'gzip' }), 'content-encoding');
  assert.equal((await post({ 'content-encoding': 'identity' })).status, 200);
});

test('charsets other than UTF-8 are refused', async () => {
  for (const charset of ['utf-16', 'UTF-16LE', '"latin1"', 'x'])
    await refused(await post({ 'content-type': `application/json; charset=${charset}` }), 'content-type');
  for (const charset of ['utf-8', 'UTF-8', '"utf8"', 'us-ascii'])
    assert.equal((await post({ 'content-type': `application/json; charset=${charset}` })).status, 200, charset);
});

test('Anthropic’s routes refuse in their own envelope', async () => {
  const response = await post({ 'content-encoding': 'gzip' }, BODY, '/v1/messages');
  const { type, error } = (await response.json()) as { type: string; error: { type: string } };
  assert.deepEqual([response.status, type, error.type], [415, 'error', 'invalid_request_error']);
});

test('a path that is not there stays a 404 whatever its body is', async () => {
  assert.equal((await post({ 'content-encoding': 'gzip' }, BODY, '/v1/nothing')).status, 404);
});

test('a client that goes away within its body is no failure of the gateway', async () => {
  const heads = ['content-type: application/json', 'content-type: multipart/form-data; boundary=x'];
  const paths = ['/v1/completions', '/v1/files'];
  for (const [i, path] of paths.entries()) {
    const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1');
    socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\n${heads[i]}\r\ncontent-length: 100\r\n\r\n{"a`, () =>
      socket.destroy(),
    );
  }
  const text = await eventually(async () => {
    const metrics = await (await gateway.fetch('/metrics')).text();
    return /guildhall_errors_total\{code="cancelled"\} 1/.test(metrics) && metrics;
  }, 'the request to be counted');
  assert.doesNotMatch(text, /guildhall_errors_total\{code="internal"\}/);
});
