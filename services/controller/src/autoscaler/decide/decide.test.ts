import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Plan } from '../plan.ts';
import { type AutoscalerPolicy, autoscalerPolicySchema } from '../policy.ts';
import type { GroupLoad, RouterLoad, View, WorkloadView } from '../view.ts';
import { decide } from './decide.ts';
import { stepTime } from './queueing.ts';

const HOUR = 3_600_000;

/** A group whose replicas are all ready, watched for long; `work` in replicas that compute all the time. */
function group(name: string, replicas: number, work: number, given: Partial<WorkloadView> = {}): WorkloadView {
  const load: GroupLoad = {
    shared: { now: work, high: work },
    fixed: 0,
    busiest: replicas === 0 ? 0 : Math.min(1, work / replicas),
    rows: { now: work * 1000, high: work * 1000 },
    rowsPerReplica: 1000,
  };
  return {
    kind: 'experts',
    name,
    deployment: name,
    replicas,
    pods: { ready: replicas, loading: 0, pending: 0, failed: 0, terminating: 0, unschedulableMs: [] },
    group: load,
    router: null,
    memory: { reach: name, pairs: 8, slots: 8 },
    missing: [],
    stuck: [],
    blocks: [],
    rolling: false,
    shrinking: null,
    victim: { pod: `${name}-1`, block: null },
    raisedMs: null,
    loweredMs: null,
    youngestMs: HOUR,
    watchedMs: HOUR,
    yieldsMs: 0,
    ...given,
  };
}

function routers(replicas: number, load: Partial<RouterLoad> = {}, given: Partial<WorkloadView> = {}): WorkloadView {
  const level = (value: number): { now: number; high: number } => ({ now: value, high: value });
  const router: RouterLoad = {
    kv: level(0.5),
    prefillMs: level(0),
    running: 10,
    waiting: level(0),
    ttftMs: level(300),
    itlMs: level(40),
    stepsPerSecond: 25,
    kvWhenFree: null,
    drains: false,
    pressure: 1,
    ...load,
  };
  return { ...group('router', replicas, 0), kind: 'routers', group: null, memory: null, router, ...given };
}

function viewOf(workloads: WorkloadView[], demand: Partial<View['demand']> = {}): View {
  return { atMs: 0, workloads, demand: { held: 0, inGateways: 5, inRouters: 5, idleMs: 0, ...demand } };
}

function policyOf(
  names: string[],
  given: Record<string, unknown> = {},
  ofGroup: Record<string, unknown> = {},
): AutoscalerPolicy {
  const groups = names.map((name) => ({ name, deployment: name, min: 1, max: 20, gpusPerReplica: 1, ...ofGroup }));
  const router = { deployment: 'router', min: 1, max: 8 };
  return autoscalerPolicySchema.parse({ mode: 'active', groups, routers: router, ...given });
}

function wanted(plan: Plan): Record<string, number> {
  return Object.fromEntries(plan.decisions.map(({ workload, desired }) => [workload, desired]));
}

function holds(plan: Plan, name: string): string[] {
  return plan.decisions.find(({ workload }) => workload === name)?.holds.map(({ reason }) => reason) ?? [];
}

test('what a load needs: the work with headroom over the target', () => {
  const plan = decide(viewOf([group('a', 2, 1.9), routers(1)]), policyOf(['a']));
  // 1.9 · 1.2 / 0.7 = 3.26.
  assert.equal(wanted(plan)['a'], 4);
  assert.deepEqual(
    plan.steps.map(({ kind, reason }) => [kind, reason]),
    [['scale', 'load']],
  );
});

test('pods that are on their way count: nothing is asked for twice', () => {
  const loading = { ready: 2, loading: 2, pending: 0, failed: 0, terminating: 0, unschedulableMs: [] };
  const plan = decide(viewOf([group('a', 4, 1.9, { pods: loading }), routers(1)]), policyOf(['a']));
  assert.deepEqual(plan.steps, []);
});

test('2 to 1 only where one carries the load of two, and then it stays at 1', () => {
  const policy = policyOf(['a']);
  const both = (work: number): Plan => decide(viewOf([group('a', 2, work), routers(1)]), policy);
  assert.deepEqual(both(0.6).steps, [], 'one would be at 60 %');
  const [step] = both(0.45).steps;
  assert.deepEqual(step?.kind === 'shrink' ? step.pods : step, ['a-1']);
  assert.deepEqual(decide(viewOf([group('a', 1, 0.45), routers(1)]), policy).steps, [], 'and it is not called back');
});

