import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  autoscalerPolicySchema,
  type AutoscalerStatus,
  decide,
  type View,
  type WorkloadView,
} from '@guildhall/controller/autoscaler';
import { render } from './autoscaler.ts';

const policy = autoscalerPolicySchema.parse({ mode: 'recommend', groups: [{ name: 'a', deployment: 'a', max: 3 }] });

function workload(work: number, replicas: number): WorkloadView {
  return {
    kind: 'experts',
    name: 'a',
    deployment: 'a',
    replicas,
    pods: { ready: replicas, loading: 0, pending: 0, failed: 0, terminating: 0, unschedulableMs: [] },
    group: {
      shared: { now: work, high: work },
      fixed: 0,
      busiest: 1,
      rows: { now: 900, high: 900 },
      rowsPerReplica: 1000,
    },
    router: null,
    memory: null,
    missing: ['a-2'],
    stuck: [],
    blocks: [],
    rolling: false,
    shrinking: null,
    victim: null,
    raisedMs: null,
    loweredMs: null,
    watchedMs: 3_600_000,
    youngestMs: 3_600_000,
    yieldsMs: 0,
  };
}

function statusOf(): AutoscalerStatus {
  const demand = { held: 0, inGateways: 3, inRouters: 3, idleMs: 0 };
  const view: View = { atMs: 0, workloads: [workload(1.9, 2)], demand };
  const facts = { controller: 'controller-1', mode: policy.mode, blind: null, carriedOut: null, updatedMs: 0 };
  return { ...facts, view, policy, plan: decide(view, policy) };
}

test('what is seen, wanted, why, and what holds it back, is in the table', () => {
  const text = render(statusOf(), null, false);
  assert.match(text, /autoscaler of controller-1: mode recommend/);
  assert.match(text, /3 in gateways/);
  assert.match(text, /a\s+2\s+2\s+3\s+95 %\s+63 %\s+load\s+900 rows\/s are the work of 1\.90 replicas/);
  assert.match(text, /a is held back \(maximum\): max is 3/);
  assert.match(text, /ALARM a \(no_metrics\): a-2 tell no load/);
});

test('another policy is tried on the same observation', () => {
  const other = autoscalerPolicySchema.parse({ ...policy, groups: [{ name: 'a', deployment: 'a', max: 9 }] });
  assert.match(render(statusOf(), other, false), /under the given policy:[^]*a\s+2\s+2\s+4/);
  const json = JSON.parse(render(statusOf(), other, true)) as { whatIf: { decisions: { desired: number }[] } };
  assert.equal(json.whatIf.decisions[0]?.desired, 4);
});

test('a status that is blind says why', () => {
  const blind = { ...statusOf(), view: null, plan: null, blind: 'Redis is away' };
  assert.match(render(blind, null, false), /nothing can be decided: Redis is away/);
});
