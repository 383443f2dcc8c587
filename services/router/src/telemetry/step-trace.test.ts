import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics, openTracing, systemClock, telemetryOptions, type Tracing } from '@guildhall/common';
import { OtlpSink, silentLogger, type SinkSpan } from '@guildhall/common/testing';
import { z } from 'zod';
import type { Sequence } from '../sequence.ts';
import { SequenceTrace } from './sequence-trace.ts';
import { StepTrace, type TracedBatch, type TracedCall } from './step-trace.ts';

async function traced(t: { after: (fn: () => Promise<void>) => void }): Promise<{ sink: OtlpSink; tracing: Tracing }> {
  const sink = await OtlpSink.start();
  t.after(() => sink.close());
  const config = z.object(telemetryOptions).parse({ otlpEndpoint: sink.grpcUrl, traceRatio: 1 });
  const parts = { service: 'router', id: 'router-1', env: {}, clock: systemClock, logger: silentLogger() };
  const tracing = await openTracing({ ...parts, config, metrics: createMetrics('router') });
  return { sink, tracing };
}

function sequence(tracing: Tracing | null, everyStep: number): { trace: SequenceTrace | null } {
  const span = tracing?.begin('generate').span ?? null;
  return { trace: span === null ? null : new SequenceTrace(span, everyStep) };
}

/** A decode step of these sequences. */
function batchOf(sequences: { trace: SequenceTrace | null }[], step = 1): TracedBatch {
  const items = sequences.map((seq) => ({ seq: seq as Sequence, chunk: { count: 1 } }));
  return { lane: 'decode', step, index: 0, items };
}

const CALL: TracedCall = { worker: 'expert-1', layer: 0, lane: 'decode', kind: 'first', attempt: 0, part: 0, rows: 1 };
const ended = { reason: 'stop', promptTokens: 1, completionTokens: 1, cachedTokens: 0 };
const named = (sink: OtlpSink, name: string): SinkSpan[] => sink.spans.filter((span) => span.name === name);

test('the first of every so many steps of a sequence gets a span, up to a limit', async (t) => {
  const { sink, tracing } = await traced(t);
  const seq = sequence(tracing, 3);
  const chosen: number[] = [];
  for (let step = 0; step < 1000; step++) {
    const trace = StepTrace.begin(batchOf([seq], step));
    if (trace !== null) chosen.push(step);
    trace?.end();
  }
  assert.deepEqual(
    chosen,
    Array.from({ length: 64 }, (_, i) => 3 * i),
  );
  seq.trace?.finished(ended);
  assert.equal(tracing.numOpen, 0);
  await tracing.shutDown();
  assert.equal(named(sink, 'decode step').length, 64);
  assert.equal(named(sink, 'generate')[0]?.attributes['guildhall.steps'], 1000);
});

test('a step belongs to whoever elects it, and links to every traced sequence', async (t) => {
  const { sink, tracing } = await traced(t);
  const [early, late, untraced] = [sequence(tracing, 2), sequence(tracing, 2), sequence(null, 2)];
  StepTrace.begin(batchOf([early]))?.end();
  const step = StepTrace.begin(batchOf([untraced, early, late], 2));
  assert.ok(step !== null, 'the first step of the later one');
  step.call(CALL)?.dropped();
  step.end();
  assert.equal(StepTrace.begin(batchOf([untraced, untraced])), null);
  for (const seq of [early, late]) seq.trace?.finished(ended);
  await tracing.shutDown();
  const second = named(sink, 'decode step').find(({ attributes }) => attributes['guildhall.step'] === 2);
  const generates = named(sink, 'generate');
  assert.equal(second?.traceId, generates[1]?.traceId);
  assert.deepEqual(new Set(second?.links.map(({ traceId }) => traceId)), new Set(generates.map((s) => s.traceId)));
  assert.equal(second?.attributes['guildhall.sequences'], 3);
  assert.equal(named(sink, 'expert call')[0]?.parentSpanId, second?.spanId);
});

test('messages of one step and chunks of one prompt are bounded', async (t) => {
  const { sink, tracing } = await traced(t);
  const seq = sequence(tracing, 1);
  seq.trace?.admitted(0);
  const step = StepTrace.begin(batchOf([seq]));
  for (let i = 0; i < 3000; i++) step?.call(CALL)?.lost();
  step?.end();
  for (let i = 0; i < 200; i++) seq.trace?.chunk(i, i + 1, 64 * i, 64);
  seq.trace?.finished(ended);
  await tracing.shutDown();
  assert.equal(named(sink, 'expert call').length, 1024);
  assert.equal(named(sink, 'prefill chunk').length, 64);
  assert.equal(named(sink, 'decode step')[0]?.attributes['guildhall.messages'], 3000);
  assert.equal(named(sink, 'expert call')[0]?.attributes['error.type'], 'peer_unavailable');
});

test('a ratio of 0 gives no steps, and phases follow one another through a preemption', async (t) => {
  const { sink, tracing } = await traced(t);
  const seq = sequence(tracing, 0);
  assert.equal(StepTrace.begin(batchOf([seq])), null);
  seq.trace?.admitted(128);
  seq.trace?.enter('decode');
  seq.trace?.enter('decode');
  seq.trace?.preempted('swap');
  seq.trace?.enter('decode');
  seq.trace?.moved(true);
  assert.equal(tracing.numOpen, 0);
  await tracing.shutDown();
  const phases = sink.spans.filter(({ name }) => name !== 'generate').toSorted((a, b) => (a.endNs < b.endNs ? -1 : 1));
  assert.deepEqual(
    phases.map(({ name }) => name),
    ['queue', 'prefill', 'decode', 'queue', 'decode'],
  );
  assert.equal(phases[0]?.attributes['guildhall.cached_tokens'], 128);
  const [generate] = named(sink, 'generate');
  assert.deepEqual(
    generate?.events.map(({ name }) => name),
    ['preempted', 'moved'],
  );
});
