import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { z } from 'zod';
import { FakeClock, systemClock } from '../clock.ts';
import { createMetrics } from '../metrics.ts';
import { OtlpSink, silentLogger } from '../testing/index.ts';
import { openTracing } from './open-tracing.ts';
import { telemetryOptions, type TelemetryConfig } from './telemetry-options.ts';
import type { Tracing } from './tracing.ts';

const schema = z.object(telemetryOptions);

function configOf(changes: Partial<TelemetryConfig>): TelemetryConfig {
  return { ...schema.parse({}), ...changes };
}

async function open(changes: Partial<TelemetryConfig>, env: Record<string, string> = {}) {
  const metrics = createMetrics('gateway');
  const options = { service: 'gateway', id: 'gateway-1', clock: systemClock, logger: silentLogger(), metrics };
  const tracing = await openTracing({ ...options, config: configOf({ traceRatio: 1, ...changes }), env });
  return { tracing, metrics };
}

/** The number that a metric has now. */
async function valueOf(metrics: ReturnType<typeof createMetrics>, line: string): Promise<number> {
  const { body } = await metrics.render();
  return Number(
    body
      .split('\n')
      .find((row) => row.startsWith(`${line} `))
      ?.slice(line.length + 1) ?? Number.NaN,
  );
}

const CALLER = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

for (const protocol of ['grpc', 'http'] as const) {
  test(`spans reach a collector over ${protocol}`, async (t) => {
    const sink = await OtlpSink.start();
    t.after(() => sink.close());
    const { tracing, metrics } = await open({ otlpEndpoint: protocol === 'grpc' ? sink.grpcUrl : sink.httpUrl });
    const { span, traceparent } = tracing.begin('chat tiny', { parent: CALLER, role: 'server', attributes: { n: 2 } });
    assert.ok(span !== null);
    assert.equal(traceparent, span.traceparent);
    const child = span.child('step', { links: [CALLER], attributes: { 'guildhall.layer': 3, left: undefined } });
    child.event('resumed', { router: 'router-2' });
    child.fail('router_lost', 'it went away');
    span.record('queue', systemClock.monotonicMs() - 5, systemClock.monotonicMs());
    assert.equal(tracing.numOpen, 2);
    child.end();
    child.end();
    span.end();
    assert.equal(tracing.numOpen, 0);
    await tracing.shutDown();
    assert.equal(sink.spans.length, 3);
    const [request, step, queue] = ['chat tiny', 'step', 'queue'].map((name) => sink.named(name)[0]);
    assert.ok(request !== undefined && step !== undefined && queue !== undefined);
    assert.equal(request.traceId, '0af7651916cd43dd8448eb211c80319c');
    assert.equal(request.parentSpanId, 'b7ad6b7169203331');
    assert.equal(request.kind, 2);
    assert.deepEqual(request.attributes, { n: 2 });
    assert.equal(request.resource['service.name'], 'guildhall-gateway');
    assert.equal(request.resource['service.instance.id'], 'gateway-1');
    assert.equal(step.parentSpanId, request.spanId);
    assert.deepEqual(step.links, [{ traceId: request.traceId, spanId: 'b7ad6b7169203331' }]);
    assert.deepEqual(step.attributes, { 'guildhall.layer': 3, 'error.type': 'router_lost' });
    assert.equal(step.status, 2);
    assert.equal(step.statusMessage, 'it went away');
    assert.deepEqual(step.events, [{ name: 'resumed', attributes: { router: 'router-2' } }]);
    assert.ok(queue.endNs - queue.startNs >= 4_900_000n && queue.endNs <= request.endNs);
    assert.equal(await valueOf(metrics, 'guildhall_trace_spans_exported_total'), 3);
  });
}

test('a caller that does not sample is obeyed, and its trace is passed on', async (t) => {
  const sink = await OtlpSink.start();
  t.after(() => sink.close());
  const { tracing } = await open({ otlpEndpoint: sink.grpcUrl });
  const head = tracing.begin('chat', { parent: `${CALLER.slice(0, -2)}00` });
  assert.equal(head.span, null);
  assert.match(head.traceparent, /^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00$/);
  assert.equal(tracing.join('expert', head.traceparent), null);
  assert.equal(tracing.join('expert', null), null);
  assert.equal(tracing.join('expert', 'nonsense'), null);
  await tracing.shutDown();
  assert.equal(sink.numRequests, 0);
});

