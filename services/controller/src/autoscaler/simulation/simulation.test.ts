import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { convergedAfter, reversals } from './report.ts';
import { constant, ramp, type Scenario, type SimFault, spikes, step } from './scenario.ts';
import { groupsOf, hotShift, policyFor, scenario, SCENARIOS } from './scenarios.ts';
import { type SimResult, simulate } from './simulate.ts';

const MINUTE = 60_000;

/** When a workload was lowered, ms. */
function lowered({ changes }: SimResult, workload: string): number[] {
  return changes.filter((one) => one.workload === workload && one.to < one.from).map(({ atMs }) => atMs);
}

/** What must hold whatever happens, but for what faults do themselves. */
function checkInvariants({ policy, groups, faults }: Scenario, result: SimResult): void {
  const foreign = faults.some(({ kind }) => kind === 'foreign_writer');
  if (policy.gpuBudget !== null && !foreign)
    assert.ok(result.mostGpus <= policy.gpuBudget, `${result.mostGpus} GPUs of ${policy.gpuBudget}`);
  assert.equal(result.uncoveredMs, 0, 'every expert has a ready worker at every instant');
  assert.equal(result.dropped, 0, 'no stream ends for want of a router');
  if (!foreign) assert.deepEqual(result.undrained, [], 'what works is drained before it goes');
  for (const { name, min, max } of [
    ...policy.groups,
    ...(policy.routers === null ? [] : [{ name: 'router', ...policy.routers }]),
  ])
    for (const { replicas } of foreign ? [] : result.samples) {
      const asleep = policy.scaleToZero.enabled && Object.values(replicas).every((count) => count === 0);
      const count = replicas[name] ?? 0;
      assert.ok(asleep || (count >= Math.min(min, startOf(groups, name)) && count <= max), `${name} has ${count}`);
    }
  for (const fault of faults) {
    if (fault.kind !== 'no_metrics') continue;
    // Where the counters of gateways and routers say that nobody asks for anything, missing metrics are zero.
    const around = result.samples.filter(({ atMs }) => atMs > fault.atMs - MINUTE && atMs < fault.atMs + fault.forMs);
    if (around.some(({ running, waiting }) => running + waiting < 1)) continue;
    // A drain that was begun before goes on.
    const during = lowered(result, fault.workload).filter(
      (atMs) => atMs > fault.atMs + 20_000 && atMs < fault.atMs + fault.forMs,
    );
    assert.deepEqual(during, [], `${fault.workload} is not lowered while its metrics are missing`);
  }
}

function startOf(groups: Scenario['groups'], name: string): number {
  return groups.find((group) => group.name === name)?.replicas ?? 2;
}

test('a load of three times as much: what it needs is ready in less than two cold starts, and goes when it ends', async () => {
  const atMs = 15 * MINUTE;
  for (const kind of ['shares', 'any'] as const) {
    const groups = groupsOf(kind);
    const base = kind === 'any' ? 6 : 12;
    const load: Scenario['load'] = (nowMs) => (nowMs >= atMs && nowMs < atMs + 20 * MINUTE ? 3 * base : base);
    const made = scenario(`x3 ${kind}`, { groups, load, policy: policyFor(groups, { warmUpMs: 45_000 }) });
    const result = await simulate(made);
    checkInvariants(made, result);
    // 800 rows a request; at 70 % a worker does 7000.
    const needed = Math.ceil((3 * base * 800) / groups.length / 7000);
    const enough = result.samples.find(
      ({ atMs: nowMs, ready }) => nowMs >= atMs && groups.every(({ name }) => (ready[name] ?? 0) >= needed),
    );
    assert.ok(enough !== undefined && enough.atMs - atMs < 2 * made.coldStartMs, `enough after ${enough?.atMs} ms`);
    const clear = convergedAfter(result, atMs);
    assert.ok(clear !== null && clear < 3 * made.coldStartMs, `nothing waits after ${clear} ms`);
    const last = result.samples.at(-1);
    for (const { name } of groups) assert.ok((last?.replicas[name] ?? 99) < needed, `${name} has gone down again`);
  }
});

