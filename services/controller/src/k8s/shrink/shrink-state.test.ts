import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { DrainRequest } from '@guildhall/common';
import type { PodPhase, Workload } from '../types.ts';
import { nextStep, type ShrinkStep, shrinksIn, type StepFacts } from './shrink-state.ts';

function workloadOf(replicas: number, pods: Record<string, PodPhase>, rolling = false): Workload {
  const there = Object.entries(pods).map(([name, phase]) => ({
    name,
    phase,
    node: 'n',
    createdMs: 0,
    readyMs: null,
    restarts: 0,
  }));
  return {
    kind: 'experts',
    name: 'all',
    deployment: 'experts',
    replicas,
    foreignWriter: null,
    otherScaler: null,
    paused: false,
    rolling,
    pods: there,
  };
}

function request(tag: string, from: number, by = `autoscaler/experts/${from}`): DrainRequest {
  return { tag, by, atMs: 1, state: 'done', keeps: 0, why: '' };
}

function step(workload: Workload | null, requests: DrainRequest[], facts: Partial<StepFacts> = {}): ShrinkStep {
  const [view] = shrinksIn(requests, workload === null ? [] : [workload]);
  assert.ok(view !== undefined);
  return nextStep(view, { waitsFor: () => '', settledForMs: null, ...facts });
}

test('requests of people are no shrinks, and each shrink has its own', () => {
  const requests = [
    request('expert/a', 3),
    request('expert/b', 3, 'operator@laptop'),
    request('router/r', 2, 'autoscaler/routers/2'),
    request('controller/c', 2, 'autoscaler/x/2'),
  ];
  const views = shrinksIn(requests, [workloadOf(3, { a: 'ready' })]);
  assert.deepEqual(
    views.map(({ deployment, from, victims }) => [deployment, from, victims.map(({ id }) => id)]),
    [
      ['experts', 3, ['a']],
      ['routers', 2, ['r']],
    ],
  );
  assert.equal(views[1]?.workload, null);
});

test('pods drain first, then replicas are lowered by as many, then the requests go with the pods', () => {
  const pods = { a: 'ready', b: 'ready', c: 'ready' } as const;
  const both = [request('expert/a', 3), request('expert/b', 3)];
  const waits = step(workloadOf(3, pods), both, {
    waitsFor: ({ id }) => (id === 'b' ? 'r1 must take up epoch 4' : ''),
  });
  assert.equal(waits.do, 'drain');
  assert.match('why' in waits ? waits.why : '', /b: r1 must/);
  const lower = step(workloadOf(3, pods), both);
  assert.deepEqual([lower.do, 'to' in lower && lower.to], ['lower', 1]);
  // Written, and not seen by anybody yet; then pods end; then they are gone.
  assert.equal(step(workloadOf(1, pods), both).do, 'wait');
  assert.equal(step(workloadOf(1, { a: 'terminating', b: 'terminating', c: 'ready' }), both).do, 'wait');
  const gone = step(workloadOf(1, { b: 'terminating', c: 'ready' }), both);
  assert.deepEqual([gone.do, 'victims' in gone && gone.victims.map(({ id }) => id)], ['forget', ['a']]);
});

test('more replicas than at the beginning call it off; other pods that went instead too, but not before that is sure', () => {
  const pods = { a: 'ready', b: 'ready' } as const;
  const one = [request('expert/a', 2)];
  assert.equal(step(workloadOf(3, pods), one).do, 'abort');
  const lowered = workloadOf(1, { a: 'ready' });
  assert.equal(step(lowered, one).do, 'wait');
  assert.equal(step(lowered, one, { settledForMs: 9999 }).do, 'wait');
  assert.equal(step(lowered, one, { settledForMs: 10_000 }).do, 'abort');
});