test('the ratio holds for new traces; those of their own are always recorded', async (t) => {
  const sink = await OtlpSink.start();
  t.after(() => sink.close());
  const { tracing } = await open({ otlpEndpoint: sink.grpcUrl, traceRatio: 0 });
  assert.equal(tracing.begin('chat').span, null);
  const span = tracing.own('reconcile');
  assert.ok(span !== null);
  span.child('plan').end();
  span.end();
  await tracing.shutDown();
  assert.deepEqual(sink.spans.map(({ name }) => name).toSorted(), ['plan', 'reconcile']);
});

test('what is open when the process drains is ended with a status', async (t) => {
  const sink = await OtlpSink.start();
  t.after(() => sink.close());
  const { tracing } = await open({ otlpEndpoint: sink.grpcUrl });
  tracing.begin('chat').span?.child('generate');
  assert.equal(tracing.numOpen, 2);
  await tracing.shutDown();
  assert.equal(tracing.numOpen, 0);
  assert.equal(sink.spans.length, 2);
  for (const span of sink.spans) assert.equal(span.attributes['error.type'], 'cancelled');
});

test('what a span carries is bounded', async (t) => {
  const sink = await OtlpSink.start();
  t.after(() => sink.close());
  const { tracing } = await open({ otlpEndpoint: sink.grpcUrl });
  const { span } = tracing.begin('chat', { links: Array.from({ length: 500 }, () => CALLER) });
  assert.ok(span !== null);
  for (let i = 0; i < 500; i++) {
    span.event('token');
    span.set({ [`a${i}`]: 'x'.repeat(5000) });
  }
  span.end();
  await tracing.shutDown();
  const [got] = sink.spans;
  assert.ok(got !== undefined);
  assert.ok(got.events.length <= 64 && got.links.length <= 128 && Object.keys(got.attributes).length <= 64);
  for (const text of Object.values(got.attributes)) assert.equal((text as string).length, 1024);
});

async function deadPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function spans(tracing: Tracing, count: number): void {
  for (let i = 0; i < count; i++) tracing.begin('chat').span?.end();
}

test('a collector that is away costs a bounded queue and a counter', async () => {
  const clock = new FakeClock();
  const metrics = createMetrics('gateway');
  const tracing = await openTracing({
    config: configOf({ traceRatio: 1, otlpEndpoint: `http://127.0.0.1:${await deadPort()}/x` }),
    service: 'gateway',
    id: 'gateway-1',
    clock,
    logger: silentLogger(),
    metrics,
    env: {},
  });
  spans(tracing, 10_000);
  assert.equal(await valueOf(metrics, 'guildhall_trace_spans_dropped_total{reason="queue_full"}'), 10_000 - 8192);
  const ended = tracing.shutDown();
  await clock.advance(60_000);
  await ended;
  assert.equal(await valueOf(metrics, 'guildhall_trace_spans_dropped_total{reason="export_failed"}'), 8192);
});

test('without a collector the SDK is not loaded', () => {
  const script = `
    const { openTracing, NO_TRACING, createMetrics, systemClock, createLogger } = await import('@guildhall/common');
    const logger = createLogger({ service: 'x', id: null, level: 'silent' });
    const config = { otlpEndpoint: null, otlpProtocol: 'auto', traceRatio: null, traceStepRatio: 0.02, traceContent: false };
    const options = { config, service: 'x', id: 'x', clock: systemClock, logger, metrics: createMetrics('router') };
    for (const env of [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_SDK_DISABLED: 'true' }])
      if ((await openTracing({ ...options, env })) !== NO_TRACING) throw new Error('traces are on');
  `;
  const hook = `
    import { registerHooks } from 'node:module';
    registerHooks({ resolve(specifier, context, next) {
      if (/^@opentelemetry[/](?!api)/.test(specifier)) throw new Error('loaded ' + specifier);
      return next(specifier, context);
    } });
  `;
  const preload = `data:text/javascript,${encodeURIComponent(hook)}`;
  const args = ['--import', preload, '--input-type=module', '--eval', script];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: import.meta.dirname });
  assert.equal(status, 0, stderr);
});
