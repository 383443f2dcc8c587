import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics, FakeClock } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import { Batcher, type ForwardTarget } from './batcher.ts';

/** Computes when told to; records what it was given. */
class ManualTarget implements ForwardTarget {
  readonly calls: { name: string; lane: Lane; queueUs: number }[] = [];
  readonly #open: { resolve: (reply: Buffer) => void; reject: (err: unknown) => void }[] = [];
  readonly running: Record<Lane, number> = { decode: 0, prefill: 0 };

  async forward(frame: Uint8Array, queueUs: number, lane: Lane): Promise<Buffer> {
    this.calls.push({ name: Buffer.from(frame).toString(), lane, queueUs });
    this.running[lane] += 1;
    try {
      return await new Promise<Buffer>((resolve, reject) => this.#open.push({ resolve, reject }));
    } finally {
      this.running[lane] -= 1;
    }
  }

  /** Ends the oldest computation. */
  async finish(err: unknown = null): Promise<void> {
    const next = this.#open.shift();
    if (err === null) next?.resolve(Buffer.from('reply'));
    else next?.reject(err);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

interface Bench {
  target: ManualTarget;
  batcher: Batcher;
  clock: FakeClock;
  done: string[];
  submit: (name: string, lane: Lane, owner?: object) => boolean;
}

function bench(maxQueued = 100): Bench {
  const target = new ManualTarget();
  const clock = new FakeClock();
  const batcher = new Batcher({ target, clock, metrics: createMetrics('expert'), maxQueued });
  const done: string[] = [];
  const someone = {};
  const submit = (name: string, lane: Lane, owner: object = someone): boolean =>
    batcher.submit({
      frame: Buffer.from(name),
      lane,
      owner,
      done: (reply, err) => void done.push(reply === null ? `${name}: ${String(err)}` : name),
    });
  return { target, batcher, clock, done, submit };
}

test('one forward of each lane is in flight, in order of arrival', async () => {
  const { target, submit, done } = bench();
  for (const name of ['d1', 'd2', 'd3']) submit(name, 'decode');
  submit('p1', 'prefill');
  submit('p2', 'prefill');
  assert.deepEqual(target.running, { decode: 1, prefill: 0 });
  await target.finish();
  await target.finish();
  // The last decode forward has started: nothing of decode waits, so prefill may go.
  assert.deepEqual(
    target.calls.map((call) => call.name),
    ['d1', 'd2', 'd3', 'p1'],
  );
  assert.deepEqual(target.running, { decode: 1, prefill: 1 });
  await target.finish();
  await target.finish();
  await target.finish();
  assert.deepEqual(done, ['d1', 'd2', 'd3', 'p1', 'p2']);
});

test('prefill is overtaken sixteen times, not for ever', async () => {
  const { target, submit } = bench();
  for (let i = 0; i < 40; i++) submit(`d${i}`, 'decode');
  submit('p', 'prefill');
  for (let i = 0; i < 30 && !target.calls.some((call) => call.lane === 'prefill'); i++) await target.finish();
  const before = target.calls.findIndex((call) => call.lane === 'prefill');
  assert.equal(before, 17);
});

test('a stream has a limit of its own, counted until its replies', async () => {
  const { target, submit } = bench(2);
  const [a, b] = [{}, {}];
  assert.ok(submit('a1', 'decode', a));
  assert.ok(submit('a2', 'decode', a));
  assert.ok(!submit('a3', 'decode', a));
  assert.ok(submit('b1', 'decode', b));
  await target.finish();
  assert.ok(submit('a4', 'decode', a));
  assert.ok(!submit('a5', 'decode', a));
});

test('a cancelled stream is not heard of again, and others go on', async () => {
  const { target, batcher, submit, done } = bench();
  const [a, b] = [{}, {}];
  submit('a1', 'decode', a);
  submit('a2', 'decode', a);
  submit('a3', 'prefill', a);
  submit('b1', 'decode', b);
  batcher.cancel(a);
  await target.finish();
  await target.finish();
  assert.deepEqual(done, ['b1']);
  assert.deepEqual(
    target.calls.map((call) => call.name),
    ['a1', 'b1'],
  );
  await batcher.idle();
});

test('a computation that fails answers its own request and the next one runs', async () => {
  const { target, submit, done, batcher } = bench();
  submit('a', 'decode');
  submit('b', 'decode');
  await target.finish(new RangeError('no'));
  await target.finish();
  assert.deepEqual(done, ['a: RangeError: no', 'b']);
  await batcher.idle();
});

test('the time in the queue is measured', async () => {
  const { target, submit, clock } = bench();
  submit('a', 'decode');
  submit('b', 'decode');
  await clock.advance(7);
  await target.finish();
  assert.deepEqual(
    target.calls.map((call) => call.queueUs),
    [0, 7000],
  );
  await target.finish();
});
