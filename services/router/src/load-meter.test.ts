import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import type { Engine, EngineObserver } from './engine.ts';
import { LoadMeter } from './load-meter.ts';
import type { StepRunner } from './runner.ts';
import type { Sequence } from './sequence.ts';

const SILENT: EngineObserver = {
  step: () => undefined,
  preempted: () => undefined,
  admitted: () => undefined,
  token: () => undefined,
  finished: () => undefined,
  failed: () => undefined,
};

function sequence(numComputed: number, cachedTokens: number, arrivedAtMs = 0): Sequence {
  return { numComputed, arrivedAtMs, prefix: { cachedTokens } } as unknown as Sequence;
}

test('nothing is told before it was measured, and an idle router tells zero', async () => {
  const clock = new FakeClock();
  const meter = new LoadMeter(clock);
  assert.deepEqual(
    Object.values(meter.load).filter((value) => value !== undefined),
    [],
  );
  await clock.advance(60_000);
  assert.equal(meter.load.busy, 0);
  assert.equal(meter.load.computedTokensPerSecond, 0);
  assert.equal(meter.load.itlP95Ms, undefined, 'there is no latency without tokens');
});

test('more is offered than computed while requests come faster than they go', async () => {
  const clock = new FakeClock();
  const meter = new LoadMeter(clock);
  const observer = meter.observing(SILENT);
  const engine = meter.counting({ submit: () => sequence(0, 0) } as unknown as Engine);
  for (let second = 0; second < 30; second += 1) {
    // Three requests a second arrive, one ends, of 100 tokens that 20 were cached of.
    for (let at = 0; at < 3; at += 1) engine.submit({} as never, {} as never);
    observer.step('decode', 80, 10);
    observer.finished(sequence(100, 20), 'length', clock.nowMs());
    await clock.advance(1000);
  }
  const { offeredTokensPerSecond = 0, computedTokensPerSecond = 0 } = meter.load;
  assert.ok(Math.abs(offeredTokensPerSecond - 240) < 10, `${offeredTokensPerSecond}`);
  assert.ok(Math.abs(computedTokensPerSecond - 80) < 4, `${computedTokensPerSecond}`);
});

test('a request that is refused is not offered, and steps that fail end', async () => {
  const clock = new FakeClock();
  const meter = new LoadMeter(clock);
  const full = (): never => {
    throw new RangeError('full');
  };
  assert.throws(() => meter.counting({ submit: full } as unknown as Engine).submit({} as never, {} as never));
  const runner = meter.timing({ decode: () => Promise.reject(new RangeError('broken')) } as unknown as StepRunner);
  await assert.rejects(runner.decode({} as never, {} as never));
  await clock.advance(60_000);
  assert.equal(meter.load.busy, 0);
  meter.observing(SILENT).finished(sequence(10, 0), 'length', 0);
  assert.equal(meter.load.offeredTokensPerSecond, 0);
});

test('latencies are the 95th percentiles of the last half minute', async () => {
  const clock = new FakeClock();
  const meter = new LoadMeter(clock);
  const observer = meter.observing(SILENT);
  for (let at = 1; at <= 100; at += 1) {
    observer.token(sequence(0, 0), null, at * 10);
    observer.token(sequence(0, 0), 1000, 1000 + at);
  }
  assert.deepEqual([meter.load.ttftP95Ms, meter.load.itlP95Ms], [960, 96]);
  await clock.advance(31_000);
  assert.equal(meter.load.ttftP95Ms, undefined);
});
