import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { telemetryOptions, type TelemetryConfig, traceTarget } from './telemetry-options.ts';

const schema = z.object(telemetryOptions);
const given = (values: Partial<TelemetryConfig>): TelemetryConfig => schema.parse(values);

test('without an endpoint there are no traces', () => {
  assert.equal(traceTarget(given({}), {}), null);
  assert.equal(traceTarget(given({}), { OTEL_EXPORTER_OTLP_ENDPOINT: '' }), null);
});

test('protocol and path follow from the endpoint, and can be said outright', () => {
  const target = (otlpEndpoint: string, otlpProtocol: TelemetryConfig['otlpProtocol'] = 'auto') => {
    const { url, protocol } = traceTarget(given({ otlpEndpoint, otlpProtocol }), {}) ?? {};
    return [protocol, url];
  };
  assert.deepEqual(target('http://10.0.0.1:4317'), ['grpc', 'http://10.0.0.1:4317/']);
  assert.deepEqual(target('https://collector.example'), ['grpc', 'https://collector.example/']);
  assert.deepEqual(target('http://10.0.0.1:4318'), ['http/protobuf', 'http://10.0.0.1:4318/v1/traces']);
  assert.deepEqual(target('http://c/otlp/'), ['http/protobuf', 'http://c/otlp/v1/traces']);
  assert.deepEqual(target('http://c/v1/traces'), ['http/protobuf', 'http://c/v1/traces']);
  assert.deepEqual(target('http://c:9', 'http/protobuf'), ['http/protobuf', 'http://c:9/v1/traces']);
  assert.deepEqual(target('http://c:4318', 'grpc'), ['grpc', 'http://c:4318/']);
});

test('the standard variables count where our options are silent', () => {
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a:4317',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
    OTEL_TRACES_SAMPLER_ARG: '0.25',
  };
  const expected = { url: 'http://a:4317/v1/traces', protocol: 'http/protobuf', ratio: 0.25 };
  assert.deepEqual(traceTarget(given({}), env), expected);
  const own = given({ otlpEndpoint: 'http://b:4317', otlpProtocol: 'grpc', traceRatio: 0.5 });
  assert.deepEqual(traceTarget(own, env), { url: 'http://b:4317/', protocol: 'grpc', ratio: 0.5 });
  const exact = { ...env, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://c:1/here' };
  assert.equal(traceTarget(given({}), exact)?.url, 'http://c:1/here');
  assert.equal(traceTarget(given({}), { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a:4317' })?.ratio, 0.01);
  for (const off of [{ OTEL_SDK_DISABLED: 'true' }, { OTEL_TRACES_EXPORTER: 'none' }])
    assert.equal(traceTarget(own, { ...env, ...off }), null);
});

test('what is no endpoint, protocol or ratio is refused by its name', () => {
  for (const bad of ['collector:4317', 'ftp://c', 'http://localhost:4317', 'http://u:p@c:4317'])
    assert.equal(schema.safeParse({ otlpEndpoint: bad }).success, false, bad);
  assert.equal(schema.safeParse({ traceRatio: 1.5 }).success, false);
  const base = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a:4317' };
  for (const [env, field] of [
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'a:4317' }, 'otlpEndpoint'],
    [{ ...base, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }, 'otlpProtocol'],
    [{ ...base, OTEL_TRACES_SAMPLER_ARG: 'most' }, 'traceRatio'],
  ] as const) {
    const refused = { code: 'config_invalid', field };
    assert.throws(() => traceTarget(given({}), env), refused);
  }
});