test('under a constant load nothing turns more than once in ten minutes, and it comes to rest', async () => {
  for (const rate of [8, 15, 31]) {
    const made = scenario(`constant ${rate}`, { load: constant(rate), seed: rate, forMs: 50 * MINUTE });
    const result = await simulate(made);
    checkInvariants(made, result);
    assert.ok(reversals(result) <= 1, `${rate}/s: ${JSON.stringify(result.changes)}`);
    const late = result.changes.filter(({ atMs }) => atMs > 30 * MINUTE);
    assert.deepEqual(late, [], `${rate}/s is at rest after half an hour`);
  }
});

test('the loads of the documentation keep every promise', async () => {
  for (const make of Object.values(SCENARIOS)) {
    const made = make();
    const result = await simulate(made);
    checkInvariants(made, result);
    const last = result.samples.at(-1);
    assert.ok((last?.waiting ?? 1) < 1 && (last?.held ?? 1) < 1, `${made.name} ends with nothing waiting`);
  }
});

test('the whole model sleeps together, and wakes for requests that were held: all of them are answered', async () => {
  const made = (SCENARIOS['to-zero'] as () => Scenario)();
  const result = await simulate(made);
  const asleep = result.samples.filter(({ replicas }) => Object.values(replicas).every((count) => count === 0));
  assert.ok(asleep.length > 10 * 60, `asleep for ${asleep.length} s`);
  for (const { replicas } of result.samples) {
    const counts = Object.values(replicas);
    assert.ok(counts.every((count) => count === 0) || counts.every((count) => count > 0), JSON.stringify(replicas));
  }
  const arrived = result.samples.reduce((sum, { load }) => sum + load, 0);
  const left = (result.samples.at(-1)?.running ?? 0) + (result.samples.at(-1)?.waiting ?? 0);
  assert.ok(
    Math.abs(arrived - result.served - left) < 30,
    `${arrived} came, ${result.served} were served, ${left} are there`,
  );
  assert.equal(result.reasons.get('idle'), 3);
  assert.equal(result.reasons.get('wake'), 3);
});

test('two groups over the budget: the next GPU goes to the one with the later steps, and the budget holds', async () => {
  const groups = groupsOf('shares', 2);
  const policy = policyFor(groups, { gpuBudget: 7 });
  const made = scenario('budget', {
    groups,
    policy,
    gpus: 8,
    load: step(10 * MINUTE, 12, 46),
    popularity: hotShift(0),
  });
  const result = await simulate(made);
  checkInvariants(made, result);
  const last = result.samples.at(-1);
  assert.deepEqual({ left: last?.replicas['left'], right: last?.replicas['right'] }, { left: 2, right: 5 });
  assert.ok(result.alarms.has('budget'));
});

test('a machine that is full keeps nobody else from growing, and what cannot be scheduled is told and given up', async () => {
  const groups = groupsOf('shares', 1);
  const policy = policyFor(groups, { pendingTimeoutMs: 3 * MINUTE });
  const load: Scenario['load'] = (nowMs) => (nowMs < 25 * MINUTE ? 30 : 5);
  const made = scenario('full', { groups, policy, gpus: 3, load, forMs: 45 * MINUTE });
  const result = await simulate(made);
  checkInvariants(made, result);
  assert.ok(result.alarms.has('unschedulable'));
  assert.ok((result.reasons.get('unschedulable') ?? 0) > 0, JSON.stringify([...result.reasons]));
  assert.deepEqual(result.samples.at(-1)?.replicas, { left: 1, right: 1, router: 1 });
});

test('somebody else’s number of replicas is left alone for a while, and told', async () => {
  const faults: SimFault[] = [
    { kind: 'foreign_writer', workload: 'left', replicas: 5, atMs: 20 * MINUTE, forMs: 1000 },
  ];
  const made = scenario('foreign', { faults, load: constant(12), forMs: 60 * MINUTE });
  const result = await simulate(made);
  checkInvariants(made, result);
  assert.ok(result.alarms.has('foreign_writer'));
  const [first] = lowered(result, 'left').filter((atMs) => atMs > 20 * MINUTE);
  assert.ok(first !== undefined && first >= 30 * MINUTE, `lowered at ${first}`);
});

test('a controller that takes over in the middle of a drain goes on, and does not shrink on what it has not seen', async () => {
  // The first drain of this load begins after about five minutes and takes eight seconds.
  const plain = await simulate(scenario('plain', { load: constant(5) }));
  const [begun] = lowered(plain, 'left');
  assert.ok(begun !== undefined);
  const crash: SimFault = { kind: 'crash', atMs: begun - 5000, forMs: 30_000 };
  const made = scenario('crash', { load: constant(5), faults: [crash] });
  const result = await simulate(made);
  checkInvariants(made, result);
  assert.equal(lowered(result, 'left').length, lowered(plain, 'left').length);
});

