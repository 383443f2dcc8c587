import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { ServerWritableStream } from '@grpc/grpc-js';
import {
  bindGrpcServer,
  Cluster,
  createGrpcServer,
  type LeaderFence,
  LeaderLock,
  newIncarnation,
  systemClock,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control, router } from '@guildhall/proto';
import type { PodPhase, Workload, WriteOutcome } from '../types.ts';
import { RouterDrains } from './router-drains.ts';
import { Shrinker, VICTIM_COST } from './shrinker.ts';

const SECURITY = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };
let server: RedisServer;
let cluster: Cluster;
let leader: LeaderLock;
let closing: (() => unknown)[];

beforeEach(async () => {
  server = await RedisServer.start();
  const logger = silentLogger();
  cluster = new Cluster({ redis: server.url, cluster: 'shrink', clock: systemClock, logger });
  leader = new LeaderLock({ redis: cluster.redis, keys: cluster.keys, clock: systemClock, logger, owner: 'us' });
  closing = [() => server.stop(), () => cluster.close(), () => leader.stop()];
  await cluster.start();
  await leader.start();
});
afterEach(async () => {
  for (const close of closing.reverse()) await close();
});

/** A Deployment of routers as the API server would have it. */
class Deployment {
  replicas = 2;
  readonly pods = new Map<string, PodPhase>([
    ['r1', 'ready'],
    ['r2', 'ready'],
  ]);
  readonly costs = new Map<string, number>();
  readonly scaled: [number, number][] = [];

  get current(): Workload[] {
    const pods = [...this.pods].map(([name, phase]) => ({
      name,
      phase,
      node: 'n',
      createdMs: 0,
      readyMs: null,
      restarts: 0,
    }));
    const calm = { foreignWriter: null, otherScaler: null, paused: false, rolling: false };
    return [{ kind: 'routers', name: 'router', deployment: 'routers', replicas: this.replicas, ...calm, pods }];
  }

  deletionCosts(): ReadonlyMap<string, number> {
    return this.costs;
  }

  setDeletionCost(pod: string, cost: number): Promise<WriteOutcome> {
    this.costs.set(pod, cost);
    return Promise.resolve('done');
  }

  clearDeletionCost(pod: string): Promise<WriteOutcome> {
    this.costs.delete(pod);
    return Promise.resolve('done');
  }

  scale(_deployment: string, from: number, to: number): Promise<WriteOutcome> {
    this.scaled.push([from, to]);
    this.replicas = to;
    return Promise.resolve('done');
  }

  event(): void {}
}

interface Rig {
  deployment: Deployment;
  shrinker: Shrinker;
  drains: RouterDrains;
  /** One look, as the controller takes it. */
  look: () => Promise<void>;
}

/** A controller's part in shrinking; `fence` is what it believes to lead by. */
function controller(deployment: Deployment, fence: () => LeaderFence | null = () => leader.fence): Rig {
  const logger = silentLogger();
  const drains = new RouterDrains({ tls: SECURITY, clusterToken: null, logger, onChange: () => undefined });
  closing.push(() => drains.close());
  const shrinker = new Shrinker({
    drains: cluster.drains,
    workloads: deployment,
    leader: {
      get fence() {
        return fence();
      },
      check: () => undefined,
    },
    members: () => cluster.members.members(),
    routers: drains,
    clock: systemClock,
    logger,
    emit: () => undefined,
  });
  const look = async (): Promise<void> => shrinker.reconcile((await cluster.drains.read()).requests);
  return { deployment, shrinker, drains, look };
}