test('no sequence of loads makes a group go down and at once up again', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 20 }), fc.double({ min: 0, max: 20, noNaN: true }), (replicas, work) => {
      const policy = policyOf(['a']);
      const down = decide(viewOf([group('a', replicas, work), routers(1)]), policy).steps.some(
        ({ kind }) => kind === 'shrink',
      );
      if (!down) return;
      const after = decide(viewOf([group('a', replicas - 1, work), routers(1)]), policy);
      assert.ok(!after.steps.some(({ kind }) => kind === 'scale'));
    }),
  );
});

test('missing metrics are not zero: nothing goes, it is told, and what the others show may still grow', () => {
  const missing = { missing: ['a-2'] };
  const quiet = decide(viewOf([group('a', 4, 0.1, missing), routers(1)]), policyOf(['a']));
  assert.deepEqual(quiet.steps, []);
  assert.ok(holds(quiet, 'a').includes('no_metrics'));
  assert.ok(quiet.alarms.some(({ reason }) => reason === 'no_metrics'));
  assert.equal(wanted(decide(viewOf([group('a', 4, 3.9, missing), routers(1)]), policyOf(['a'])))['a'], 7);
  const unknown = decide(viewOf([group('a', 4, 0, { group: null }), routers(1)]), policyOf(['a']));
  assert.deepEqual(unknown.steps, []);
});

test('a replica goes after a whole window, and not while the load was high within it', () => {
  const young = decide(viewOf([group('a', 4, 0.1, { watchedMs: 10_000 }), routers(1)]), policyOf(['a']));
  assert.deepEqual([young.steps, holds(young, 'a')], [[], ['window']]);
  const raised = decide(viewOf([group('a', 4, 0.1, { raisedMs: 10_000 }), routers(1)]), policyOf(['a']));
  assert.deepEqual(holds(raised, 'a'), ['window']);
  const load = { ...(group('a', 4, 0.1).group as GroupLoad), shared: { now: 0.1, high: 3 } };
  assert.deepEqual(holds(decide(viewOf([group('a', 4, 0, { group: load }), routers(1)]), policyOf(['a'])), 'a'), [
    'window',
  ]);
});

test('who is planned does not carry the load of who is ready', () => {
  for (const ready of [2, 3]) {
    const pods = { ready, loading: 0, pending: 0, failed: 0, terminating: 0, unschedulableMs: [] };
    const plan = decide(viewOf([group('a', 4, 1.2, { pods }), routers(1)]), policyOf(['a']));
    assert.deepEqual([plan.steps, holds(plan, 'a')], [[], ['survivors']], `${ready} are ready`);
  }
});

test('coverage and memory keep a replica, whatever the load', () => {
  for (const reason of ['coverage', 'memory'] as const) {
    const victim = { pod: 'a-1', block: { reason, message: 'because' } };
    const plan = decide(viewOf([group('a', 4, 0.1, { victim }), routers(1)]), policyOf(['a']));
    assert.deepEqual([plan.steps, holds(plan, 'a')], [[], [reason]]);
  }
  const short = group('a', 1, 0.1, { memory: { reach: 'any', pairs: 20, slots: 8 } });
  assert.deepEqual(wanted(decide(viewOf([short, routers(1)]), policyOf(['a'])))['a'], 3);
});

test('redundancy is for groups that alone have a share', () => {
  const policy = policyOf(['a'], {}, { redundancy: 2 });
  assert.equal(wanted(decide(viewOf([group('a', 1, 0.1), routers(1)]), policy))['a'], 2);
  const any = group('a', 1, 0.1, { memory: { reach: 'any', pairs: 8, slots: 8 } });
  assert.equal(wanted(decide(viewOf([any, routers(1)]), policy))['a'], 1);
});

