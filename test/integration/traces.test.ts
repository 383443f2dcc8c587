import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Cluster as RedisCluster, systemClock } from '@guildhall/common';
import { OtlpSink, silentLogger, type SinkSpan } from '@guildhall/common/testing';
import { Cluster } from '../harness/cluster.ts';
import type { ServiceProcess } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';

/** Requests decide themselves whether they are traced; every fourth step of one that is gets spans. */
const TRACING = { GUILDHALL_TRACE_RATIO: '0', GUILDHALL_TRACE_STEP_RATIO: '0.25', GUILDHALL_LOG_LEVEL: 'debug' };
const SECRET = 'Quixotic zebras';

let sink: OtlpSink;
let cluster: Cluster;

before(async () => {
  sink = await OtlpSink.start();
  cluster = await Cluster.start({
    workers: 2,
    routers: 2,
    routerArgs: ['--drain-ms', '9000'],
    gatewayArgs: ['--resume-timeout-ms', '60000'],
    env: { ...TRACING, GUILDHALL_OTLP_ENDPOINT: sink.grpcUrl },
  });
});
after(async () => {
  await cluster?.stop();
  await sink?.close();
});

interface Caller {
  traceId: string;
  spanId: string;
  headers: Record<string, string>;
}

/** A caller with a trace of its own. */
function caller(sampled = true): Caller {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  return { traceId, spanId, headers: { traceparent: `00-${traceId}-${spanId}-${sampled ? '01' : '00'}` } };
}

/** Streams an answer; `during` runs once after the fourth token. */
async function ask(
  from: Caller | null,
  maxTokens: number,
  during: () => unknown = () => undefined,
): Promise<{ token: string; logprob: number }[]> {
  const body = {
    model: 'tiny',
    messages: [{ role: 'user' as const, content: `${SECRET} write a story.` }],
    max_tokens: maxTokens,
    temperature: 0.8,
    seed: 7,
    logprobs: true,
    stream: true as const,
    ignore_eos: true,
  };
  const tokens: { token: string; logprob: number }[] = [];
  for await (const { choices } of await cluster.client().chat.completions.create(body, { headers: from?.headers })) {
    const before = tokens.length;
    for (const { token, logprob } of choices[0]?.logprobs?.content ?? []) tokens.push({ token, logprob });
    if (before < 4 && tokens.length >= 4) await during();
  }
  return tokens;
}

const named = (spans: readonly SinkSpan[], name: string): SinkSpan[] => spans.filter((span) => span.name === name);

/**
 * The trace once it is whole. A process sends its spans in the order in which they ended, so that with the span of its part
 * everything of it has come: the gateway's request, a router's sequence, a worker's answer to each message.
 */
async function traceOf({ traceId }: Caller): Promise<SinkSpan[]> {
  const own = (): SinkSpan[] => sink.spans.filter((span) => span.traceId === traceId);
  await sink.wait(() => {
    const spans = own();
    const known = new Set(spans.map(({ spanId }) => spanId));
    const calls = named(spans, 'expert call').filter(({ attributes }) => attributes['guildhall.status'] === 'ok');
    const served = new Set(named(spans, 'expert forward').map(({ parentSpanId }) => parentSpanId));
    const whole = spans.every(({ name, parentSpanId }) => name === 'chat tiny' || known.has(parentSpanId));
    const generated = new Set(named(spans, 'generate').map(({ parentSpanId }) => parentSpanId));
    const attempts = named(spans, 'call router').every(({ spanId }) => generated.has(spanId));
    const answered = calls.every(({ spanId }) => served.has(spanId));
    return named(spans, 'chat tiny').length === 1 && attempts && answered && whole;
  });
  return own();
}

/** Names from the root down to a span. */
function pathOf(span: SinkSpan, spans: readonly SinkSpan[]): string {
  const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
  return parent === undefined ? span.name : `${pathOf(parent, spans)} > ${span.name}`;
}

function processes(): ServiceProcess[] {
  return [cluster.gateway, cluster.controller, ...cluster.routers, ...cluster.experts].filter(({ running }) => running);
}