/** A router that drains until the test lets it be empty. */
async function startRouter(id: string): Promise<{ calls: number; empty: () => void }> {
  const emptied = Promise.withResolvers<void>();
  const state = { calls: 0, draining: false, empty: (): void => emptied.resolve() };
  const grpc = createGrpcServer(SECURITY, { maxMessageBytes: 1 << 20 });
  const drain = async (call: ServerWritableStream<router.DrainRequest, router.DrainProgress>): Promise<void> => {
    state.calls += 1;
    state.draining = true;
    call.write({ running: 3, waiting: 0, parked: 0, moved: 1 });
    await emptied.promise;
    call.write({ running: 0, waiting: 0, parked: 0, moved: 4 });
    call.end();
  };
  grpc.addService(router.RouterService, { drain } as never);
  const address = await bindGrpcServer(grpc, '127.0.0.1:0');
  closing.push(() => grpc.forceShutdown());
  const join = async (): Promise<void> => {
    const value = (): Uint8Array =>
      control.Member.encode(control.Member.fromPartial({ id, address, draining: state.draining })).finish();
    const lease = cluster.lease({ kind: 'router', id, incarnation: newIncarnation(), value, onLost: () => undefined });
    await lease.join();
    await cluster.members.refresh();
  };
  await join();
  return state;
}

function state(pod: string): Promise<string | undefined> {
  return cluster.drains.read().then(({ requests }) => requests.get(`router/${pod}`)?.state);
}

test('a router moves its streams before replicas are lowered, also when another controller takes over in the middle', async () => {
  const fake = await startRouter('r2');
  const deployment = new Deployment();
  const first = controller(deployment);
  assert.equal(await first.shrinker.shrink('routers', ['r2']), 'done');
  await first.look();
  await eventually(() => fake.calls === 1, 'the call');
  assert.equal(deployment.costs.get('r2'), VICTIM_COST);
  assert.equal(await state('r2'), 'moving');
  assert.equal(await first.shrinker.abort('routers'), 'refused', 'its streams are on their way');
  first.drains.close();
  const second = controller(deployment);
  await second.look();
  await eventually(() => fake.calls === 2, 'the call of the successor');
  await second.look();
  assert.deepEqual(deployment.scaled, []);
  assert.match(second.shrinker.current[0]?.why ?? '', /r2: 3 running/);
  fake.empty();
  await eventually(async () => {
    await second.look();
    return deployment.scaled.length > 0;
  }, 'fewer replicas');
  assert.deepEqual(deployment.scaled, [[2, 1]]);
  deployment.pods.delete('r2');
  await second.look();
  assert.equal(await state('r2'), undefined);
});

test('what is refused: the last ready router, a pod of another Deployment, a second shrink, a controller that no longer leads', async () => {
  const deployment = new Deployment();
  const { shrinker } = controller(deployment);
  assert.equal(await shrinker.shrink('routers', ['r1', 'r2']), 'refused');
  assert.equal(await shrinker.shrink('routers', ['stranger']), 'refused');
  const stale = leader.fence;
  await leader.stop();
  const next = new LeaderLock({
    redis: cluster.redis,
    keys: cluster.keys,
    clock: systemClock,
    logger: silentLogger(),
    owner: 'successor',
  });
  closing.push(() => next.stop());
  await next.start();
  const late = controller(deployment, () => stale);
  assert.equal(await late.shrinker.shrink('routers', ['r2']), 'refused');
  assert.equal((await cluster.drains.read()).requests.size, 0);
  const leading = controller(deployment, () => next.fence);
  assert.equal(await leading.shrinker.shrink('routers', ['r2']), 'done');
  assert.equal(await leading.shrinker.shrink('routers', ['r1']), 'conflict');
});

test('called off before it has begun it leaves neither request nor mark; a pod that never served needs no drain', async () => {
  const deployment = new Deployment();
  const { shrinker, look } = controller(deployment);
  await startRouter('r2');
  shrinker.guard = () => 'not yet';
  assert.equal(await shrinker.shrink('routers', ['r2']), 'done');
  deployment.replicas = 3;
  await look();
  assert.equal((await cluster.drains.read()).requests.size, 0);
  assert.equal(deployment.costs.size, 0);
  deployment.pods.set('r3', 'unschedulable');
  shrinker.guard = () => null;
  assert.equal(await shrinker.shrink('routers', ['r3']), 'done');
  await look();
  assert.deepEqual(deployment.scaled, [[3, 2]]);
});