test('groups of one reach share their load: the cheaper one grows, the dearer one shrinks', () => {
  const memory = { reach: 'any', pairs: 8, slots: 8 };
  const policy = autoscalerPolicySchema.parse({
    mode: 'active',
    groups: [
      { name: 'dear', deployment: 'dear', min: 1, max: 8, pricePerHour: 4 },
      { name: 'cheap', deployment: 'cheap', min: 1, max: 8, pricePerHour: 1 },
    ],
    routers: { deployment: 'router', min: 1, max: 8 },
  });
  const up = decide(
    viewOf([group('dear', 2, 1.9, { memory }), group('cheap', 2, 1.9, { memory }), routers(1)]),
    policy,
  );
  assert.deepEqual(wanted(up), { dear: 2, cheap: 5, router: 1 });
  const down = decide(
    viewOf([group('dear', 2, 0.2, { memory }), group('cheap', 2, 0.2, { memory }), routers(1)]),
    policy,
  );
  assert.deepEqual(wanted(down), { dear: 1, cheap: 2, router: 1 });
});

test('the next GPUs go to the group with the latest steps, not to the largest one, and never beyond the budget', () => {
  const policy = policyOf(['large', 'late'], { gpuBudget: 10 });
  // Large: 6 replicas at 72 %; late: 1 at 95 %.
  const plan = decide(viewOf([group('large', 6, 4.3), group('late', 1, 0.95), routers(1)]), policy);
  assert.deepEqual([wanted(plan)['late'], wanted(plan)['large']], [2, 8]);
  const tight = decide(viewOf([group('large', 6, 4.3), group('late', 1, 0.95), routers(1)]), {
    ...policy,
    gpuBudget: 8,
  });
  assert.deepEqual([wanted(tight)['late'], wanted(tight)['large']], [2, 6]);
  assert.ok(holds(tight, 'large').includes('budget'));
});

test('at the edge of the budget a group that can spare one gives it first; the other grows when it is free', () => {
  const policy = policyOf(['idle', 'busy'], { gpuBudget: 5 });
  const plan = decide(viewOf([group('idle', 3, 1.3), group('busy', 2, 1.98), routers(1)]), policy);
  assert.deepEqual(
    plan.steps.map(({ workload, kind, reason }) => [workload, kind, reason]),
    [['idle', 'shrink', 'rebalance']],
  );
});

test('a replica that waits for a machine too long is given up, told, and blocks nobody', () => {
  const waits = { pods: { ready: 2, loading: 0, pending: 0, failed: 0, terminating: 0, unschedulableMs: [HOUR] } };
  const policy = policyOf(['a', 'b'], { gpuBudget: 5 });
  const spare = decide(viewOf([group('a', 3, 0.8, waits), group('b', 2, 1.9), routers(1)]), policy);
  assert.deepEqual(
    spare.steps.map(({ workload, kind }) => [workload, kind]),
    [['a', 'scale']],
  );
  assert.ok(spare.alarms.some(({ workload, reason }) => workload === 'a' && reason === 'unschedulable'));
  const needed = decide(viewOf([group('a', 3, 1.9, waits), group('b', 2, 1.9), routers(1)]), policy);
  assert.deepEqual(wanted(needed)['a'], 2, 'though it is needed, its GPU goes to who can use it');
});

test('nothing is written where somebody else has the Deployment, and the others go on', () => {
  for (const reason of ['foreign_writer', 'other_scaler', 'paused'] as const) {
    const blocks = [{ reason, message: 'because' }];
    const plan = decide(viewOf([group('a', 2, 1.9, { blocks }), group('b', 2, 1.9), routers(1)]), policyOf(['a', 'b']));
    assert.deepEqual(
      plan.steps.map(({ workload }) => workload),
      ['b'],
    );
    assert.ok(holds(plan, 'a').includes(reason));
  }
});

test('what drains is taken back when the load returns', () => {
  const shrinking = { pods: ['a-1'], committed: false, why: 'drains' };
  const pods = { ready: 1, loading: 0, pending: 0, failed: 0, terminating: 0, unschedulableMs: [] };
  const plan = decide(viewOf([group('a', 2, 0.95, { shrinking, pods }), routers(1)]), policyOf(['a']));
  assert.deepEqual(
    plan.steps.map(({ kind, reason }) => [kind, reason]),
    [['abort', 'taken_back']],
  );
});

