import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail, FakeClock, type StoredLoad } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { liveOf } from '../../testing/live.ts';
import { EXPERTS, LAYERS } from '../../testing/members.ts';
import { LoadsController } from './controller.ts';

const HALF_LIFE_MS = 60_000;

interface TestReport {
  reporter?: string;
  sequence?: number;
  /** Tokens of expert 0 of layer 0. */
  tokens?: number;
  layers?: control.LayerLoad[];
  topK?: number;
  steps?: number;
}

function layerOf(layer: number, tokens: number[], sets: number[] = []): control.LayerLoad {
  const samples = Buffer.from(Uint16Array.from(sets).buffer);
  return { layer, tokens: tokens.map(BigInt), samples };
}

function counts(first: number): number[] {
  return Array.from({ length: EXPERTS }, (_, expert) => (expert === 0 ? first : 0));
}

function reportOf(report: TestReport): StoredLoad {
  const { reporter = 'r1', sequence = 1, tokens = 0, topK = 2, steps = 1 } = report;
  const layers = report.layers ?? [layerOf(0, counts(tokens))];
  const message = {
    reporter,
    sequence: BigInt(sequence),
    layers,
    topK,
    steps: BigInt(steps),
    epoch: 1n,
    intervalMs: 5000n,
  };
  return { reporter, bytes: Buffer.from(control.LoadReport.encode(message).finish()) };
}

class Bench {
  readonly clock = new FakeClock();
  stored: StoredLoad[] = [];
  away = false;
  readonly controller = new LoadsController({
    loads: {
      read: async () => {
        if (this.away) throw fail('redis_unavailable', 'away');
        return this.stored;
      },
    },
    clock: this.clock,
    logger: silentLogger(),
    halfLifeMs: HALF_LIFE_MS,
  });
  live = liveOf(
    [{ id: 'e1' }, { id: 'e2' }],
    [
      { id: 'r1', acked: 1 },
      { id: 'r2', acked: 1 },
    ],
  );

  /** What is measured once these reports are there. */
  async read(...stored: StoredLoad[]): Promise<ReturnType<LoadsController['measured']>> {
    this.stored = stored;
    await this.clock.advance(2000);
    await this.controller.reconcile(this.live);
    return this.controller.measured();
  }
}

/** As much as is left of `tokens` after `ms`. */
function left(tokens: number, ms: number): number {
  return tokens * 2 ** (-ms / HALF_LIFE_MS);
}

function near(actual: number | undefined, expected: number): void {
  assert.ok(Math.abs((actual ?? Number.NaN) - expected) < 1e-6 * Math.max(1, expected), `${actual}, not ${expected}`);
}

test('the reports of all routers add up, each counts once, and fades', async () => {
  const bench = new Bench();
  const one = reportOf({ reporter: 'r1', tokens: 100 });
  const two = reportOf({ reporter: 'r2', tokens: 10 });
  near((await bench.read(one, two)).tokens[0], 110);
  const again = await bench.read(one, two);
  near(again.tokens[0], left(110, 2000));
  near(again.total, left(110, 2000));
  near((await bench.read(reportOf({ tokens: 50, sequence: 2 }), two)).tokens[0], left(110, 4000) + 50);
  await bench.clock.advance(HALF_LIFE_MS - 2000);
  near((await bench.read()).tokens[0], left(left(110, 4000) + 50, HALF_LIFE_MS));
});

test('a router that starts again begins with number one, which counts', async () => {
  const bench = new Bench();
  await bench.read(reportOf({ tokens: 8, sequence: 1 }));
  await bench.read(reportOf({ tokens: 8, sequence: 2 }));
  near((await bench.read(reportOf({ tokens: 8, sequence: 1 }))).tokens[0], left(8, 4000) + left(8, 2000) + 8);
});

test('a report without a number, of an older release, counts once as long as it is the same', async () => {
  const bench = new Bench();
  const old = reportOf({ tokens: 4, sequence: 0, topK: 0, steps: 0 });
  await bench.read(old);
  const measured = await bench.read(old);
  near(measured.tokens[0], left(4, 2000));
  assert.deepEqual([measured.topK, measured.tokensPerStep], [0, 0]);
});

