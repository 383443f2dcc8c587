import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Cluster, type MemberLease, newIncarnation, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { decodePlacement } from './store/placement-store.ts';
import { type TestWorker, workerValue } from './testing/members.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const SCRIPTS = new URL('../../common/src/redis/scripts/', import.meta.url);
/** How a controller asks Redis to publish. */
const PUBLISH_SHA = createHash('sha1')
  .update(readFileSync(new URL('placement-publish-4.lua', SCRIPTS)))
  .digest('hex');

let server: RedisServer;
let cluster: Cluster;
let closing: (() => unknown)[];

beforeEach(async () => {
  server = await RedisServer.start();
  cluster = new Cluster({ redis: server.url, cluster: 'lead', clock: systemClock, logger: silentLogger() });
  closing = [() => server.stop(), () => cluster.close()];
  await cluster.start();
});
afterEach(async () => {
  for (const close of closing.reverse()) await close();
});

/** A TCP connection to Redis that can hold back what begins with a request to publish. */
class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Called once with the first request to publish that arrives; Redis gets it when the result resolves. */
  onPublish: (() => Promise<void>) | null = null;

  private constructor(port: number) {
    this.#server = createServer((client) => {
      const redis = connect(port, '127.0.0.1');
      let order = Promise.resolve();
      client.on('data', (bytes: Buffer) => {
        const hold = bytes.includes(PUBLISH_SHA) ? this.onPublish : null;
        if (hold !== null) this.onPublish = null;
        order = order.then(hold ?? undefined).then(() => void redis.write(bytes));
      });
      redis.on('data', (bytes: Buffer) => client.write(bytes));
      // What was sent before a process died still arrives.
      client.on('close', () => void order.then(() => redis.end()));
      redis.on('close', () => client.destroy());
      for (const socket of [client, redis]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
      }
    });
  }

  static async start(port: number): Promise<Wire> {
    const wire = new Wire(port);
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    closing.push(() => {
      wire.#server.close();
      for (const socket of wire.#sockets) socket.destroy();
    });
    return wire;
  }

  get url(): string {
    const bound = this.#server.address();
    return typeof bound === 'object' && bound !== null ? `redis://127.0.0.1:${bound.port}` : '';
  }
}

function spawnController(id: string, redis: string): ChildProcess {
  const args = ['--redis', redis, '--cluster', 'lead', '--id', id, '--settle-ms', '100', '--log-level', 'silent'];
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

async function leads(id: string): Promise<void> {
  await eventually(async () => {
    const owner = await cluster.redis.hget(cluster.keys.leader, 'owner').catch(() => null);
    return owner?.startsWith(`${id}/`) === true;
  }, `${id} to lead`);
}

async function worker(spec: TestWorker): Promise<MemberLease> {
  const state = { ...spec };
  const onLost = (err: Error): void => assert.fail(String(err));
  const incarnation = newIncarnation();
  const lease = cluster.lease({ kind: 'expert', id: spec.id, incarnation, value: () => workerValue(state), onLost });
  closing.push(
    cluster.placements.onChange((placement) => {
      state.acked = placement.epoch;
      lease.touch();
    }),
  );
  await lease.join();
  return lease;
}

/** Every epoch that was ever in force, in order, with its workers; each number's bytes must never change. */
async function history(): Promise<string[]> {
  const current = await cluster.placementStore.currentEpoch();
  const all: string[] = [];
  for (let epoch = 1; epoch <= current; epoch++) {
    const stored = await cluster.placementStore.read(epoch);
    all.push(stored === null ? 'none' : decodePlacement(stored.bytes).assignment.workers.join());
  }
  return all;
}

function placed(...ids: string[]): Promise<true> {
  return eventually(async () => (await history()).at(-1) === ids.join(), `a placement of ${ids.join()}`);
}

test('a leader that sleeps through its lease between plan and publish publishes nothing when it wakes', async () => {
  const wire = await Wire.start(server.port);
  const first = spawnController('controller-1', wire.url);
  await leads('controller-1');
  await worker({ id: 'e1' });
  await placed('e1');
  spawnController('controller-2', server.url);
  // Its next placement is on its way when it is stopped; it arrives only after another has decided differently.
  const arrived = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  wire.onPublish = () => {
    first.kill('SIGSTOP');
    arrived.resolve();
    return release.promise;
  };
  await worker({ id: 'e2' });
  await arrived.promise;
  await leads('controller-2');
  await placed('e1', 'e2');
  await worker({ id: 'e3' });
  await placed('e1', 'e2', 'e3');
  const before = await cluster.placementStore.current();
  release.resolve();
  first.kill('SIGCONT');
  await eventually(() => {
    const entry = cluster.members.members().find(({ kind, id }) => kind === 'controller' && id === 'controller-1');
    return entry !== undefined && !control.Member.decode(entry.value).ready;
  }, 'the first to say that it does not lead');
  await worker({ id: 'e4' });
  await placed('e1', 'e2', 'e3', 'e4');
  assert.deepEqual(await history(), ['e1', 'e1,e2', 'e1,e2,e3', 'e1,e2,e3,e4']);
  assert.deepEqual((await cluster.placementStore.read(3))?.bytes, before?.bytes);
});

test('a leader that is killed between plan and publish: its placement is published by the next one, once', async () => {
  const wire = await Wire.start(server.port);
  const first = spawnController('controller-1', wire.url);
  await leads('controller-1');
  await worker({ id: 'e1' });
  await placed('e1');
  spawnController('controller-2', server.url);
  const killed = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  wire.onPublish = () => {
    first.kill('SIGKILL');
    killed.resolve();
    return release.promise;
  };
  await worker({ id: 'e2' });
  await killed.promise;
  await leads('controller-2');
  await placed('e1', 'e2');
  // The dead one's bytes arrive after all.
  release.resolve();
  await worker({ id: 'e3' });
  await placed('e1', 'e2', 'e3');
  assert.deepEqual(await history(), ['e1', 'e1,e2', 'e1,e2,e3']);
});

test('two controllers at once: one leads, each change gives one epoch, and each event is there once', async () => {
  spawnController('controller-1', server.url);
  spawnController('controller-2', server.url);
  const leases: MemberLease[] = [];
  for (const id of ['e1', 'e2', 'e3']) {
    leases.push(await worker({ id }));
    await placed(...leases.map((_, index) => `e${index + 1}`));
  }
  await leases.pop()?.leave();
  await placed('e1', 'e2');
  assert.deepEqual(await history(), ['e1', 'e1,e2', 'e1,e2,e3', 'e1,e2']);
  const events = await eventually(async () => {
    const all = await cluster.eventLog.read();
    return all.some(({ message }) => message.startsWith('epoch 4:')) ? all : null;
  }, 'the events');
  const count = (kind: string): number => events.filter((event) => event.kind === kind).length;
  assert.deepEqual([count('leader'), count('placement'), count('worker_joined'), count('worker_left')], [1, 4, 3, 1]);
  assert.equal(new Set(events.map((event) => event.source)).size, 1);
});
