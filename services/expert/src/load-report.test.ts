import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail, FakeClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { LoadReport } from './load-report.ts';

/** Takes reports, or fails when told to. */
class RecordingStore {
  readonly reports: control.LoadReport[] = [];
  failNext = false;

  async report(_reporter: string, bytes: Uint8Array): Promise<void> {
    await Promise.resolve();
    if (this.failNext) {
      this.failNext = false;
      throw fail('redis_unavailable', 'away');
    }
    this.reports.push(control.LoadReport.decode(bytes));
  }
}

function make(store: RecordingStore, clock: FakeClock): LoadReport {
  return new LoadReport({
    reporter: 'expert-1',
    numLayers: 2,
    numExperts: 3,
    loads: store,
    epoch: () => 4,
    clock,
    logger: silentLogger(),
  });
}

test('rows are reported per layer and expert, and counted from zero again', async () => {
  const [store, clock] = [new RecordingStore(), new FakeClock()];
  const report = make(store, clock);
  report.start();
  report.count(1, 2);
  report.count(1, 2);
  report.count(1, 0);
  for (const [layer, expert] of [
    [2, 0],
    [0, 3],
    [99, 99],
  ] as const)
    report.count(layer, expert);
  await clock.advance(5000);
  assert.deepEqual(store.reports, [
    {
      reporter: 'expert-1',
      epoch: 4n,
      intervalMs: 5000n,
      topK: 0,
      steps: 0n,
      sequence: 0n,
      layers: [{ layer: 1, tokens: [1n, 0n, 2n], samples: Buffer.alloc(0) }],
    },
  ]);
  await clock.advance(20_000);
  assert.equal(store.reports.length, 1, 'nothing to say');
  report.count(0, 1);
  await clock.advance(5000);
  assert.deepEqual(store.reports[1]?.layers, [{ layer: 0, tokens: [0n, 1n, 0n], samples: Buffer.alloc(0) }]);
  report.stop();
  assert.equal(clock.pending, 0);
});

test('what Redis does not take is kept', async () => {
  const [store, clock] = [new RecordingStore(), new FakeClock()];
  const report = make(store, clock);
  report.count(0, 0);
  store.failNext = true;
  await report.send();
  report.count(0, 0);
  await report.send();
  assert.deepEqual(
    store.reports.map((sent) => sent.layers),
    [[{ layer: 0, tokens: [2n, 0n, 0n], samples: Buffer.alloc(0) }]],
  );
});
