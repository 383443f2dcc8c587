import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { AnswerReader } from '../client/answer-reader.ts';
import type { Answered, OutgoingRequest, Send } from '../client/http-client.ts';
import type { LoadPoint } from '../points.ts';
import type { PointResult } from '../statistics/point-statistics.ts';
import type { Conversation, Turn, Workload } from '../workload/workload.ts';
import { type PointPlan, PointRun } from './point-run.ts';

/** Conversations of turns without a time to think. */
function workload(
  turns: number,
  options: { count?: number; atMs?: (index: number) => number; thinkMs?: number } = {},
): Workload {
  const { count = Infinity, atMs, thinkMs = 0 } = options;
  return {
    description: 'test',
    timed: atMs !== undefined,
    *conversations(): Generator<Conversation> {
      for (let index = 0; index < count; index++) {
        const one = (turn: number): Turn => {
          const messages = [{ role: 'user', content: `${index}.${turn}` }];
          return { messages, outputTokens: 2, plannedTokens: 1, thinkMs };
        };
        yield { index, atMs: atMs?.(index) ?? null, turns: Array.from({ length: turns }, (_, turn) => one(turn)) };
      }
    },
  };
}

/** A server in the clock's time: the first token after a while, the second one after `gapMs` more. */
class ModelServer {
  readonly requests: OutgoingRequest[] = [];
  readonly sentMs: number[] = [];
  running = 0;
  most = 0;
  firstMs: (number: number) => number = () => 100;
  gapMs = 20;
  fails = false;
  readonly #clock: FakeClock;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  readonly send: Send = async (request, signal) => {
    const number = this.requests.push({ ...request, messages: [...request.messages] }) - 1;
    const sentMs = this.#clock.monotonicMs();
    this.sentMs.push(sentMs);
    this.most = Math.max(this.most, ++this.running);
    const answer = new AnswerReader('chat', request.keepText, request.onText);
    const ended = (failure: Answered['failure']): Answered => {
      this.running--;
      return { sentMs, endMs: this.#clock.monotonicMs(), answer, failure };
    };
    try {
      await this.#clock.sleep(this.firstMs(number), signal);
      if (this.fails) return ended({ kind: 'http_503', message: 'full' });
      this.#say(answer, 'a', null);
      await this.#clock.sleep(this.gapMs, signal);
      this.#say(answer, 'b', 'length');
      return ended(null);
    } catch {
      return ended('aborted');
    }
  };

  #say(answer: AnswerReader, content: string, finish: string | null): void {
    const chunk = JSON.stringify({ choices: [{ delta: { content }, finish_reason: finish }] });
    answer.feed(Buffer.from(`data: ${chunk}\n\n`), this.#clock.monotonicMs());
  }
}

interface Scene {
  clock: FakeClock;
  server: ModelServer;
  abort: AbortController;
  run: (plan: Partial<PointPlan> & { point: LoadPoint }, forMs?: number) => Promise<PointResult>;
}

function scene(): Scene {
  const clock = new FakeClock(0);
  const server = new ModelServer(clock);
  const abort = new AbortController();
  const run: Scene['run'] = async (plan, forMs = 120_000) => {
    const whole: PointPlan = {
      workload: workload(1),
      salt: 's',
      seed: 1,
      arrivals: { shape: 'constant', burstiness: 1 },
      limits: { requests: 20, durationMs: null },
      maxInFlight: 1000,
      slo: null,
      body: { model: 'm', temperature: 0, ignoreEos: true, seed: null, extra: {} },
      ...plan,
    };
    const point = new PointRun(whole, server.send, clock, abort.signal);
    let done = false;
    const running = point.run().finally(() => (done = true));
    for (let passed = 0; passed < forMs && !done; passed += 10) await clock.advance(10);
    assert.ok(done, 'the run has ended');
    await running;
    return point.statistics.result();
  };
  return { clock, server, abort, run };
}

test('an open loop sends when requests are due, whatever the server does', async () => {
  const { server, run } = scene();
  server.firstMs = () => 5000;
  const result = await run({ point: { kind: 'rate', perSecond: 10 } });
  assert.deepEqual(
    server.sentMs,
    Array.from({ length: 20 }, (_, index) => index * 100),
  );
  assert.equal(server.most, 20);
  assert.deepEqual([result.ttftMs.min, result.ttftMs.max, result.itlMs.mean], [5000, 5000, 20]);
  assert.equal(result.requests.succeeded, 20);
});

