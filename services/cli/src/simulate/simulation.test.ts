import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ROUTER_DEFAULTS } from './cluster/router.ts';
import { recoveryOf } from './recovery.ts';
import { type Fault, Simulation, type SimulationOptions } from './simulation.ts';
import { EXACT_WORKER, smallCluster } from './testing/small.ts';

async function run(options: SimulationOptions) {
  const simulation = new Simulation(options);
  return { simulation, outcome: await simulation.run() };
}

const JITTERY = { ...EXACT_WORKER, jitter: 0.3, stragglers: 0.05, stragglerFactor: 30 };

describe('a simulated cluster', () => {
  it('takes the analytic time with one worker, one stream and no wire', async () => {
    const usPerCall = 20;
    const options = smallCluster(1, {
      routerLink: Infinity,
      workerLink: Infinity,
      copies: 1,
      transport: { name: 'none', usPerCall, usPerKib: 0, latencyUs: 0 },
      workload: { ...smallCluster(1).workload, streams: 1, answerTokens: 1000, spread: 0, promptTokens: 1 },
      durationMs: 1000,
    });
    const { outcome } = await run(options);
    const { shape, times } = options;
    // Two experts of one row in each layer; the shared one is computed meanwhile.
    const expertMs = (50 + 2 * 3) / 1000 + ((2 * shape.expertBytes) / 1e10) * 1000;
    // Recurrent layers alone: their time does not depend on the depth, unlike that of attention.
    let expected = times.headMs(1);
    for (let layer = 0; layer < shape.numLayers; layer++) {
      const work = { rows: 1, sequences: 1, depth: 0, context: 0 };
      expected += times.mixerMs(layer, work) + Math.max(times.sharedMs(layer, work), usPerCall / 1000 + expertMs);
    }
    const difference = Math.abs(outcome.interTokenMs.p50 / expected - 1);
    assert.ok(difference < 0.002, `${outcome.interTokenMs.p50} ms instead of ${expected}`);
    assert.equal(outcome.workersPerToken, 1);
  });

  it('computes every row of every layer once', async () => {
    const { simulation, outcome } = await run(smallCluster(4, { workers: Array.from({ length: 4 }, () => JITTERY) }));
    // Layers under way at the beginning and at the end of the measured time: two micro-batches and a prefill step.
    const underWay = 2 * (8 + ROUTER_DEFAULTS.chunkTokens) * 2;
    assert.ok(outcome.rows > 10_000, `${outcome.rows} rows`);
    assert.ok(
      Math.abs(outcome.wantedRows - outcome.rows) <= underWay,
      `${outcome.wantedRows} wanted, ${outcome.rows} got`,
    );
    const steps = simulation.routers[0]?.runner.decodeSteps ?? 0;
    assert.ok(steps > 0);
    assert.equal(outcome.rowsTwice, 0);
    assert.equal(outcome.streamsDropped, 0);
  });

  it('is the same for the same seed, and another for another', async () => {
    const [first, again, other] = [
      await run(smallCluster(4)),
      await run(smallCluster(4)),
      await run(smallCluster(4, { seed: 8 })),
    ];
    assert.deepEqual(first.outcome, again.outcome);
    assert.notDeepEqual(first.outcome, other.outcome);
  });

  it('finishes what arrives where it has room', async () => {
    const workload = { ...smallCluster(4).workload, ratePerSecond: 40 };
    const { outcome } = await run(smallCluster(4, { workload, durationMs: 5000 }));
    assert.ok(
      Math.abs(outcome.requestsFinished / 5 / 40 - 1) < 0.15,
      `${outcome.requestsFinished} in 5 s at 40 a second`,
    );
  });

  it('keeps second calls within their budget', async () => {
    for (const hedgeShare of [0, 0.03]) {
      const workers = Array.from({ length: 4 }, () => JITTERY);
      const settings = { ...ROUTER_DEFAULTS, hedgeShare };
      const { simulation, outcome } = await run(smallCluster(4, { workers, settings, durationMs: 4000 }));
      const { calls, hedges } = simulation.routers[0]?.dispatcher.counts ?? { calls: 0, hedges: 0 };
      const firstCalls = calls - hedges;
      assert.ok(firstCalls > 1000);
      assert.ok(hedges <= hedgeShare * firstCalls + 8, `${hedges} second calls of ${firstCalls}`);
      assert.equal(hedges > 0, hedgeShare > 0);
      assert.equal(outcome.streamsDropped, 0);
    }
  });

  it('sends a row to fewer workers where each holds more', async () => {
    const few = await run(smallCluster(8, { copies: 1 }));
    const many = await run(smallCluster(8, { copies: 4, mostCopies: 4 }));
    assert.ok(many.outcome.workersPerToken < few.outcome.workersPerToken);
  });
});

describe('the loss of a worker', () => {
  const fault = (kind: Fault['kind'], atMs = 500): Fault => ({ kind, worker: 1, atMs, factor: 20 });

  for (const kind of ['lost', 'killed', 'slow'] as const) {
    it(`drops no stream when it is ${kind}`, async () => {
      const { simulation, outcome } = await run(smallCluster(4, { faults: [fault(kind)], durationMs: 3000 }));
      assert.equal(outcome.streamsDropped, 0);
      assert.ok(outcome.tokens > 200);
      const recovery = recoveryOf(simulation);
      if (kind === 'slow') return;
      assert.ok(recovery !== null && recovery.steadyAfterMs !== null, 'the rate never came back');
      // A worker that is killed between two layers has no call under way that could fail.
      if (kind === 'lost')
        assert.ok(
          Object.values(outcome.retries).some((count) => count > 0),
          'no call failed',
        );
      assert.ok(recovery.redundantAfterMs !== null && recovery.redundantAfterMs >= 500);
      assert.ok(recovery.bytesLoaded > 0);
    });
  }

  it('stops every stream, and ends none, where nobody else holds its experts', async () => {
    const { simulation, outcome } = await run(
      smallCluster(4, { copies: 1, faults: [fault('killed')], durationMs: 4000 }),
    );
    assert.equal(outcome.streamsDropped, 0);
    const recovery = recoveryOf(simulation);
    assert.ok(recovery !== null && recovery.longestGapMs >= 500, 'no stream waited for the lease to end');
    assert.equal(recovery.lowestShare, 0);
    assert.ok(recovery.steadyAfterMs !== null && recovery.steadyAfterMs > 500);
  });
});
