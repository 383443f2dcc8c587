import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ErrorCode,
  ERRORS,
  errorInfo,
  fail,
  fromGrpc,
  GuildhallError,
  isErrorCode,
  toGrpc,
  toHttp,
} from './errors.ts';

const codes = Object.keys(ERRORS) as ErrorCode[];

test('every code has statuses in range, a type, a summary and a hint, and no two say the same', () => {
  const summaries = new Set<string>();
  for (const code of codes) {
    const info = errorInfo(code);
    assert.match(code, /^[a-z]+(_[a-z]+)*$/);
    assert.ok(info.http >= 400 && info.http <= 599, code);
    assert.ok(Number.isInteger(info.grpc) && info.grpc >= 1 && info.grpc <= 16, code);
    assert.match(info.type, /_error$/);
    assert.match(info.summary, /^[A-Z].*\.$/, code);
    assert.ok(info.hint.length > 10, code);
    assert.ok(!summaries.has(info.summary), `summary of ${code} is used twice`);
    summaries.add(info.summary);
  }
});

test('HTTP errors have the shape of OpenAI', () => {
  const { status, body } = toHttp(fail('invalid_value', 'temperature: expected 0 to 2', { field: 'temperature' }));
  assert.equal(status, 400);
  assert.deepEqual(body, {
    error: {
      message: 'temperature: expected 0 to 2',
      type: 'invalid_request_error',
      param: 'temperature',
      code: 'invalid_value',
    },
  });
});

test('a stranger becomes internal and its text stays inside', () => {
  const { status, body } = toHttp(new TypeError('password is hunter2'));
  assert.equal(status, 500);
  assert.equal(body.error.code, 'internal');
  assert.doesNotMatch(JSON.stringify(body), /hunter2/);
});

test('code, field and message of every error survive gRPC', () => {
  for (const code of codes) {
    const back = fromGrpc(toGrpc(fail(code, `about ${code}`, { field: 'stop' })));
    assert.ok(back instanceof GuildhallError);
    assert.deepEqual([back.code, back.field, back.message], [code, 'stop', `about ${code}`]);
  }
});

test('a field that is not ASCII does not break the metadata', () => {
  const back = fromGrpc(toGrpc(fail('unknown_field', 'unknown field', { field: 'naïve\n' })));
  assert.equal(back.field, 'na?ve?');
});

test('a bare gRPC status becomes the nearest code', () => {
  const bare = (code: number): ErrorCode => fromGrpc(Object.assign(new Error('x'), { code, details: 'x' })).code;
  assert.equal(bare(14), 'peer_unavailable');
  assert.equal(bare(4), 'deadline_exceeded');
  assert.equal(bare(16), 'unauthorized');
  assert.equal(bare(2), 'internal');
});

test('native errors keep their meaning', () => {
  const native = Object.assign(new RangeError('spec.hidden: expected a multiple of 16'), {
    code: 'NATIVE_INVALID_ARGUMENT',
  });
  assert.equal(toHttp(native).body.error.code, 'native_invalid_argument');
});

test('isErrorCode knows the registry only', () => {
  assert.ok(isErrorCode('queue_full'));
  assert.ok(!isErrorCode('toString'));
  assert.ok(!isErrorCode(3));
});