test('what waits for a place is timed from when it was due: no coordinated omission', async () => {
  const { server, run } = scene();
  // One at a time; the first request stalls for ten seconds while nine more are due, one each 100 ms.
  server.firstMs = (number) => (number === 0 ? 10_000 : 10);
  server.gapMs = 10;
  const result = await run({
    point: { kind: 'rate', perSecond: 10 },
    maxInFlight: 1,
    limits: { requests: 10, durationMs: null },
  });
  assert.equal(server.most, 1);
  // Request k is due at 100 k and is sent when those before it are through: at 10010 + 20 (k - 1).
  assert.deepEqual(server.sentMs, [0, ...Array.from({ length: 9 }, (_, index) => 10_010 + 20 * index)]);
  assert.equal(
    result.ttftMs.min,
    10_010 + 20 * 8 + 10 - 900,
    'the last one waited longest of all to be sent, and least',
  );
  assert.equal(result.lateMs.max, 10_010 - 100);
});

test('a closed loop has as many under way as clients', async () => {
  const { server, run } = scene();
  const result = await run({ point: { kind: 'concurrency', clients: 4 } });
  assert.equal(server.most, 4);
  assert.equal(server.requests.length, 20);
  assert.equal(result.durationS, 0.6, 'five rounds of 120 ms');
  assert.ok(Math.abs(result.concurrency.mean - 4) < 1e-9);
  assert.equal(result.outputTokensPerSecond, 40 / 0.6);
});

test('clients whose requests fail wait a little before the next one', async () => {
  const { server, run } = scene();
  server.fails = true;
  server.firstMs = () => 0;
  const result = await run({
    point: { kind: 'concurrency', clients: 1 },
    limits: { requests: null, durationMs: 1000 },
  });
  assert.equal(result.requests.failed, 4, 'one each 250 ms');
  assert.deepEqual(result.errors, [{ kind: 'http_503', count: 4, examples: ['full'] }]);
});

test('a duration bounds when requests begin; those under way end', async () => {
  const { server, run } = scene();
  server.firstMs = () => 3000;
  const result = await run({ point: { kind: 'rate', perSecond: 5 }, limits: { requests: null, durationMs: 1000 } });
  assert.deepEqual(server.sentMs, [0, 200, 400, 600, 800]);
  assert.equal(result.requests.succeeded, 5);
});

test('a trace is replayed at its times and speed, and ends', async () => {
  const { server, run } = scene();
  const times = [5000, 5100, 5090, 6000];
  const plan = {
    workload: workload(1, { count: 4, atMs: (index) => times[index] as number }),
    limits: { requests: null, durationMs: null },
  };
  await run({ point: { kind: 'replay', speed: 2 }, ...plan });
  assert.deepEqual(server.sentMs, [0, 50, 50, 500], 'from the first time on, never backwards');
});

test('turns wait for the answer before them, which they carry, and for the time to think', async () => {
  const { server, run } = scene();
  const plan = { workload: workload(3, { count: 1, thinkMs: 500 }), limits: { requests: null, durationMs: null } };
  const result = await run({ point: { kind: 'concurrency', clients: 1 }, ...plan });
  assert.deepEqual(server.sentMs, [0, 620, 1240]);
  assert.deepEqual(
    server.requests.at(-1)?.messages.map(({ role, content }) => [role, content]),
    [
      ['user', '0.0'],
      ['assistant', 'ab'],
      ['user', '0.1'],
      ['assistant', 'ab'],
      ['user', '0.2'],
    ],
  );
  assert.deepEqual([result.ttftMs.min, result.ttftMs.max], [100, 100], 'the time to think is no latency');
});

test('a limit on requests counts turns', async () => {
  const { server, run } = scene();
  await run({
    point: { kind: 'rate', perSecond: 100 },
    workload: workload(3),
    limits: { requests: 7, durationMs: null },
  });
  assert.equal(server.requests.length, 7);
});

test('a stop aborts what is under way and reports the rest', async () => {
  const { server, abort, clock, run } = scene();
  server.firstMs = (number) => (number < 5 ? 10 : 60_000);
  clock.setTimer(1000, () => abort.abort());
  const result = await run({ point: { kind: 'rate', perSecond: 10 }, maxInFlight: 3 });
  assert.deepEqual(result.requests, { sent: 8, succeeded: 5, failed: 0, aborted: 3 });
  assert.equal(server.running, 0);
});
