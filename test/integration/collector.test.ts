import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createMetrics, openTracing, systemClock, telemetryOptions } from '@guildhall/common';
import { eventually, freePort, OtlpSink, silentLogger } from '@guildhall/common/testing';
import { z } from 'zod';

/** A build of OpenTelemetry's collector with the receiver and the exporter `otlp`; without it these tests are skipped. */
const BINARY = process.env['GUILDHALL_OTELCOL'];
const skip = BINARY === undefined ? 'set GUILDHALL_OTELCOL to the path of a collector' : false;

let sink: OtlpSink;
let collector: ChildProcess | null = null;
let ports: { grpc: number; http: number };
const dir = mkdtempSync(join(tmpdir(), 'guildhall-collector-'));

function configuration(): string {
  const receivers = { otlp: { protocols: { grpc: at(ports.grpc), http: at(ports.http) } } };
  const exporters = { otlp: { endpoint: sink.grpcUrl.replace('http://', ''), tls: { insecure: true } } };
  const pipelines = { traces: { receivers: ['otlp'], exporters: ['otlp'] } };
  const telemetry = { metrics: { level: 'none' } };
  return JSON.stringify({ receivers, exporters, service: { pipelines, telemetry } });
}

function at(port: number): { endpoint: string } {
  return { endpoint: `127.0.0.1:${port}` };
}

before(async () => {
  if (BINARY === undefined) return;
  sink = await OtlpSink.start();
  ports = { grpc: await freePort(), http: await freePort() };
  const path = join(dir, 'collector.yaml');
  writeFileSync(path, configuration());
  collector = spawn(BINARY, ['--config', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  collector.stderr?.on('data', (data: Buffer) => (said += data.toString()));
  await eventually(() => said.includes('Everything is ready'), 'the collector runs');
});
after(async () => {
  if (collector !== null && collector.exitCode === null) {
    collector.kill();
    await once(collector, 'exit');
  }
  await sink?.close();
  rmSync(dir, { recursive: true });
});

for (const protocol of ['grpc', 'http'] as const) {
  test(`OpenTelemetry's collector takes our spans over ${protocol}, and passes them on whole`, { skip }, async () => {
    const otlpEndpoint = `http://127.0.0.1:${ports[protocol]}${protocol === 'http' ? '/v1/traces' : ''}`;
    const config = z.object(telemetryOptions).parse({ otlpEndpoint, traceRatio: 1 });
    const metrics = createMetrics('gateway');
    const parts = { service: 'gateway', id: 'gateway-1', env: {}, clock: systemClock, logger: silentLogger() };
    const tracing = await openTracing({ ...parts, config, metrics });
    const { span } = tracing.begin(`chat over ${protocol}`, { role: 'server', attributes: { n: 3, stream: true } });
    assert.ok(span !== null);
    const child = span.child('expert call', { role: 'client', links: [span.traceparent] });
    child.fail('peer_unavailable', 'gone');
    child.end();
    span.end();
    await tracing.shutDown();
    assert.match((await metrics.render()).body, /guildhall_trace_spans_exported_total 2/);
    await sink.wait((spans) => spans.filter(({ traceId }) => traceId === span.traceId).length === 2);
    const got = sink.spans.filter(({ traceId }) => traceId === span.traceId);
    const [call, chat] = ['expert call', `chat over ${protocol}`].map((name) => got.find((one) => one.name === name));
    assert.deepEqual(chat?.attributes, { n: 3, stream: true });
    assert.equal(call?.parentSpanId, chat?.spanId);
    assert.deepEqual([call?.status, call?.links.length, call?.kind], [2, 1, 3]);
    assert.equal(call?.resource['service.name'], 'guildhall-gateway');
  });
}
