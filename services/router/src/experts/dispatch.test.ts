import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { experts } from '@guildhall/proto';
import { FakeExpert } from '../../../../test/fakes/fake-expert.ts';
import { checkRows, choices, DispatchRig } from '../testing/dispatch-rig.ts';
import { ReferenceBuffers } from '../testing/reference-buffers.ts';
import { assignmentOf } from './holdings.ts';

const LOW = [0, 1, 2, 3];
const HIGH = [4, 5, 6, 7];
const ALL = [...LOW, ...HIGH];

function buffersOf(numRows: number): ReferenceBuffers {
  return new ReferenceBuffers(choices(numRows), 8);
}

test('rows go to the workers that hold their experts and come back in place', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    const buffers = buffersOf(20);
    for (const layer of [0, 1]) await rig.layer(buffers, layer);
    for (const lane of ['decode', 'prefill'] as const) await rig.layer(buffers, 1, { lane });
    const calls = rig.workers.flatMap(({ calls }) => calls);
    assert.equal(calls.length, 8);
    assert.deepEqual(new Set(calls.map(({ lane }) => lane)), new Set(['decode', 'prefill']));
    assert.ok(rig.workers[0]?.calls.every(({ experts: wanted }) => wanted.every((e) => LOW.includes(e))));
    assert.deepEqual(rig.retries, []);
  });
});

test('the hello says who the router is, once per lane', async () => {
  await DispatchRig.run({ workers: [{}] }, async (rig) => {
    await rig.covered();
    const hellos = rig.workers[0]?.hellos ?? [];
    const { LANE_DECODE, LANE_PREFILL } = experts.Lane;
    assert.equal(hellos.length, 2);
    assert.deepEqual(new Set(hellos.map(({ lane }) => lane)), new Set([LANE_DECODE, LANE_PREFILL]));
    assert.ok(hellos.every((hello) => hello.routerIncarnation === 77n && hello.modelFingerprint === 'fingerprint'));
  });
});

test('messages stay within the limits, and every part comes back', async () => {
  await DispatchRig.run({ workers: [{ maxMessageBytes: 1200 }] }, async (rig) => {
    await rig.covered();
    await rig.layer(buffersOf(60));
    const calls = rig.workers[0]?.calls ?? [];
    assert.ok(calls.length > 5);
    assert.ok(calls.every(({ bytes }) => bytes <= 1200));
    assert.equal(new Set(calls.map(({ part }) => part)).size, calls.length);
  });
});

test('expert rows are counted by sequence and worker, and loads by expert', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    const buffers = new ReferenceBuffers(
      [
        [0, 1, 2],
        [3, 4, 5],
      ],
      8,
    );
    const step = await rig.layer(buffers);
    assert.deepEqual(step.rowsOf, [
      new Map([['fake-1', 3]]),
      new Map([
        ['fake-1', 1],
        ['fake-2', 2],
      ]),
    ]);
    // Each worker computes for 10 µs: the first for 3 rows of one sequence and 1 of the other, the second for the other only.
    const [first = 0, second = 0] = step.expertMsOf;
    assert.ok(Math.abs(first - 0.0075) < 1e-9 && Math.abs(second - 0.0125) < 1e-9, `${first} ${second}`);
    const counted = rig.loads.snapshot();
    assert.deepEqual([...(counted?.counts ?? [])].slice(0, 9), [1, 1, 1, 1, 1, 1, 0, 0, 0]);
    assert.deepEqual(counted?.sets, [Uint16Array.of(0, 1, 2, 3, 4, 5), new Uint16Array(0)]);
  });
});

for (const kind of ['busy', 'failed', 'invalid', 'lying', 'cut', 'garbage', 'stray', 'twice'] as const) {
  test(`one ${kind} answer costs time, not the result`, async () => {
    await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
      await rig.covered();
      rig.workers[0]?.failNext.push({ kind });
      const buffers = buffersOf(12);
      await rig.layer(buffers);
      if (kind === 'stray' || kind === 'twice') {
        assert.deepEqual(rig.retries, []);
        await eventually(() => rig.strays.length > 0, 'the stray reply to be dropped');
      } else {
        assert.ok(rig.retries.length > 0);
        assert.ok(rig.workers[0]?.calls.some(({ attempt }) => attempt > 0));
      }
      await rig.layer(buffers, 1);
    });
  });
}

