import assert from 'node:assert/strict';
import { test } from 'node:test';
import { control } from '@guildhall/proto';
import { kubernetesLines, placeColumns } from './status-kubernetes.ts';

const pod = { name: 'e1', node: 'gpu-7', phase: 'loading', createdMs: 0, readyMs: null, restarts: 2 } as const;

test('status shows the Lease, Deployments with what others do to them, pods with their nodes, and shrinks', () => {
  const text = kubernetesLines({
    namespace: 'team-a',
    release: 'prod',
    lease: { name: 'prod-controller', holder: 'controller-x/1', mode: 'lock' },
    watches: [
      { kind: 'pods', ageS: 3, stale: false, problem: '' },
      { kind: 'deployments', ageS: 300, stale: true, problem: 'no answer' },
    ],
    workloads: [
      {
        kind: 'experts',
        name: 'all',
        deployment: 'experts',
        replicas: 3,
        foreignWriter: 'kubectl-scale',
        otherScaler: 'their-hpa',
        paused: true,
        rolling: true,
        pods: [pod],
      },
    ],
    shrinks: [{ deployment: 'experts', pods: ['e1'], state: 'draining', sinceMs: 0, why: 'e1: moving' }],
  }).join('\n');
  for (const part of [
    'release prod in team-a, Lease prod-controller held by controller-x/1; the API server is away',
    'watch of deployments: stale; no answer',
    'rolling, paused, scaled by their-hpa, replicas written by kubectl-scale',
    'gpu-7',
    'draining',
  ])
    assert.ok(text.includes(part), part);
  assert.ok(!text.includes('watch of pods'));
});

test('members show their node and group where any has one', () => {
  const [plain, placed] = [{}, { node: 'gpu-7', group: 'hot' }].map((fields) => control.Member.fromPartial(fields));
  assert.ok(plain !== undefined && placed !== undefined);
  assert.deepEqual(placeColumns([plain]).headings, []);
  const { headings, cells } = placeColumns([plain, placed]);
  assert.deepEqual(
    [headings, cells(placed), cells(plain)],
    [
      ['node', 'group'],
      ['gpu-7', 'hot'],
      ['', ''],
    ],
  );
});
