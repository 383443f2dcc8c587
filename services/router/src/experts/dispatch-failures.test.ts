import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GuildhallError } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import fc from 'fast-check';
import type { FakeAction, FakeExpert } from '../../../../test/fakes/fake-expert.ts';
import { choices, DispatchRig, type RigOptions } from '../testing/dispatch-rig.ts';
import { ReferenceBuffers } from '../testing/reference-buffers.ts';

const LOW = [0, 1, 2, 3];
const HIGH = [4, 5, 6, 7];
/** Layers after which latencies are measured. */
const WARM = 40;
/** First number of a row that breaks whoever computes it. */
const POISON = 1000;

function buffersOf(numRows: number): ReferenceBuffers {
  return new ReferenceBuffers(choices(numRows), 8);
}

/** A gate that a test opens. */
function gate(): { until: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const until = new Promise<void>((resolve) => (open = resolve));
  return { until, open };
}

/** Two workers that hold everything and whose latencies are measured. */
async function withReplicas(options: Partial<RigOptions>, body: (rig: DispatchRig) => Promise<void>): Promise<void> {
  await DispatchRig.run({ workers: [{}, {}], ...options }, async (rig) => {
    await rig.covered();
    await rig.using(...rig.workers);
    for (let i = 0; i < WARM; i++) await rig.layer(buffersOf(24), i % 2);
    await body(rig);
  });
}

function faultsOf(rig: DispatchRig): number {
  return rig.retries.filter((reason) => reason === 'fault').length;
}

async function dispatched(rig: DispatchRig, buffers: ReferenceBuffers, layer = 0): Promise<void> {
  const step = rig.begin(buffers);
  try {
    await step.dispatch(layer, buffers, buffers.numTokens, rig.context()).done;
  } finally {
    step.close();
  }
}

test('a straggler is hedged, the first answer wins, and the other one changes nothing', async () => {
  await withReplicas({ policy: { hedgeShare: 1, leastDeadlineMs: 60_000 } }, async (rig) => {
    const mostCalls = (): number => Math.max(...rig.workers.map(({ calls }) => calls.length));
    while (mostCalls() < WARM) await rig.layer(buffersOf(24));
    // The one whose latencies are known best: without enough of them nothing is hedged.
    const [slow] = rig.workers.toSorted((a, b) => b.calls.length - a.calls.length) as [FakeExpert];
    rig.hedges.length = 0;
    const buffers = buffersOf(24);
    let { until, open } = gate();
    await eventually(async () => {
      ({ until, open } = gate());
      slow.always = { kind: 'wait', until };
      // On a busy machine the other worker may not be in good order, and then nothing is hedged.
      const patience = setTimeout(open, 3000);
      await rig.layer(buffers);
      clearTimeout(patience);
      return rig.hedges.includes('won');
    }, 'a call to the slow worker');
    assert.deepEqual(rig.retries, []);
    slow.always = null;
    open();
    await eventually(() => rig.late.includes(slow.id), 'the slower answer');
    await rig.layer(buffers);
    assert.equal(faultsOf(rig), 0);
  });
});

test('without a budget a late call goes elsewhere at its deadline, and its late answer is dropped', async () => {
  await withReplicas({ policy: { hedgeShare: 0 } }, async (rig) => {
    const { until, open } = gate();
    const [slow] = rig.workers as [FakeExpert];
    slow.always = { kind: 'wait', until };
    rig.failovers.length = 0;
    await eventually(async () => {
      // The choice may leave it out for a while.
      await rig.layer(buffersOf(24));
      return rig.retries.includes('late');
    }, 'a late call');
    assert.deepEqual(
      rig.hedges.filter((outcome) => outcome !== 'denied'),
      [],
    );
    assert.ok(rig.failovers.length > 0);
    slow.always = null;
    open();
    await eventually(() => rig.late.length > 0, 'the late answer');
    await rig.layer(buffersOf(24));
    assert.equal(faultsOf(rig), 0);
  });
});

