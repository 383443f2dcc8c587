import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SimHost } from './host.ts';
import { Nic, transfer } from './nic.ts';
import { AliasTable, Random } from './random.ts';
import { SimClock } from './sim-clock.ts';
import { mean } from './statistics.ts';

function near(actual: number, expected: number, relative: number): void {
  assert.ok(Math.abs(actual - expected) <= relative * Math.abs(expected), `${actual} is not near ${expected}`);
}

describe('virtual time', () => {
  it('calls events in order of time, then of making, and lets promises run in between', async () => {
    const clock = new SimClock();
    const seen: string[] = [];
    clock.at(2, () => seen.push('second'));
    clock.setTimer(1, () => void Promise.resolve().then(() => seen.push(`promise at ${clock.monotonicMs()}`)));
    clock.at(1, () => seen.push('first'));
    void clock.sleep(2).then(() => seen.push(`slept until ${clock.monotonicMs()}`));
    clock.setTimer(1.5, () => seen.push('cancelled')).cancel();
    await clock.runUntil(10);
    assert.deepEqual(seen, ['promise at 1', 'first', 'second', 'slept until 2']);
    assert.equal(clock.monotonicMs(), 10);
  });

  it('repeats an interval until it is cancelled', async () => {
    const clock = new SimClock();
    const at: number[] = [];
    const timer = clock.setInterval(3, () => {
      at.push(clock.monotonicMs());
      if (at.length === 3) timer.cancel();
    });
    await clock.runUntil(100);
    assert.deepEqual(at, [3, 6, 9]);
  });

  it('ends a sleep that is aborted', async () => {
    const clock = new SimClock();
    const abort = new AbortController();
    const slept = clock.sleep(5, abort.signal).catch((err: Error) => err.message);
    clock.at(1, () => abort.abort());
    await clock.runUntil(3);
    assert.equal(await slept, 'sleep was cancelled');
  });
});

describe('hosts', () => {
  it('share cores evenly among the threads that run', async () => {
    const clock = new SimClock();
    const host = new SimHost(clock, 2);
    const ended: number[] = [];
    const threads = [10, 10, 20].map((ms) => ({ ms, thread: host.thread() }));
    for (const { ms, thread } of threads) thread.submit('decode', ms, () => ended.push(clock.monotonicMs()));
    await clock.runUntil(100);
    // Three on two cores: 10 ms of work each take 15 ms, then the last has a core to itself.
    assert.deepEqual(ended, [15, 15, 25]);
  });

  it('take decode before prefill, but not for ever', async () => {
    const clock = new SimClock();
    const thread = new SimHost(clock, 1).thread();
    const order: string[] = [];
    thread.submit('prefill', 1, () => order.push('p0'));
    thread.submit('prefill', 1, () => order.push('p1'));
    for (let i = 0; i < 20; i++) thread.submit('decode', 1, () => order.push('d'));
    await clock.runUntil(100);
    assert.equal(order.indexOf('p0'), 0);
    assert.equal(order.indexOf('p1'), 17);
  });

  it('never finish what a killed thread had', async () => {
    const clock = new SimClock();
    const host = new SimHost(clock, 1);
    const [thread, other] = [host.thread(), host.thread()];
    let finished = 0;
    thread.submit('decode', 4, () => (finished += 1));
    thread.submit('decode', 4, () => (finished += 1));
    other.submit('decode', 4, () => assert.equal(clock.monotonicMs(), 5));
    clock.at(2, () => thread.kill());
    await clock.runUntil(50);
    assert.equal(finished, 0);
    assert.equal(thread.busyMs, 2);
    assert.equal(other.busyMs, 5);
  });

  it('agree with the closed form of a queue with fixed service (M/D/1) and with Little’s law', async () => {
    const clock = new SimClock();
    const thread = new SimHost(clock, 1).thread();
    const random = new Random(3, 'arrivals');
    const [serviceMs, use] = [2, 0.7];
    const sojourns: number[] = [];
    let area = 0;
    let lastMs = 0;
    let inside = 0;
    const count = (change: number): void => {
      area += inside * (clock.monotonicMs() - lastMs);
      lastMs = clock.monotonicMs();
      inside += change;
    };
    const arrive = (): void => {
      const cameMs = clock.monotonicMs();
      count(1);
      thread.submit('decode', serviceMs, () => {
        count(-1);
        sojourns.push(clock.monotonicMs() - cameMs);
      });
      clock.at(cameMs + random.exponential(serviceMs / use), arrive);
    };
    arrive();
    await clock.runUntil(400_000);
    const waitMs = mean(sojourns) - serviceMs;
    near(waitMs, (use * serviceMs) / (2 * (1 - use)), 0.03);
    near(thread.busyMs / 400_000, use, 0.01);
    near(area / 400_000, (sojourns.length / 400_000) * mean(sojourns), 0.001);
  });
});

describe('network cards', () => {
  const arrivals = async (sends: (clock: SimClock, done: () => void) => void): Promise<number[]> => {
    const clock = new SimClock();
    const at: number[] = [];
    sends(clock, () => at.push(clock.monotonicMs()));
    await clock.runUntil(1000);
    return at;
  };

  it('pass one message after another, through both cards at the slower rate', async () => {
    const at = await arrivals((clock, done) => {
      const [from, to] = [new Nic(2e6), new Nic(1e6)];
      for (let i = 0; i < 2; i++) transfer({ clock, from, to, lane: 'decode', bytes: 4000, latencyMs: 0.5 }, done);
    });
    // 2 ms to send, 4 ms to receive, cut through.
    assert.deepEqual(at, [4.5, 8.5]);
  });

  it('are shared by the lanes: a long prefill message does not hold decode up', async () => {
    const at = await arrivals((clock, done) => {
      const [from, to] = [new Nic(1e6), new Nic(Infinity)];
      transfer({ clock, from, to, lane: 'prefill', bytes: 10_000, latencyMs: 0 }, done);
      transfer({ clock, from, to, lane: 'decode', bytes: 1000, latencyMs: 0 }, done);
    });
    assert.deepEqual(at, [2, 10]);
  });
});

describe('random numbers', () => {
  it('depend on seed and label only', () => {
    const draw = (seed: number, label: string): number[] => {
      const random = new Random(seed, label);
      return Array.from({ length: 5 }, () => random.next());
    };
    assert.deepEqual(draw(1, 'a'), draw(1, 'a'));
    assert.notDeepEqual(draw(1, 'a'), draw(1, 'b'));
    assert.notDeepEqual(draw(1, 'a'), draw(2, 'a'));
  });

  it('have the moments of their distributions', () => {
    const random = new Random(5, 'moments');
    const many = (draw: () => number): number => mean(Array.from({ length: 100_000 }, draw));
    near(
      many(() => random.next()),
      0.5,
      0.01,
    );
    near(
      many(() => random.exponential(3)),
      3,
      0.02,
    );
    near(
      many(() => random.normal() ** 2),
      1,
      0.02,
    );
    near(
      many(() => random.logNormal(7, 0.5)),
      7,
      0.02,
    );
  });

  it('come from a table with its weights', () => {
    const table = new AliasTable([1, 2, 3, 10]);
    const random = new Random(6, 'table');
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 160_000; i++) counts[table.draw(random)]! += 1;
    for (const [i, weight] of [1, 2, 3, 10].entries()) near(counts[i] ?? 0, weight * 10_000, 0.03);
  });
});