test('the right phase: sequences that pile up behind busy experts call for experts, full pages for routers', () => {
  const level = { now: 1.9, high: 1.9 };
  const busy = decide(viewOf([group('a', 2, 1.9), routers(2, { kv: level, kvWhenFree: 0.6 })]), policyOf(['a']));
  assert.deepEqual([wanted(busy)['a'], wanted(busy)['router']], [4, 2]);
  const full = decide(viewOf([group('a', 2, 0.9), routers(2, { kv: level })]), policyOf(['a']));
  assert.deepEqual([wanted(full)['a'], wanted(full)['router']], [2, 3]);
  const slow = { slo: { ttftP95Ms: 200, itlP95Ms: null } };
  const prompts = routers(2, { waiting: { now: 4, high: 4 } });
  assert.equal(wanted(decide(viewOf([group('a', 2, 0.9), prompts]), policyOf(['a'], slow)))['router'], 3);
  assert.equal(wanted(decide(viewOf([group('a', 2, 1.9), prompts]), policyOf(['a'], slow)))['router'], 2);
});

test('time that goes into messages is not divided by replicas: growth stops, and it is told', () => {
  const load = { ...(group('a', 4, 0.2).group as GroupLoad), fixed: 0.68 };
  const plan = decide(viewOf([group('a', 4, 0.2, { group: load }), routers(1)]), policyOf(['a']));
  assert.ok((wanted(plan)['a'] ?? 99) <= 4);
  assert.ok(plan.alarms.some(({ reason }) => reason === 'objective'));
});

test('the whole model sleeps or nothing does, and wakes for requests that are held', () => {
  const policy = policyOf(['a', 'b'], { scaleToZero: { enabled: true, idleMs: 60_000 } });
  const idle = { held: 0, inGateways: 0, inRouters: 0, idleMs: 61_000 };
  const awake = [group('a', 1, 0), group('b', 2, 0), routers(1)];
  assert.deepEqual(wanted(decide(viewOf(awake, idle), policy)), { a: 0, b: 0, router: 0 });
  const paused = group('a', 1, 0, { blocks: [{ reason: 'paused', message: '' }] });
  assert.deepEqual(decide(viewOf([paused, group('b', 2, 0), routers(1)], idle), policy).steps, []);
  assert.deepEqual(
    decide(viewOf(awake, { ...idle, idleMs: null }), policy).steps.filter(({ reason }) => reason === 'idle'),
    [],
  );
  const asleep = [group('a', 0, 0), group('b', 0, 0), routers(0)];
  assert.deepEqual(decide(viewOf(asleep, idle), policy).steps, []);
  assert.deepEqual(wanted(decide(viewOf(asleep, { ...idle, held: 1, idleMs: 0 }), policy)), { a: 1, b: 1, router: 1 });
});

test('whatever part of a plan is carried out, the budget holds; and a plan follows from its view', () => {
  const workload = fc.record({
    replicas: fc.integer({ min: 0, max: 5 }),
    work: fc.double({ min: 0, max: 6, noNaN: true }),
  });
  fc.assert(
    fc.property(workload, workload, fc.integer({ min: 0, max: 8 }), fc.array(fc.boolean()), (a, b, spare, carried) => {
      const budget = a.replicas + b.replicas + spare;
      const policy = policyOf(['a', 'b'], { gpuBudget: budget });
      const view = viewOf([group('a', a.replicas, a.work), group('b', b.replicas, b.work), routers(1)]);
      const plan = decide(view, policy);
      const counts = new Map([
        ['a', a.replicas],
        ['b', b.replicas],
      ]);
      for (const [at, step] of plan.steps.entries())
        if (carried[at] !== false && step.kind === 'scale' && counts.has(step.workload))
          counts.set(step.workload, step.to);
      const used = [...counts.values()].reduce((sum, one) => sum + one, 0);
      assert.ok(used <= Math.max(budget, a.replicas + b.replicas), `${used} of ${budget}`);
      assert.deepEqual(decide(structuredClone(view), policy), plan);
    }),
  );
});

test('steps come later the busier a worker is, without end', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 5, noNaN: true }),
      fc.double({ min: 0.001, max: 1, noNaN: true }),
      (at, more) => {
        assert.ok(stepTime(at + more) > stepTime(at));
        assert.ok(Number.isFinite(stepTime(at)));
      },
    ),
  );
});

test('a policy that would make replicas go and come back is refused', () => {
  const result = autoscalerPolicySchema.safeParse({ targetUtilisation: 0.6, headroom: 1.5, scaleDownUtilisation: 0.5 });
  assert.match(result.error?.issues[0]?.message ?? '', /called back at once/);
});
