import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiDescription } from './api-description.ts';
import type { Answer } from './fuzz-client.ts';
import { Judge } from './judge.ts';
import { type FuzzRequest, Requests } from './requests.ts';

const api = ApiDescription.read();
const judge = new Judge(api);

const ASKED: FuzzRequest = {
  operation: '',
  kind: 'right',
  method: 'POST',
  target: '/v1/completions?x=1',
  headers: [],
  body: null,
  raw: null,
};
const REFUSAL = { error: { message: 'no', type: 'invalid_request_error', param: null, code: 'invalid_value' } };

function answer(status: number, body: unknown, headers: Record<string, string> = {}): Answer {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return {
    status,
    headers: { 'x-request-id': 'req_1', 'content-type': 'application/json', ...headers },
    body: Buffer.from(text),
  };
}

function refusal(code: string, status: number): Answer {
  return answer(status, { error: { ...REFUSAL.error, code } });
}

test('refusals of the registry pass, failures of the service do not', () => {
  judge.check(ASKED, refusal('invalid_value', 400));
  judge.check(ASKED, refusal('queue_full', 503));
  for (const [code, status] of [
    ['internal', 500],
    ['integrity', 500],
    ['no_router', 503],
    ['deadline_exceeded', 504],
  ] as const)
    assert.throws(() => judge.check(ASKED, refusal(code, status)), code);
});

test('a refusal has the shape of the API that was asked, a code of the registry and its status, and an id', () => {
  assert.throws(() => judge.check(ASKED, answer(400, { error: 'no' })));
  assert.throws(() => judge.check(ASKED, answer(400, '<html>')));
  assert.throws(() => judge.check(ASKED, refusal('made_up', 400)));
  assert.throws(() => judge.check(ASKED, refusal('invalid_value', 404)));
  assert.throws(() => judge.check(ASKED, answer(400, REFUSAL, { 'x-request-id': '' })));
  assert.throws(() => judge.check(ASKED, answer(400, REFUSAL, { 'content-type': 'text/plain' })));
  assert.throws(() => judge.check(ASKED, answer(400, REFUSAL, { 'x-injected': '1' })));
  assert.throws(() => judge.check(ASKED, null));
  const claude = { ...ASKED, target: '/v1/messages' };
  const error = { type: 'error', error: { type: 'invalid_request_error', message: 'no' }, request_id: 'req_1' };
  judge.check(claude, answer(400, error));
  assert.throws(() => judge.check(claude, answer(400, REFUSAL)));
  assert.throws(() => judge.check(claude, answer(500, { ...error, error: { type: 'api_error', message: 'x' } })));
});

test('an answer is what the description says of its operation', () => {
  const models = { ...ASKED, method: 'GET', target: '/v1/models' };
  const list = { object: 'list', data: [] };
  judge.check(models, answer(200, list));
  assert.throws(() => judge.check(models, answer(200, { ...list, data: {} })));
  assert.throws(() => judge.check(models, answer(200, list, { 'content-type': 'text/html' })));
  assert.throws(() => judge.check(models, answer(204, list)));
});

test('a stream is whole, and each event of it as described', () => {
  const chunk = {
    id: 'cmpl-1',
    object: 'text_completion',
    created: 1,
    model: 'tiny',
    system_fingerprint: 'x',
    choices: [],
  };
  const stream = (...data: unknown[]): Answer => {
    const events = data.map((one) => `data: ${typeof one === 'string' ? one : JSON.stringify(one)}\n\n`);
    return answer(200, `: keep-alive\n\n${events.join('')}`, { 'content-type': 'text/event-stream; charset=utf-8' });
  };
  judge.check(ASKED, stream(chunk, '[DONE]'));
  judge.check(ASKED, stream(chunk, REFUSAL));
  assert.throws(() => judge.check(ASKED, stream(chunk)));
  assert.throws(() => judge.check(ASKED, stream({ ...chunk, choices: 5 }, '[DONE]')));
  assert.throws(() => judge.check(ASKED, stream(chunk, { error: { ...REFUSAL.error, code: 'internal' } })));
  assert.throws(() => judge.check({ ...ASKED, target: '/tokenize' }, stream('[DONE]')));
});

test('a seed makes the same requests again, of every kind and for every operation', () => {
  const requests = new Requests(api, () => ['file-a', 'batch_b', 'resp_c']);
  const seen = new Set<string>();
  for (let index = 0; index < 1500; index++) {
    const request = requests.make(3, index);
    assert.deepEqual(requests.make(3, index), request);
    seen.add(request.operation).add(request.kind);
  }
  for (const { name } of api.operations) assert.ok(seen.has(name), name);
  for (const kind of ['right', 'near', 'broken', 'type', 'method', 'headers', 'query', 'path', 'raw'])
    assert.ok(seen.has(kind), kind);
  assert.notDeepEqual(requests.make(4, 0), requests.make(3, 0));
});