for (const kind of ['failed', 'cut', 'die', 'garbage', 'not-held'] as const) {
  test(`with a replica, ${kind} sends the rows there within the layer`, async () => {
    await DispatchRig.run({ workers: [{ held: ALL }, { held: ALL }] }, async (rig) => {
      await rig.covered();
      await rig.using(...rig.workers);
      for (const worker of rig.workers) worker.failNext.push({ kind });
      rig.workers[1]?.failNext.pop();
      await rig.layer(buffersOf(16));
      assert.ok(rig.workers[1]?.calls.some(({ attempt }) => attempt > 0));
    });
  });
}

test('a worker that does not hold what it should is asked again what it holds', async () => {
  await DispatchRig.run({ workers: [{ held: ALL }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    const [first, second] = rig.workers as [FakeExpert, FakeExpert];
    first.setHeld(LOW, false);
    await rig.layer(buffersOf(16));
    assert.ok(rig.retries.includes('not_held'));
    const before = rig.retries.length;
    await rig.layer(buffersOf(16));
    assert.equal(rig.retries.length, before);
    assert.ok(second.calls.length > 0);
  });
});

test('a worker that hangs is late at its deadline, and its stream is opened again after the limit', async () => {
  await DispatchRig.run({ workers: [{ held: ALL }, { held: ALL }], replyLimitMs: 60 }, async (rig) => {
    await rig.covered();
    await rig.using(...rig.workers);
    const [hanging] = rig.workers as [FakeExpert];
    hanging.always = { kind: 'hang' };
    await rig.layer(buffersOf(16));
    assert.ok(rig.retries.includes('late') || rig.retries.includes('lost'));
    await eventually(() => hanging.hellos.length > 2, 'the stream to be opened again');
  });
});

test('without a holder the rows wait for one, and the layer goes on when it comes', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    const [low, high] = rig.workers as [FakeExpert, FakeExpert];
    high.failNext.push({ kind: 'die' });
    const buffers = buffersOf(16);
    const step = rig.begin(buffers);
    const handle = step.dispatch(0, buffers, 16, rig.context());
    await eventually(() => buffers.missing() < 48 && !rig.topology.views.covered, 'the worker to be lost');
    assert.ok(rig.topology.notCovered()?.includes('fake-2'));
    low.setHeld(ALL);
    await handle.done;
    step.close();
    checkRows(buffers, 0);
  });
});

test('a worker that comes back under a new incarnation is used again', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    const [low, high] = rig.workers as [FakeExpert, FakeExpert];
    high.die();
    await eventually(() => !rig.topology.views.covered, 'the worker to be lost');
    const again = await FakeExpert.start({ id: 'fake-2', held: HIGH });
    rig.workers.push(again);
    rig.announce([low, again]);
    await rig.covered();
    await rig.layer(buffersOf(16));
    assert.ok(again.calls.length > 0);
  });
});

test('when nobody comes within the deadline the rows are given up, and named', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }], remote: { expertWaitMs: 50 } }, async (rig) => {
    await rig.using(...rig.workers);
    const buffers = new ReferenceBuffers(
      [
        [0, 1, 2],
        [1, 2, 6],
        [0, 2, 3],
        [5, 6, 7],
      ],
      8,
    );
    const step = rig.begin(buffers);
    const { done } = step.dispatch(0, buffers, 4, rig.context());
    await assert.rejects(done, {
      code: 'expert_unavailable',
      message: /^layer 0 experts 5, 6, 7 cannot be computed/,
      details: { sequences: [1, 3], layer: 0, experts: [5, 6, 7] },
    });
    step.close();
  });
});

test('a worker that fails every time is asked until the time is up, and what it said is told', async () => {
  await DispatchRig.run({ workers: [{}], remote: { expertWaitMs: 300 } }, async (rig) => {
    await rig.covered();
    (rig.workers[0] as FakeExpert).always = { kind: 'failed' };
    const buffers = buffersOf(2);
    const step = rig.begin(buffers);
    const { done } = step.dispatch(0, buffers, 2, rig.context());
    await assert.rejects(done, { code: 'expert_unavailable', message: /worker fake-1 failed: told to fail/ });
    step.close();
    assert.ok(rig.breakers.includes('fake-1 open fault'));
  });
});

