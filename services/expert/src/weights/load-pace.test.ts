import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { LoadPace } from './load-pace.ts';

const SIGNAL = new AbortController().signal;
const MIB = 1 << 20;

/** Loads experts of a MiB that take 10 ms each; returns when each began. */
async function began(
  options: { quietMs: () => number; rate?: number; urgent?: boolean },
  forMs: number,
): Promise<number[]> {
  const clock = new FakeClock(0);
  const pace = new LoadPace({ clock, quietMs: options.quietMs, bytesPerSecond: options.rate ?? 0 });
  const times: number[] = [];
  const abort = new AbortController();
  const load = async (): Promise<void> => {
    for (;;) {
      await pace.begin(options.urgent ?? false, abort.signal);
      times.push(clock.monotonicMs());
      await clock.sleep(10, abort.signal);
      pace.done(MIB);
    }
  };
  const loading = load().catch(() => undefined);
  await clock.advance(forMs);
  abort.abort();
  await loading;
  assert.equal(clock.pending, 0);
  return times;
}

test('a worker that serves nobody loads without a pause', async () => {
  assert.equal((await began({ quietMs: () => 10_000, rate: MIB }, 1000)).length, 101);
});

test('while forwards come, loading takes at most a quarter of the time', async () => {
  const times = await began({ quietMs: () => 1 }, 1000);
  assert.equal(times.length, 26);
});

test('while forwards come, no more bytes than the rate are loaded', async () => {
  assert.equal((await began({ quietMs: () => 1, rate: 4 * MIB }, 2000)).length, 9);
});

test('the next load waits for a moment without forwards, and not for ever', async () => {
  const clock = new FakeClock(0);
  let quiet = 0;
  const pace = new LoadPace({ clock, quietMs: () => quiet, bytesPerSecond: 0 });
  let begun = 0;
  void pace.begin(false, SIGNAL).then(() => (begun += 1));
  await clock.advance(20);
  assert.equal(begun, 0);
  quiet = 1;
  await clock.advance(2);
  assert.equal(begun, 1);
  quiet = 0;
  void pace.begin(false, SIGNAL).then(() => (begun += 1));
  await clock.advance(40);
  assert.equal(begun, 1);
  await clock.advance(20);
  assert.equal(begun, 2);
});

test('urgent loads wait for nothing', async () => {
  assert.equal((await began({ quietMs: () => 0, rate: MIB, urgent: true }, 1000)).length, 101);
});

test('the parts of a transfer keep to the rate, unless it is urgent or nobody is served', async () => {
  for (const [urgent, quietMs, ms] of [
    [false, 0, 1000],
    [true, 0, 0],
    [false, 10_000, 0],
  ] as const) {
    const clock = new FakeClock(0);
    const pace = new LoadPace({ clock, quietMs: () => quietMs, bytesPerSecond: 4 * MIB });
    await pace.begin(true, SIGNAL);
    let tookMs = -1;
    const transfer = async (): Promise<void> => {
      for (let part = 0; part < 16; part++) await pace.part(MIB / 4, urgent, SIGNAL);
      tookMs = clock.monotonicMs();
    };
    void transfer();
    await clock.advance(2000);
    assert.equal(tookMs, ms);
  }
});
