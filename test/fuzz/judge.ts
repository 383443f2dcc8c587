import assert from 'node:assert/strict';
import { ERRORS, isErrorCode } from '@guildhall/common';
import type { ApiDescription, Operation } from './api-description.ts';
import type { Answer } from './fuzz-client.ts';
import type { FuzzRequest } from './requests.ts';

/** Refusals of a service that has more work than it takes: the only answers of 500 and more that are right. */
const BUSY: ReadonlySet<string> = new Set(['queue_full', 'overloaded', 'out_of_pages']);
/** What a machine without time to spare brings about: leases run out. A client that asks again is answered. */
const PASSING: ReadonlySet<string> = new Set([
  'redis_unavailable',
  'peer_unavailable',
  'not_ready',
  'no_router',
  'router_lost',
]);
/** Anthropic's status for them. */
const BUSY_STATUS = 529;

interface ErrorBody {
  error: { type: string; message: string; code: string };
}

/** Says whether answers are what the description promises. */
export class Judge {
  readonly #api: ApiDescription;

  constructor(api: ApiDescription) {
    this.#api = api;
  }

  /** Whether an answer says that the same request is to be sent again later. */
  isPassing({ target }: FuzzRequest, answer: Answer | null): boolean {
    if (answer === null || (answer.status !== 503 && answer.status !== BUSY_STATUS)) return false;
    // Anthropic's envelope has no codes.
    if (target.startsWith('/v1/messages')) return true;
    const code = /"code":"(\w+)"/.exec(answer.body.toString())?.[1] ?? '';
    return PASSING.has(code) && answer.headers['retry-after'] !== undefined;
  }

  /** Throws when an answer is not what it may be. */
  check(request: FuzzRequest, answer: Answer | null): void {
    if (answer === null) {
      assert.notEqual(request.raw, null, 'the connection was closed without an answer');
      return;
    }
    const { status, headers, body } = answer;
    assert.equal(headers['x-injected'], undefined, 'a header of the client is one of the answer');
    // The answer of Node itself to a request without a host is bare.
    const isBare = request.raw !== null && body.length === 0 && status === 400;
    if (isBare) return;
    const id = String(headers['x-request-id'] ?? '');
    assert.match(id, /^[\w.:-]{1,128}$/, 'the answer has no request id');
    const path = request.target.split('?')[0] ?? '';
    const hasBody = request.method !== 'HEAD' || request.raw !== null;
    const operation = this.#api.operationAt(request.method, path);
    if (status === 503 && operation !== null && this.#saysUnready(operation, answer)) return;
    if (status >= 400) this.#refusal(path, answer, hasBody);
    else if (request.raw === null && hasBody) this.#success(operation, answer);
  }

  /** The routes for probes say by 503 that the gateway is not ready, each in its own form. */
  #saysUnready(operation: Operation, { body }: Answer): boolean {
    if (operation.path === '/ping') return body.length === 0;
    if (!this.#api.describes(operation, '503', 'application/json')) return false;
    return this.#api.answerErrors(operation, '503', 'application/json', JSON.parse(body.toString())) === null;
  }

  #refusal(path: string, { status, headers, body }: Answer, hasBody: boolean): void {
    assert.ok(status < 500 || status === 503 || status === BUSY_STATUS, `status ${status}: ${body.toString()}`);
    assert.match(String(headers['content-type']), /^application\/json/);
    if (!hasBody) return;
    const value = JSON.parse(body.toString()) as ErrorBody & { type?: string };
    if (/^\/v1\/messages(\/|$)/.test(path)) return this.#claudeRefusal(status, value);
    const errors = this.#api.componentErrors('ErrorResponse', value);
    assert.equal(errors, null, `no error of the API: ${body.toString()}`);
    const { code, message } = value.error;
    assert.ok(isErrorCode(code) && message.length > 0, body.toString());
    // What the parser of HTTP refuses has the statuses of HTTP.
    if (status !== 431 && status !== 408) assert.equal(status, ERRORS[code].http, body.toString());
    if (status >= 500) assert.ok(BUSY.has(code), body.toString());
  }

  #claudeRefusal(status: number, value: ErrorBody): void {
    const errors = this.#api.componentErrors('AnthropicError', value);
    assert.equal(errors, null, `no error of Anthropic's API: ${JSON.stringify(value)}`);
    if (status >= 500) assert.equal(value.error.type, 'overloaded_error', JSON.stringify(value));
  }

  #success(operation: Operation | null, { status, headers, body }: Answer): void {
    if (operation === null) return;
    const contentType = String(headers['content-type'] ?? '').split(';')[0] ?? '';
    if (contentType === 'text/event-stream') return this.#stream(operation, body.toString());
    assert.equal(status, 200);
    if (!this.#api.describes(operation, '200', 'application/json')) return;
    assert.equal(contentType, 'application/json', 'the answer is of a type that is not described');
    const value = JSON.parse(body.toString()) as { status?: unknown; error?: { code?: unknown } };
    const errors = this.#api.answerErrors(operation, '200', contentType, value);
    assert.equal(errors, null, `not as described: ${errors}\n${body.toString().slice(0, 3000)}`);
    assert.ok(!(value.status === 'failed' && value.error?.code === 'server_error'), body.toString());
  }

  #stream(operation: Operation, text: string): void {
    const contentType = 'text/event-stream';
    assert.ok(this.#api.describes(operation, '200', contentType), 'a stream is not described');
    const events = eventData(text);
    let last = '';
    for (const data of events) {
      last = data;
      if (data === '[DONE]') continue;
      const value = JSON.parse(data) as StreamEvent;
      if (value.type === undefined && value.error !== undefined) {
        this.#brokenStream(value as unknown as ErrorBody, data);
        continue;
      }
      const errors = this.#api.answerErrors(operation, '200', contentType, value);
      assert.equal(errors, null, `an event is not as described: ${errors}\n${data.slice(0, 3000)}`);
      assert.ok(!isServersFailure(value), data);
    }
    assert.ok(isEnd(last), `the stream ends with ${last.slice(0, 500)}`);
  }

  #brokenStream(value: ErrorBody, data: string): void {
    assert.equal(this.#api.componentErrors('ErrorResponse', value), null, data);
    const { code } = value.error;
    assert.ok(isErrorCode(code) && (ERRORS[code].http < 500 || BUSY.has(code)), data);
  }
}

interface StreamEvent {
  type?: string;
  error?: { type?: string };
  response?: { error?: { code?: string } | null };
}

function isServersFailure({ type, error, response }: StreamEvent): boolean {
  return (type === 'error' && error?.type === 'api_error') || response?.error?.code === 'server_error';
}

/** Whether the data of an event is the last of a whole stream, or says why it is not whole. */
function isEnd(data: string): boolean {
  return (
    data === '[DONE]' ||
    /^\{"error":|"type":"(message_stop|error|response\.(completed|incomplete|failed|cancelled))"/.test(data)
  );
}

/** The data of a stream of server-sent events; comments are left out. */
function eventData(text: string): string[] {
  return text.split('\n\n').flatMap((event) => {
    const lines = event.split('\n').filter((line) => line.startsWith('data: '));
    return lines.length === 0 ? [] : [lines.map((line) => line.slice(6)).join('\n')];
  });
}
