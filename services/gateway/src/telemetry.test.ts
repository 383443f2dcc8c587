import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fail } from '@guildhall/common';
import { OtlpSink, type SinkSpan } from '@guildhall/common/testing';
import type { FakeScript } from '../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let sink: OtlpSink;
let gateway: GatewayUnderTest;
let script: FakeScript;

before(async () => {
  sink = await OtlpSink.start();
  script = { tokens: await tokensOf('An answer of several words.') };
  gateway = await GatewayUnderTest.start({ otlpEndpoint: sink.httpUrl, traceRatio: 1 }, { script: () => script });
});
after(async () => {
  await gateway.stop();
  await sink.close();
});

const ask = {
  model: 'tiny',
  messages: [{ role: 'user', content: 'A secret question' }],
  temperature: 0.5,
  max_tokens: 40,
};

/** The trace that an answer names, once it is whole. */
async function traceOf(response: Response): Promise<SinkSpan[]> {
  await response.text();
  const [, traceId, spanId] = (response.headers.get('traceparent') ?? '').split('-');
  await sink.wait((spans) => spans.some((span) => span.spanId === spanId));
  return sink.spans.filter((span) => span.traceId === traceId);
}

const named = (spans: readonly SinkSpan[], name: string): SinkSpan | undefined =>
  spans.find((span) => span.name === name);

test('an answer names its trace, which has the GenAI attributes and the context that the router got', async () => {
  const spans = await traceOf(await gateway.fetch('/v1/chat/completions', ask));
  const root = named(spans, 'chat tiny');
  assert.equal(root?.kind, 2);
  assert.equal(root.parentSpanId, '');
  for (const [name, value] of Object.entries({
    'gen_ai.operation.name': 'chat',
    'gen_ai.request.model': 'tiny',
    'gen_ai.request.temperature': 0.5,
    'gen_ai.request.max_tokens': 40,
    'gen_ai.usage.output_tokens': script.tokens.length,
    'http.response.status_code': 200,
    'http.route': '/v1/chat/completions',
  }))
    assert.equal(root.attributes[name], value, name);
  const attempt = named(spans, 'call router');
  assert.equal(gateway.router.calls.at(-1)?.request.traceparent, `00-${attempt?.traceId}-${attempt?.spanId}-01`);
  assert.equal(attempt?.parentSpanId, root.spanId);
  assert.equal(named(spans, 'choose router')?.attributes['guildhall.router'], 'router-1');
  assert.ok(named(spans, 'tokenize') !== undefined);
  assert.ok(!JSON.stringify(spans.map(({ attributes }) => attributes)).includes('secret'));
});

test('errors before and within a stream end the span with their code', async () => {
  const unknown = await traceOf(await gateway.fetch('/v1/chat/completions', { ...ask, model: 'nobody' }));
  assert.deepEqual([unknown[0]?.name, unknown[0]?.attributes['error.type']], ['chat', 'model_not_found']);
  const bad = await traceOf(await gateway.fetch('/v1/completions', { model: 'tiny', prompt: 3 }));
  assert.deepEqual([bad[0]?.name, bad[0]?.status], ['text_completion', 2]);
  const whole = script;
  script = { ...whole, failure: fail('expert_unavailable', 'the message quotes A secret question') };
  const cut = await traceOf(await gateway.fetch('/v1/chat/completions', { ...ask, stream: true }));
  script = whole;
  assert.equal(named(cut, 'chat tiny')?.attributes['error.type'], 'expert_unavailable');
  assert.equal(named(cut, 'call router')?.attributes['error.type'], 'expert_unavailable');
  assert.ok(!cut.some(({ statusMessage }) => statusMessage.includes('secret')));
});

test('a caller that does not sample gets its trace back, and nothing is recorded', async () => {
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`;
  const response = await gateway.fetch('/v1/chat/completions', ask, { headers: { traceparent } });
  await response.text();
  assert.match(response.headers.get('traceparent') ?? '', /^00-a{32}-[0-9a-f]{16}-00$/);
  assert.match(gateway.router.calls.at(-1)?.request.traceparent ?? '', /^00-a{32}-[0-9a-f]{16}-00$/);
  await traceOf(await gateway.fetch('/v1/chat/completions', ask));
  assert.ok(!sink.spans.some(({ traceId }) => traceId === 'a'.repeat(32)));
});

test('content is in traces only where it is asked for', async () => {
  const other = await gateway.another('gateway-2', { otlpEndpoint: sink.httpUrl, traceRatio: 1, traceContent: true });
  try {
    const spans = await traceOf(await other.fetch('/v1/chat/completions', ask));
    const root = named(spans, 'chat tiny');
    assert.match(String(root?.attributes['gen_ai.input.messages']), /A secret question/);
    assert.match(String(root?.attributes['gen_ai.output.messages']), /An answer of several words/);
  } finally {
    await other.stop();
  }
});

test('clients cannot make series: models, paths and methods that do not exist count as one', async () => {
  await (await gateway.fetch('/v1/chat/completions', ask)).text();
  await (await gateway.fetch('/nowhere')).text();
  await (await gateway.fetch('/v1/chat/completions', { ...ask, model: 'other' })).text();
  // Those of the process have a series per kind of garbage collection, which begins with its first.
  const series = async (): Promise<string[]> => {
    const { body } = await gateway.metrics.render();
    return body.split('\n').filter((line) => line !== '' && !/^(#|nodejs_|process_)/.test(line));
  };
  const before = (await series()).length;
  for (let i = 0; i < 30; i++) {
    await (await gateway.fetch('/v1/chat/completions', { ...ask, model: `model-${i}` })).text();
    await (await gateway.fetch(`/path-${i}`)).text();
  }
  const lines = await series();
  assert.equal(lines.length, before);
  assert.ok(lines.length < 1000, `${lines.length} series`);
  assert.ok(!lines.some((line) => line.includes('model-1')));
});

test('the GenAI metrics count a request once, with its operation, model and error', async () => {
  const { body } = await gateway.metrics.render();
  const labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="guildhall",gen_ai_request_model="tiny"';
  const count = (name: string, more = ''): number =>
    Number(
      body
        .split('\n')
        .find((line) => line.startsWith(`${name}_count{${labels}${more}}`))
        ?.split(' ')[1],
    );
  const ended = count('gen_ai_server_request_duration_seconds', ',error_type=""');
  assert.ok(ended >= 4);
  assert.equal(count('gen_ai_client_token_usage', ',gen_ai_token_type="output"'), ended);
  assert.equal(count('gen_ai_server_time_per_output_token_seconds'), ended);
  assert.equal(count('gen_ai_server_request_duration_seconds', ',error_type="expert_unavailable"'), 1);
});
