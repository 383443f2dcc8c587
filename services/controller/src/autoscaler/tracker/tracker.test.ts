import assert from 'node:assert/strict';
import { test } from 'node:test';
import { control } from '@guildhall/proto';
import type { Workload, WorkloadPod } from '../../k8s/types.ts';
import { autoscalerPolicySchema } from '../policy.ts';
import { readSignals } from '../signals.ts';
import type { WorkloadView } from '../view.ts';
import { ForeignWriters } from './foreign-writers.ts';
import { Throughput } from './throughput.ts';
import { Tracker } from './tracker.ts';

const START_MS = 1_800_000_000_000;
const policy = autoscalerPolicySchema.parse({
  groups: [{ name: 'a', deployment: 'a', max: 9 }],
  routers: { deployment: 'router', max: 9 },
});

function workload(given: Partial<Workload> = {}): Workload {
  const pod = (name: string, readyMs: number): WorkloadPod => ({
    name,
    node: 'n',
    phase: 'ready',
    createdMs: START_MS,
    readyMs,
    restarts: 0,
  });
  const pods = [pod('a-1', START_MS - 3_600_000), pod('a-2', START_MS)];
  const facts = { foreignWriter: null, otherScaler: null, paused: false, rolling: false };
  return { kind: 'experts', name: 'a', deployment: 'a', replicas: 2, pods, ...facts, ...given };
}

function entry(kind: string, id: string, member: Partial<control.Member>) {
  const value = Buffer.from(control.Member.encode(control.Member.fromPartial({ id, ...member })).finish());
  return { kind, id, incarnation: 1n, value };
}

/** What the tracker sees of the group at one time. */
function look(tracker: Tracker, afterMs: number, members: ReturnType<typeof entry>[], of = workload()): WorkloadView {
  const observation = { atMs: START_MS + afterMs, workloads: [of], shrinks: [], signals: readSignals(members) };
  const [view] = tracker.observe(observation, policy).workloads;
  assert.ok(view !== undefined);
  return view;
}

const expert = (id: string, busy?: number, rowsPerSecond?: number): ReturnType<typeof entry> =>
  entry('expert', id, {
    ready: true,
    ...(busy === undefined ? {} : { busy }),
    ...(rowsPerSecond === undefined ? {} : { rowsPerSecond }),
  });

test('what a replica measures while it warms up does not count towards the speed of its group', () => {
  const tracker = new Tracker();
  // The second one has just become ready, and is ten times as slow.
  const members = [expert('a-1', 0.5, 500), expert('a-2', 1, 100)];
  let view = look(tracker, 0, members);
  for (let at = 1; at <= 10; at += 1) view = look(tracker, at * 5000, members);
  assert.equal(Math.round(view.group?.rowsPerReplica ?? 0), 1000);
  assert.ok((view.group?.shared.now ?? 9) < 0.7, 'its rows count as what they will take');
});

test('absent, NaN and infinite figures are missing; they are zero only where all counters say so', () => {
  for (const figure of [undefined, Number.NaN, Number.POSITIVE_INFINITY, -1]) {
    const tracker = new Tracker();
    const busy = [expert('a-1', figure, figure), entry('gateway', 'g', { running: 1 })];
    assert.deepEqual(look(tracker, 0, busy).missing, ['a-1']);
    const quiet = [expert('a-1', figure, figure), entry('gateway', 'g', { running: 0 })];
    assert.deepEqual(look(tracker, 1000, quiet).missing, ['a-1'], 'not at once');
    const view = look(tracker, 20_000, quiet);
    assert.deepEqual([view.missing, view.group?.shared.now], [[], 0]);
    assert.deepEqual(look(tracker, 40_000, [expert('a-1', figure, figure)]).missing, ['a-1'], 'nobody says so');
  }
});

test('the time of rows is told from the time of messages by the worker’s own measure', () => {
  const tracker = new Tracker();
  const member = entry('expert', 'a-1', { ready: true, busy: 0.6, rowsPerSecond: 1000, usPerRow: 200 });
  let view = look(tracker, 0, [member]);
  for (let at = 1; at <= 10; at += 1) view = look(tracker, at * 5000, [member]);
  assert.ok(Math.abs((view.group?.fixed ?? 0) - 0.4) < 0.01, `${view.group?.fixed}`);
});

test('a queue in front of a router that computes nothing is no load, and is told', () => {
  const tracker = new Tracker();
  const pods: WorkloadPod[] = [
    { name: 'r-1', node: 'n', phase: 'ready', createdMs: START_MS, readyMs: START_MS - 3_600_000, restarts: 0 },
  ];
  const routers = workload({ kind: 'routers', name: 'router', deployment: 'router', replicas: 1, pods });
  const stuck = [entry('router', 'r-1', { ready: true, waiting: 50, busy: 0, kvUsage: 1 })];
  assert.deepEqual(look(tracker, 0, stuck, routers).stuck, []);
  let view = look(tracker, 61_000, stuck, routers);
  for (let at = 1; at <= 20; at += 1) view = look(tracker, 61_000 + at * 5000, stuck, routers);
  assert.deepEqual(view.stuck, ['r-1']);
  assert.ok((view.router?.waiting.now ?? 9) < 1, 'it fades from the load');
});

test('somebody else’s write is respected for a while, and longer each time it comes again', () => {
  const writers = new ForeignWriters();
  const at = (ms: number, replicas: number, foreignWriter: string | null = 'kubectl-scale'): boolean =>
    writers.check(workload({ replicas, foreignWriter }), ms, 1000) !== null;
  assert.deepEqual([at(0, 5), at(900, 5), at(1100, 5)], [true, true, false]);
  assert.equal(at(1200, 2, null), false, 'the autoscaler has written');
  assert.deepEqual([at(2000, 5), at(3500, 5), at(4100, 5)], [true, true, false]);
  assert.deepEqual([at(4200, 7), at(8000, 7), at(8300, 7)], [true, true, false]);
});

test('the speed of a group is the slope of time over rows, and a sample without work says nothing', () => {
  const throughput = new Throughput();
  assert.equal(throughput.rowsPerReplica, null);
  for (const rows of [100, 300, 700, 0]) throughput.observe(rows, rows / 2000);
  assert.ok(Math.abs((throughput.rowsPerReplica ?? 0) - 2000) < 1e-6);
});
