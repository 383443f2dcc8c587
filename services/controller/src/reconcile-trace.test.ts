import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics, NO_TRACING, openTracing, systemClock, telemetryOptions } from '@guildhall/common';
import { OtlpSink, silentLogger } from '@guildhall/common/testing';
import { z } from 'zod';
import { ReconcileTraces } from './reconcile-trace.ts';

const quiet = { action: 'unchanged', epoch: 3, reason: 'the placement is right' };

test('what did something is a trace, what found everything right is none', async (t) => {
  const sink = await OtlpSink.start();
  t.after(() => sink.close());
  const config = z.object(telemetryOptions).parse({ otlpEndpoint: sink.grpcUrl, traceRatio: 0 });
  const parts = { service: 'controller', id: 'controller-1', env: {}, clock: systemClock, logger: silentLogger() };
  const tracing = await openTracing({ ...parts, config, metrics: createMetrics('controller') });
  const [traces, scaling] = [
    new ReconcileTraces(tracing, systemClock),
    new ReconcileTraces(tracing, systemClock, 'autoscale'),
  ];
  traces.begin();
  traces.end(quiet);
  traces.begin();
  scaling.begin();
  const planned = await traces.part(
    'plan placement',
    () => Promise.resolve(5),
    (moves) => ({ moves }),
  );
  assert.equal(planned, 5);
  const { traceId } = scaling.event('autoscaler', 'expert-a from 1 to 2 replicas');
  traces.end({ ...quiet, action: 'published' });
  scaling.end(null);
  scaling.begin();
  scaling.end(null);
  assert.deepEqual(traces.event('leader', 'controller-1 leads'), {});
  traces.begin();
  traces.failed('peer_unavailable');
  traces.end(null);
  assert.equal(tracing.numOpen, 0);
  await tracing.shutDown();
  assert.deepEqual(sink.spans.map(({ name }) => name).toSorted(), [
    'autoscale',
    'plan placement',
    'reconcile',
    'reconcile',
  ]);
  const scaled = sink.spans.find((span) => span.traceId === traceId);
  assert.deepEqual([scaled?.name, scaled?.events.length], ['autoscale', 1]);
  const published = sink.spans.find(({ attributes }) => attributes['guildhall.action'] === 'published');
  assert.deepEqual([published?.attributes['guildhall.epoch'], published?.events], [3, []]);
});

test('without a collector nothing is kept of it', () => {
  const traces = new ReconcileTraces(NO_TRACING, systemClock);
  traces.begin();
  assert.deepEqual(traces.event('placement', 'epoch 4'), {});
  traces.end(quiet);
});