test('a worker that answers nothing is soon left out, and used again when it answers', async () => {
  await withReplicas({}, async (rig) => {
    const { until, open } = gate();
    const [stopped] = rig.workers as [FakeExpert];
    stopped.always = { kind: 'wait', until };
    for (let i = 0; i < 20; i++) await rig.layer(buffersOf(24), i % 2);
    await eventually(async () => {
      await rig.layer(buffersOf(24));
      return rig.policy.rank('fake-1') === 1;
    }, 'the worker to be left out');
    const left = stopped.calls.length;
    for (let i = 0; i < 20; i++) await rig.layer(buffersOf(24));
    // Probes are few.
    assert.ok(stopped.calls.length <= left + 4, `${left}, then ${stopped.calls.length} calls`);
    stopped.always = null;
    open();
    await eventually(async () => {
      await rig.layer(buffersOf(24));
      return rig.policy.rank('fake-1') === 2;
    }, 'the worker to be used again');
  });
});

test('when every worker is slow, second calls stay within their share', async () => {
  await withReplicas({}, async (rig) => {
    for (const worker of rig.workers) {
      worker.always = { kind: 'delay', ms: 15 };
      worker.calls.length = 0;
    }
    const before = rig.retries.length;
    rig.hedges.length = 0;
    for (let i = 0; i < 80; i++) await rig.layer(buffersOf(24), i % 2);
    const calls = rig.workers.reduce((sum, worker) => sum + worker.calls.length, 0);
    const hedges = rig.hedges.filter((outcome) => outcome === 'sent').length;
    const late = rig.retries.slice(before).filter((reason) => reason === 'late').length;
    assert.ok(hedges <= 4 + 0.03 * calls, `${hedges} second calls of ${calls}`);
    assert.ok(late <= 9 + 0.04 * calls, `${late} late calls of ${calls}`);
  });
});

test('a sick worker is left out, probed with copies, and used again when it is well', async () => {
  await withReplicas({}, async (rig) => {
    const [sick] = rig.workers as [FakeExpert];
    sick.always = { kind: 'failed' };
    await eventually(async () => {
      await rig.layer(buffersOf(24));
      return rig.breakers.includes('fake-1 open fault');
    }, 'the breaker to open');
    const faults = faultsOf(rig);
    const before = sick.calls.length;
    await eventually(async () => {
      await rig.layer(buffersOf(24));
      return sick.calls.length > before + 1;
    }, 'two probes');
    // A probe that fails costs nobody anything.
    assert.equal(faultsOf(rig), faults);
    sick.always = null;
    await eventually(async () => {
      await rig.layer(buffersOf(24));
      return rig.breakers.includes('fake-1 closed ok');
    }, 'the breaker to close');
    const after = sick.calls.length;
    await eventually(async () => {
      await rig.layer(buffersOf(24));
      return sick.calls.length > after;
    }, 'the worker to be used again');
  });
});

test('a lone holder is asked although its breaker is open', async () => {
  await DispatchRig.run({ workers: [{ held: LOW }, { held: HIGH }] }, async (rig) => {
    await rig.covered();
    await rig.layer(buffersOf(12));
    const [sick] = rig.workers as [FakeExpert];
    for (let i = 0; i < 5; i++) rig.policy.record('fake-1', 'fault');
    assert.equal(rig.policy.rank('fake-1'), 1);
    const before = sick.calls.length;
    await rig.layer(buffersOf(12));
    assert.ok(sick.calls.length > before);
    assert.equal(rig.policy.rank('fake-1'), 2);
  });
});

test('when every holder is lost the rows wait, and go on with the first that is back', async () => {
  await DispatchRig.run({ workers: [{}, {}] }, async (rig) => {
    await rig.covered();
    await rig.using(...rig.workers);
    const buffers = buffersOf(16);
    for (const worker of rig.workers) worker.always = { kind: 'die' };
    const step = rig.begin(buffers);
    const handle = step.dispatch(0, buffers, 16, rig.context());
    await eventually(() => !rig.topology.views.covered, 'every worker to be lost');
    const again = await rig.restart('fake-2');
    rig.announce([again]);
    await handle.done;
    step.close();
    assert.ok(again.calls.length > 0);
    assert.equal(rig.failovers.length, 1);
  });
});