test("the workers' reports say who computed how many rows, and add nothing to the loads", async () => {
  const bench = new Bench();
  const measured = await bench.read(
    reportOf({ reporter: 'r1', tokens: 30 }),
    reportOf({ reporter: 'e1', tokens: 20 }),
    reportOf({ reporter: 'e2', tokens: 10 }),
  );
  near(measured.total, 30);
  assert.deepEqual(
    [...measured.rowsOf],
    [
      ['e1', 20],
      ['e2', 10],
    ],
  );
  bench.live = liveOf([{ id: 'e1' }], [{ id: 'r1', acked: 1 }]);
  assert.deepEqual([...(await bench.read()).rowsOf.keys()], ['e1']);
});

test('reports of strangers, of another shape, with bad sets or no report at all are passed over, each for itself', async () => {
  const bench = new Bench();
  bench.live = liveOf(
    [{ id: 'e1' }],
    ['a', 'b', 'c', 'd', 'e', 'f', 'r1'].map((id) => ({ id, acked: 1 })),
  );
  const layer = (sets: number[]): control.LayerLoad[] => [layerOf(0, counts(7), sets)];
  const measured = await bench.read(
    reportOf({ reporter: 'stranger', tokens: 7 }),
    { reporter: 'a', bytes: Buffer.from([0xff, 0xff]) },
    reportOf({ reporter: 'b', layers: [layerOf(LAYERS, counts(7))] }),
    reportOf({ reporter: 'c', layers: [layerOf(0, [7, 7])] }),
    reportOf({ reporter: 'd', layers: layer([0, 1, 2]) }),
    reportOf({ reporter: 'e', layers: layer([0, EXPERTS]) }),
    reportOf({ reporter: 'f', layers: layer([0, 1]), topK: 0 }),
    reportOf({ reporter: 'r1', tokens: 5 }),
  );
  near(measured.total, 5);
  assert.deepEqual(
    measured.sets,
    Array.from({ length: LAYERS }, () => null),
  );
});

test('sampled sets are kept by layer, the newest ones, and those of another width replace them', async () => {
  const bench = new Bench();
  const many = Array.from({ length: 600 }, (_, i) => [i % EXPERTS, (i + 1) % EXPERTS]).flat();
  await bench.read(reportOf({ layers: [layerOf(1, counts(1), [0, 1, 2, 3])] }));
  const second = await bench.read(reportOf({ sequence: 2, layers: [layerOf(1, counts(1), [4, 5])] }));
  assert.deepEqual(second.sets[1], Uint16Array.of(0, 1, 2, 3, 4, 5));
  assert.equal(second.sets[0], null);
  assert.equal(second.topK, 2);
  const third = await bench.read(reportOf({ sequence: 3, layers: [layerOf(1, counts(1), many)] }));
  assert.deepEqual(third.sets[1], Uint16Array.from(many.slice(-1024)));
  const wider = await bench.read(reportOf({ sequence: 4, topK: 3, layers: [layerOf(1, counts(1), [5, 6, 7])] }));
  assert.deepEqual([wider.topK, wider.sets[1]], [3, Uint16Array.of(5, 6, 7)]);
});

test('the mean step is what the routers report', async () => {
  const bench = new Bench();
  const layers = Array.from({ length: LAYERS }, (_, layer) => layerOf(layer, counts(80)));
  near((await bench.read(reportOf({ layers, topK: 2, steps: 4 }))).tokensPerStep, 10);
});

test('with Redis away what was measured stays, and another model begins anew', async () => {
  const bench = new Bench();
  await bench.read(reportOf({ tokens: 100 }));
  bench.away = true;
  near((await bench.read()).tokens[0], left(100, 2000));
  bench.away = false;
  bench.live = { ...bench.live, model: { fingerprint: 'model-b', numericsId: 'class-a' } };
  near((await bench.read(reportOf({ tokens: 3, sequence: 2 }))).total, 3);
});

test('Redis is not asked more often than reports come', async () => {
  const bench = new Bench();
  await bench.read(reportOf({ tokens: 1 }));
  bench.stored = [reportOf({ tokens: 1000, sequence: 2 })];
  await bench.clock.advance(1000);
  await bench.controller.reconcile(bench.live);
  assert.ok(bench.controller.measured().total <= 1);
});
