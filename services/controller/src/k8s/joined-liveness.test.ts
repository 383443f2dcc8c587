import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import type { LiveMembers } from '../controllers/workers/liveness.ts';
import { readMembers } from '../store/worker-store.ts';
import { routerEntry, workerEntry } from '../testing/members.ts';
import { CONFIRM_MS, EXPECT_MS, JoinedLiveness, type PodState } from './joined-liveness.ts';
import type { EndpointState } from './types.ts';

let clock: FakeClock;
let pods: Map<string, PodState> | null;
let endpoints: Map<string, EndpointState> | null;
let registry: string[];
let told: string[];
let liveness: JoinedLiveness;

beforeEach(() => {
  clock = new FakeClock();
  pods = new Map();
  endpoints = new Map();
  registry = [];
  told = [];
  liveness = new JoinedLiveness({
    endpoints: {
      get current() {
        return endpoints;
      },
    },
    pods: () => pods,
    clock,
    logger: silentLogger(),
    emit: (kind) => void told.push(kind),
  });
});

/** A pod that Kubernetes knows, and its endpoint. */
function pod(name: string, { ready = true, terminating = false, component = 'expert', named = true } = {}): void {
  pods?.set(name, { component, terminating });
  if (named) endpoints?.set(name, { pod: name, ready, usable: ready && !terminating, terminating });
}

function gone(name: string): void {
  pods?.delete(name);
  endpoints?.delete(name);
}

function judge(): LiveMembers {
  const members = registry.map((id) => (id.startsWith('r') ? routerEntry(id, 1) : workerEntry({ id })));
  return liveness.judge(readMembers(members));
}

function live(): string {
  return judge()
    .workers.map(({ id, draining }) => (draining ? `${id} drains` : id))
    .join();
}

test('where both agree a worker lives; where only Redis knows of one outside Kubernetes, too', () => {
  pod('e1');
  registry = ['e1', 'bare-metal'];
  assert.equal(live(), 'bare-metal,e1');
});

test('a pod that terminates drains at once, by the pod or by its endpoint, whichever says so first', () => {
  pod('e1', { terminating: true });
  pod('e2');
  registry = ['e1', 'e2'];
  assert.equal(live(), 'e1 drains,e2');
  endpoints?.set('e2', { pod: 'e2', ready: false, usable: false, terminating: true });
  assert.equal(live(), 'e1 drains,e2 drains');
});

test('a worker and a router whose pods are gone are lost at once, whatever their leases say', () => {
  pod('e1');
  pod('r1', { component: 'router' });
  registry = ['e1', 'r1'];
  assert.equal(judge().routers.length, 1);
  gone('e1');
  gone('r1');
  const { workers, routers, gone: why } = judge();
  assert.deepEqual([workers.length, routers.length], [0, 0]);
  assert.deepEqual([...why.keys()], ['router/r1', 'expert/e1']);
});

test('one that is ready but that Redis lost keeps its place for a while, is told once, and is lost then', async () => {
  pod('e1');
  registry = ['e1'];
  judge();
  registry = [];
  assert.deepEqual([live(), judge().expected], ['e1', ['e1']]);
  await clock.advance(EXPECT_MS - 1);
  assert.equal(live(), 'e1');
  await clock.advance(1);
  assert.deepEqual([live(), judge().expected], ['', []]);
  assert.deepEqual(told, ['worker_expected']);
  registry = ['e1'];
  assert.equal(live(), 'e1');
});

test('one that Redis lost and that is not ready is lost; one that was never known is expected, not invented', () => {
  pod('e1');
  registry = ['e1'];
  judge();
  registry = [];
  pod('e1', { ready: false });
  pod('e2');
  assert.deepEqual([live(), judge().expected], ['', ['e2']]);
});

test('a new worker gets work once a slice names it, ready or not; where none ever does, Redis decides after a while', async () => {
  pod('e1', { named: false });
  pod('e2', { named: false });
  registry = ['e1', 'e2'];
  assert.equal(live(), '');
  pod('e1', { ready: false });
  assert.equal(live(), 'e1');
  await clock.advance(CONFIRM_MS);
  assert.equal(live(), 'e1,e2');
});

test('one that had a place keeps it while no slice names it', () => {
  pod('e1');
  registry = ['e1'];
  judge();
  endpoints?.delete('e1');
  assert.equal(live(), 'e1');
});

test('while Kubernetes is not known Redis alone decides, and nobody is expected', () => {
  pod('e1');
  registry = ['e1', 'e2'];
  judge();
  endpoints = null;
  registry = ['e2', 'e3'];
  const { workers, expected } = judge();
  assert.deepEqual(
    workers.map(({ id }) => id),
    ['e2', 'e3'],
  );
  assert.deepEqual(expected, []);
});