test('aborting drops what is on its way, and a late reply hurts nobody', async () => {
  await DispatchRig.run({ workers: [{}] }, async (rig) => {
    await rig.covered();
    let open: () => void = () => undefined;
    (rig.workers[0] as FakeExpert).failNext.push({ kind: 'wait', until: new Promise((resolve) => (open = resolve)) });
    const buffers = buffersOf(4);
    const abort = new AbortController();
    const step = rig.begin(buffers);
    const { done } = step.dispatch(0, buffers, 4, rig.context({ signal: abort.signal }));
    await eventually(() => rig.workers[0]?.calls.length === 1, 'the message to arrive');
    abort.abort();
    await assert.rejects(done, { code: 'cancelled' });
    step.close();
    open();
    await eventually(() => rig.strays.length === 1, 'the late reply');
    await rig.layer(buffersOf(4));
  });
});

test('two micro-batches of one step use the same streams without mixing rows', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    const a = buffersOf(10);
    const b = new ReferenceBuffers(choices(13).reverse(), 8);
    const context = rig.context();
    const steps = [rig.begin(a), rig.begin(b)] as const;
    for (const layer of [0, 1]) {
      const first = steps[0].dispatch(layer, a, 10, { ...context, microBatch: 0 });
      const second = steps[1].dispatch(layer, b, 13, { ...context, microBatch: 1 });
      await Promise.all([first.done, second.done]);
      checkRows(a, layer);
      checkRows(b, layer);
    }
    for (const step of steps) step.close();
  });
});

test('a worker of another checkpoint, class or shape is refused with both values', async () => {
  const wrong = [
    { fingerprint: 'other' },
    { numericsId: 'other' },
    { hidden: 16 },
    { numExperts: 4 },
    { maxMessageBytes: 100 },
  ];
  await DispatchRig.run({ workers: [{}, ...wrong] }, async (rig) => {
    await rig.covered();
    const problems = await eventually(() => {
      const links = rig.topology.links.all().slice(1);
      return (
        links.every((link) => !link.ready && link.problem !== 'not connected yet') && links.map((link) => link.problem)
      );
    }, 'the refusals');
    assert.match(problems[0] ?? '', /checkpoint other .* fingerprint/);
    assert.match(problems[1] ?? '', /numerics class other/);
    assert.match(problems[2] ?? '', /hidden size 16 .* 8/);
    assert.match(problems[3] ?? '', /number of experts 4 .* 8/);
    assert.match(problems[4] ?? '', /100 bytes/);
    await rig.layer(buffersOf(4));
  });
});

test('a worker that leaves the list keeps its live streams; one that is down goes', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    rig.announce([]);
    await rig.layer(buffersOf(8));
    rig.workers[1]?.die();
    await eventually(() => rig.topology.links.get('fake-2') === null, 'the dead worker to be dropped');
    assert.notEqual(rig.topology.links.get('fake-1'), null);
  });
});

test('a newer placement comes into force once its experts are held, and is acknowledged after the steps before it', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    const shape = { numLayers: 2, numExperts: 8 };
    const placementOf = (epoch: bigint, counts: number[], workers: number[]) =>
      assignmentOf(
        {
          epoch,
          modelFingerprint: '',
          numericsId: '',
          workers: ['fake-1', 'fake-2'],
          layers: [0, 1].map((layer) => ({ layer, counts, workers })),
          reason: '',
          createdMs: 0n,
          predicted: undefined,
        },
        shape,
      );
    const { views } = rig.topology;
    views.setPlacement(
      placementOf(
        1n,
        ALL.map(() => 1),
        ALL.map((e) => (e < 4 ? 0 : 1)),
      ),
    );
    assert.equal(views.latest.epoch, 1);
    assert.equal(views.ackedEpoch, 1);
    const pin = views.pin();
    views.setPlacement(
      placementOf(
        2n,
        ALL.map(() => 1),
        ALL.map(() => 1),
      ),
    );
    assert.equal(views.latest.epoch, 1, 'fake-2 does not hold everything yet');
    rig.workers[1]?.setHeld(ALL);
    await eventually(() => views.latest.epoch === 2, 'the switch');
    assert.equal(views.ackedEpoch, 1, 'a step still uses the old one');
    assert.equal(pin.view.epoch, 1);
    pin.release();
    assert.equal(views.ackedEpoch, 2);
    await rig.layer(buffersOf(8));
    assert.equal(rig.workers[0]?.calls.length, 0);
    assert.ok(rig.workers[1]?.calls.every(({ epoch }) => epoch === 2));
  });
});