test('rows that two workers fail on are split, and only the sequence that it is about is named', async () => {
  const decide = (rows: Float32Array): FakeAction | null => (rows.includes(POISON) ? { kind: 'failed' } : null);
  await withReplicas({ workers: [{ decide }, { decide }] }, async (rig) => {
    const buffers = buffersOf(12);
    buffers.input[5 * 8] = POISON;
    await assert.rejects(dispatched(rig, buffers), {
      code: 'computation_failed',
      message: /told to fail/,
      details: { sequences: [5], layer: 0, experts: choices(12)[5]?.toSorted((a, b) => a - b) },
    });
    // Nobody is sick: the others' rows are computed everywhere.
    await rig.layer(buffersOf(12));
    assert.ok(rig.workers.every(({ id }) => rig.policy.rank(id) === 2));
  });
});

test('rows that break the stream of whoever gets them are found out one sequence after another', async () => {
  const decide = (rows: Float32Array): FakeAction | null => (rows.includes(POISON) ? { kind: 'cut' } : null);
  await withReplicas({ workers: [{ decide }, { decide }] }, async (rig) => {
    const buffers = buffersOf(6);
    buffers.input[2 * 8] = POISON;
    await assert.rejects(dispatched(rig, buffers), (err: GuildhallError) => {
      assert.equal(err.code, 'computation_failed');
      assert.deepEqual(err.details['sequences'], [2]);
      return true;
    });
    const losses = rig.retries.filter((reason) => reason === 'lost').length;
    assert.ok(losses <= 8, `${losses} calls were lost`);
    await rig.layer(buffersOf(6));
  });
});

test('rows that the workers fail on are not to blame when they fail on everything', async () => {
  await withReplicas({ remote: { expertWaitMs: 1500 } }, async (rig) => {
    for (const worker of rig.workers) worker.always = { kind: 'failed' };
    await assert.rejects(dispatched(rig, buffersOf(8)), { code: 'expert_unavailable' });
    for (const worker of rig.workers) worker.always = null;
    await rig.layer(buffersOf(8));
  });
});

test('property: whatever fails in whatever order, every row comes once and is the right one', async () => {
  const harmless = fc.constantFrom<FakeAction>(
    { kind: 'busy' },
    { kind: 'not-held' },
    { kind: 'twice' },
    { kind: 'stray' },
    { kind: 'delay', ms: 5 },
    { kind: 'delay', ms: 30 },
  );
  // Two faults on the rows of one sequence, or three losses, would condemn them.
  const faults = fc.constantFrom<FakeAction>({ kind: 'failed' }, { kind: 'invalid' }, { kind: 'lying' });
  const losses = fc.constantFrom<FakeAction>({ kind: 'cut' }, { kind: 'garbage' });
  const disturbances = fc
    .tuple(fc.array(harmless, { maxLength: 6 }), fc.array(faults, { maxLength: 1 }), fc.array(losses, { maxLength: 2 }))
    .chain((lists) => {
      const all = lists.flat();
      return fc.tuple(
        fc.shuffledSubarray(all, { minLength: all.length }),
        fc.array(fc.nat(2), { minLength: all.length, maxLength: all.length }),
      );
    });
  const workers = [{ held: [...LOW, 4, 5] }, { held: [...HIGH, 0, 1] }, {}];
  await DispatchRig.run({ workers, policy: { hedgeShare: 0.5 } }, async (rig) => {
    await rig.covered();
    await rig.using(...rig.workers);
    await fc.assert(
      fc.asyncProperty(disturbances, fc.integer({ min: 1, max: 30 }), async ([actions, whom], rows) => {
        for (const [i, action] of actions.entries()) rig.workers[whom[i] ?? 0]?.failNext.push(action);
        for (const layer of [0, 1]) await rig.layer(buffersOf(rows), layer);
        await Promise.all([rig.layer(buffersOf(rows), 0, { microBatch: 1 }), rig.layer(buffersOf(7), 1)]);
        for (const worker of rig.workers) worker.failNext.length = 0;
      }),
      { seed: 11, numRuns: 40 },
    );
  });
});