test('a request is one trace, from HTTP to the workers', async () => {
  const from = caller();
  await ask(from, 12);
  const spans = await traceOf(from);
  const paths = new Set(spans.map((span) => pathOf(span, spans)));
  const request = 'chat tiny > call router > generate';
  for (const path of [
    'chat tiny > tokenize',
    'chat tiny > choose router',
    `${request} > queue`,
    `${request} > prefill > prefill chunk`,
    `${request} > prefill > prefill step > expert call > expert forward`,
    `${request} > decode > decode step > expert call > expert forward`,
  ])
    assert.ok(paths.has(path), `${path} is missing in\n${[...paths].join('\n')}`);
  const root = named(spans, 'chat tiny')[0];
  assert.ok(root !== undefined);
  assert.equal(root.parentSpanId, from.spanId);
  assert.equal(root.attributes['gen_ai.usage.output_tokens'], 12);
  assert.deepEqual(root.attributes['gen_ai.response.finish_reasons'], ['length']);
  // 1 prefill step, 11 decode steps: numbers 0, 4 and 8 of the request's steps.
  assert.equal(named(spans, 'prefill step').length, 1);
  assert.equal(named(spans, 'decode step').length, 2);
  for (const forward of named(spans, 'expert forward')) {
    const call = spans.find(({ spanId }) => spanId === forward.parentSpanId);
    assert.equal(call?.attributes['guildhall.worker'], forward.resource['service.instance.id']);
    assert.equal(call?.attributes['guildhall.layer'], forward.attributes['guildhall.layer']);
    assert.equal(call?.attributes['guildhall.compute_us'], forward.attributes['guildhall.compute_us']);
    assert.ok((call?.attributes['guildhall.bytes.sent'] as number) > 0);
  }
  for (const span of spans) assert.ok(span.endNs >= span.startNs && span.status !== 2, `${span.name} ended well`);
});

test('a step of several requests is one span with links to them', async () => {
  const callers = Array.from({ length: 4 }, () => caller());
  await Promise.all(callers.map((from) => ask(from, 60)));
  const traces = await Promise.all(callers.map((from) => traceOf(from)));
  const steps = traces.flatMap((spans) => named(spans, 'decode step'));
  const shared = steps.filter(({ links }) => new Set(links.map(({ traceId }) => traceId)).size > 1);
  assert.ok(shared.length > 0, 'some steps have several traced requests');
  for (const { links, attributes } of shared) {
    assert.ok(links.length <= (attributes['guildhall.sequences'] as number));
    for (const link of links) {
      const spans = traces.find(([span]) => span?.traceId === link.traceId);
      assert.ok(spans !== undefined, 'links lead to the requests of the step');
      const linked = spans.find(({ spanId }) => spanId === link.spanId);
      assert.ok(linked !== undefined && ['decode', 'prefill', 'queue'].includes(linked.name));
    }
  }
});

test('tokens are the same traced, untraced and refused; what is not sampled is not sent', async () => {
  const [refused, traced] = [caller(false), caller()];
  const untraced = await ask(null, 20);
  assert.deepEqual(await ask(refused, 20), untraced);
  assert.deepEqual(await ask(traced, 20), untraced);
  // Each process sends its spans in their order: those of the others would be there.
  await traceOf(traced);
  assert.deepEqual(
    sink.spans.filter(({ traceId }) => traceId === refused.traceId),
    [],
  );
});

test('logs of a request carry its trace, and neither logs nor traces its text', async () => {
  const from = caller();
  const tokens = await ask(from, 12);
  await traceOf(from);
  await until('the line of the request', () => Promise.resolve(cluster.gateway.output.includes(from.traceId)));
  const line = cluster.gateway.output.split('\n').find((text) => text.includes(from.traceId)) ?? '{}';
  const { trace_id, span_id, request } = JSON.parse(line) as Record<string, string>;
  assert.equal(trace_id, from.traceId);
  assert.equal(named(sink.spans, 'chat tiny').find((span) => span.traceId === trace_id)?.spanId, span_id);
  assert.match(request ?? '', /^req_/);
  const said = JSON.stringify(sink.spans, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));
  const text = tokens.map(({ token }) => token).join('');
  for (const secret of [SECRET, text.slice(0, 12)]) assert.ok(!said.includes(secret), `"${secret}" is in a trace`);
  for (const process of processes())
    assert.ok(!process.output.includes(SECRET), `${process.spec.service} logs a prompt`);
});