test('one of two writes fails: nothing is out of balance, and it is done when writes go through again', async () => {
  const groups = groupsOf('shares', 2);
  const faults: SimFault[] = [
    { kind: 'writes_fail', workload: 'left', outcome: 'conflict', atMs: 20 * MINUTE, forMs: 5 * MINUTE },
  ];
  const policy = policyFor(groups, { gpuBudget: 8 });
  const made = scenario('half', { groups, policy, gpus: 8, faults, load: step(20 * MINUTE, 12, 36) });
  const result = await simulate(made);
  checkInvariants(made, result);
  const right = result.changes.find(({ workload, to, from }) => workload === 'right' && to > from);
  assert.ok(right !== undefined && right.atMs < 21 * MINUTE, 'the other group does not wait');
  const left = result.changes.filter(({ workload, to, from }) => workload === 'left' && to > from);
  assert.ok((left[0]?.atMs ?? 0) >= 25 * MINUTE && left.length > 0);
});

const faultOf = (forMs: number): fc.Arbitrary<SimFault> => {
  const times = { atMs: fc.integer({ min: 60_000, max: forMs }), forMs: fc.integer({ min: 1000, max: 10 * MINUTE }) };
  const workload = fc.constantFrom('left', 'right', 'router');
  return fc.oneof(
    fc.record({
      kind: fc.constant('no_metrics' as const),
      how: fc.constantFrom('absent' as const, 'nan' as const),
      workload,
      ...times,
    }),
    fc.record({
      kind: fc.constant('writes_fail' as const),
      outcome: fc.constantFrom('conflict' as const, 'refused' as const),
      workload,
      ...times,
    }),
    fc.record({ kind: fc.constant('blind' as const), ...times }),
    fc.record({ kind: fc.constant('crash' as const), ...times }),
    fc.record({ kind: fc.constant('no_nodes' as const), ...times }),
    fc.record({
      kind: fc.constant('foreign_writer' as const),
      replicas: fc.integer({ min: 1, max: 6 }),
      workload,
      ...times,
    }),
  );
};

test('whatever the load and whatever breaks: budget, coverage, streams, bounds and missing metrics', async () => {
  const forMs = 20 * MINUTE;
  const rate = fc.integer({ min: 0, max: 50 });
  const load = fc.oneof(
    rate.map(constant),
    fc.tuple(fc.integer({ min: 0, max: forMs }), rate, rate).map(([atMs, before, after]) => step(atMs, before, after)),
    fc.tuple(rate, rate).map(([before, after]) => ramp(0, forMs, before, after)),
    fc.tuple(rate, rate).map(([base, peak]) => spikes(8 * MINUTE, MINUTE, base, peak)),
  );
  const given = fc.record({
    load,
    budget: fc.option(fc.integer({ min: 4, max: 10 })),
    nodes: fc.integer({ min: 4, max: 12 }),
    coldStartMs: fc.integer({ min: 5000, max: 4 * MINUTE }),
    zero: fc.boolean(),
    faults: fc.array(faultOf(forMs), { maxLength: 4 }),
    seed: fc.integer(),
  });
  await fc.assert(
    fc.asyncProperty(given, async ({ load: loadOf, budget, nodes, coldStartMs, zero, faults, seed }) => {
      const groups = groupsOf('shares', 2);
      const policy = policyFor(groups, {
        gpuBudget: budget,
        warmUpMs: 30_000,
        scaleDownAfterMs: 2 * MINUTE,
        pendingTimeoutMs: 3 * MINUTE,
        foreignHoldMs: 2 * MINUTE,
        scaleToZero: { enabled: zero, idleMs: 5 * MINUTE },
      });
      const made = scenario('any', { groups, policy, load: loadOf, gpus: nodes, coldStartMs, faults, seed, forMs });
      checkInvariants(made, await simulate(made));
    }),
    { numRuns: Number(process.env['GUILDHALL_SIM_RUNS'] ?? 6) },
  );
});

test('two runs of a scenario are alike', async () => {
  const made = (SCENARIOS['spikes'] as () => Scenario)();
  assert.deepEqual((await simulate(made)).changes, (await simulate(made)).changes);
});