test('nothing is lowered while pods are being replaced, and a Deployment that is gone leaves nothing behind', () => {
  const one = [request('expert/a', 2)];
  assert.equal(step(workloadOf(2, { a: 'ready', b: 'ready' }, true), one).do, 'wait');
  assert.equal(step(null, one).do, 'forget');
});

/** Kubernetes and Redis as a shrink meets them, with a controller that may stop after any of its writes. */
class World {
  replicas = 4;
  pods = new Map<string, { phase: PodPhase; marked: boolean }>();
  requests = new Map<string, DrainRequest>();
  drained = new Set<string>();
  /** Pods that ended although somebody still needed them. */
  readonly cut: string[] = [];
  #made = 0;

  constructor() {
    for (let i = 0; i < 4; i++) this.#make();
  }

  #make(): void {
    this.pods.set(`p${this.#made++}`, { phase: 'ready', marked: false });
  }

  workload(): Workload {
    return workloadOf(this.replicas, Object.fromEntries([...this.pods].map(([name, { phase }]) => [name, phase])));
  }

  begin(victims: string[]): void {
    for (const name of victims) this.requests.set(name, request(`expert/${name}`, this.replicas));
  }

  /** A step of the controller; `crash` stops it before the write. */
  controller(crash: boolean): void {
    const [view] = shrinksIn(this.requests.values(), [this.workload()]);
    if (view === undefined) return;
    for (const { id } of view.victims) {
      const pod = this.pods.get(id);
      if (pod !== undefined && !crash) pod.marked = true;
    }
    const next = nextStep(view, {
      waitsFor: ({ id }) => (this.drained.has(id) ? '' : 'the drain'),
      settledForMs: this.#settled() ? 20_000 : 0,
    });
    if (crash) return;
    if (next.do === 'lower') this.replicas = next.to;
    if (next.do === 'forget') for (const { id } of next.victims) this.requests.delete(id);
    if (next.do === 'abort') this.requests.clear();
  }

  #settled(): boolean {
    return this.#alive().length === this.replicas && this.#alive().length === this.pods.size;
  }

  #alive(): string[] {
    return [...this.pods].filter(([, { phase }]) => phase !== 'terminating').map(([name]) => name);
  }

  drain(): void {
    const next = [...this.requests.keys()].find((name) => !this.drained.has(name));
    if (next !== undefined) this.drained.add(next);
  }

  /** The ReplicaSet controller: the marked ones first. */
  kubernetes(): void {
    const alive = this.#alive().sort((a, b) => Number(this.pods.get(b)?.marked) - Number(this.pods.get(a)?.marked));
    for (const name of alive.slice(0, Math.max(0, alive.length - this.replicas))) {
      if (!this.drained.has(name)) this.cut.push(name);
      this.pods.set(name, { phase: 'terminating', marked: true });
    }
    for (let i = alive.length; i < this.replicas; i++) this.#make();
  }

  ended(): void {
    for (const [name, { phase }] of this.pods) if (phase === 'terminating') this.pods.delete(name);
  }
}

test('in any order, with crashes at any point, exactly the drained pods go and nothing is left', () => {
  const event = fc.constantFrom('controller', 'crash', 'drain', 'kubernetes', 'ended');
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), (events, count) => {
      const world = new World();
      world.begin(['p0', 'p1', 'p2'].slice(0, count));
      const play = (name: string): void => {
        if (name === 'controller' || name === 'crash') world.controller(name === 'crash');
        else if (name === 'drain') world.drain();
        else if (name === 'kubernetes') world.kubernetes();
        else world.ended();
      };
      for (const name of events) play(name);
      for (let i = 0; i < 20; i++) for (const name of ['drain', 'controller', 'kubernetes', 'ended']) play(name);
      assert.deepEqual(world.cut, []);
      assert.equal(world.replicas, 4 - count);
      assert.deepEqual([...world.pods.keys()], ['p0', 'p1', 'p2', 'p3'].slice(count));
      assert.equal(world.requests.size, 0);
    }),
  );
});