test('a stream that is moved, and one that is resumed, stay in their traces', async () => {
  const running = async (number: number): Promise<number> =>
    cluster.metric(cluster.router(number), 'vllm:num_requests_running');
  // Gauges are set once a second.
  const serving = (): Promise<number> =>
    until('one router to run it', async () => {
      const [first, second] = await Promise.all([running(1), running(2)]);
      return first > 0 === second > 0 ? null : first > 0 ? 1 : 2;
    });
  for (const [signal, outcome] of [
    ['SIGTERM', 'moved'],
    ['SIGKILL', 'failed'],
  ] as const) {
    const from = caller();
    let left = 0;
    const tokens = await ask(from, 200, async () => {
      left = await serving();
      cluster.router(left).kill(signal);
    });
    assert.equal(tokens.length, 200);
    await cluster.router(left).exit();
    const own = (): SinkSpan[] => sink.spans.filter(({ traceId }) => traceId === from.traceId);
    // Each process sends its spans when it likes. The one that was killed says nothing more.
    const awaited = outcome === 'moved' ? { generate: 2, 'take over': 1, 'serve pages': 1 } : { generate: 1 };
    const missing = (): string[] =>
      Object.entries({ 'chat tiny': 1, ...awaited }).flatMap(([name, count]) =>
        named(own(), name).length >= count ? [] : [name],
      );
    await until(`all spans of a stream that was ${outcome}`, () => {
      if (missing().length > 0) throw new Error(`${missing().join(', ')} missing`);
      return Promise.resolve(true);
    });
    const attempts = named(own(), 'call router').toSorted((a, b) => Number(a.startNs - b.startNs));
    assert.deepEqual(
      attempts.map(({ attributes }) => attributes['guildhall.outcome']),
      [outcome, 'finished'],
    );
    const routers = attempts.map(({ attributes }) => attributes['guildhall.router']);
    assert.deepEqual(routers, [`router-${left}`, `router-${3 - left}`]);
    const root = named(own(), 'chat tiny')[0];
    for (const attempt of attempts) assert.equal(attempt.parentSpanId, root?.spanId);
    const last = named(own(), 'generate').find(({ parentSpanId }) => parentSpanId === attempts[1]?.spanId);
    assert.equal(last?.resource['service.instance.id'], `router-${3 - left}`);
    if (outcome === 'moved') {
      const first = named(own(), 'generate').find(({ parentSpanId }) => parentSpanId === attempts[0]?.spanId);
      assert.ok(first?.events.some(({ name }) => name === 'moved'));
      const taken = named(own(), 'take over')[0];
      const served = named(own(), 'serve pages').find(({ parentSpanId }) => parentSpanId === taken?.spanId);
      assert.equal(taken?.attributes['guildhall.taken_over'], true);
      assert.equal(served?.resource['service.instance.id'], `router-${left}`);
    } else assert.equal(attempts[0]?.attributes['error.type'], 'peer_unavailable');
    await cluster.restartRouter(left);
  }
});

test('placements are traces of their own, and events lead to them', async () => {
  const options = { redis: cluster.redis.url, cluster: 'test', clock: systemClock, logger: silentLogger() };
  const reader = new RedisCluster(options);
  await reader.start();
  const placed = (await reader.eventLog.read()).find(({ kind }) => kind === 'placement');
  await reader.close();
  const traceId = placed?.details['traceId'];
  assert.equal(typeof traceId, 'string');
  await sink.wait((spans) => spans.some((span) => span.traceId === traceId && span.name === 'reconcile'));
  const spans = sink.spans.filter((span) => span.traceId === traceId);
  assert.equal(named(spans, 'reconcile')[0]?.attributes['guildhall.action'], 'published');
  assert.equal(named(spans, 'plan placement').length, 1);
});

test('a client that leaves ends its trace', async () => {
  const from = caller();
  const abort = new AbortController();
  const body = {
    model: 'tiny',
    messages: [{ role: 'user' as const, content: 'Go on for long.' }],
    max_tokens: 2000,
    stream: true as const,
    ignore_eos: true,
  };
  const stream = await cluster.client().chat.completions.create(body, { headers: from.headers, signal: abort.signal });
  for await (const { choices } of stream) if (choices.length > 0) abort.abort();
  const own = (name: string): SinkSpan | undefined =>
    sink.spans.find((span) => span.traceId === from.traceId && span.name === name);
  await sink.wait(() => own('chat tiny') !== undefined && own('generate') !== undefined);
  assert.equal(own('chat tiny')?.attributes['error.type'], 'cancelled');
  assert.equal(own('generate')?.attributes['error.type'], 'cancelled');
});

test('after all of it no span is open, and none was lost', async () => {
  for (const process of processes()) {
    const open = (): Promise<number> => cluster.metric(process, 'guildhall_trace_spans_open');
    await until(`${process.spec.service} to have ended its spans`, async () => (await open()) === 0);
    assert.equal(await cluster.metric(process, 'guildhall_trace_spans_dropped_total'), 0);
  }
});
