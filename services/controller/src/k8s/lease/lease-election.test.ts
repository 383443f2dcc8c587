import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { type Clock, Cluster, PlacementStore, runScript, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { KubeClient } from '../api/client.ts';
import { ApiServer } from '../testing/api-server.ts';
import { LeaseElection } from './lease-election.ts';
import { LeaseStore } from './lease-record.ts';

const LEASES = '/apis/coordination.k8s.io/v1/namespaces/test/leases';
/** The least that a Lease can say. */
const DURATION_MS = 1000;

let server: RedisServer;
let api: ApiServer;
let closing: (() => unknown)[];
/** Candidates whose requests the API server does not answer. */
let cutOff: Set<string>;

beforeEach(async () => {
  server = await RedisServer.start();
  api = await ApiServer.start();
  cutOff = new Set();
  api.fault = (request) => (cutOff.has(String(request.headers['x-candidate'])) ? 'hang' : null);
  closing = [() => server.stop(), () => api.close()];
});

afterEach(async () => {
  cutOff.clear();
  for (const close of closing.reverse()) await close();
});

class Candidate {
  readonly name: string;
  readonly election: LeaseElection;
  readonly cluster: Cluster;
  readonly changes: boolean[] = [];
  /** Added to the monotonic and to the wall clock. */
  jumpMs = 0;
  skewMs = 0;

  constructor(name: string) {
    this.name = name;
    const clock: Clock = {
      ...systemClock,
      monotonicMs: () => systemClock.monotonicMs() + this.jumpMs,
      nowMs: () => systemClock.nowMs() + this.skewMs,
    };
    const logger = silentLogger();
    this.cluster = new Cluster({ redis: server.url, cluster: 'lease', clock, logger });
    const current = (): Promise<{ headers: Record<string, string>; tls: object }> =>
      Promise.resolve({ headers: { 'x-candidate': name }, tls: {} });
    const client = new KubeClient({ ...api.credentials, server: api.url, current }, clock);
    this.election = new LeaseElection({
      store: new LeaseStore(client, 'test', 'lead', 300),
      owner: () => null,
      redis: this.cluster.redis,
      keys: this.cluster.keys,
      clock,
      logger,
      identity: name,
      durationMs: DURATION_MS,
      leaseRenewMs: 100,
      redisLeaseMs: 600,
      redisRenewMs: 100,
    });
    this.election.onChange((leading) => this.changes.push(leading));
    closing.push(
      () => this.close(),
      () => client.close(),
    );
  }

  async start(): Promise<this> {
    await this.cluster.start();
    await this.election.start();
    return this;
  }

  get fence(): number {
    return this.election.fence?.fence ?? 0;
  }

  /** Publishes under the fence that it believes in, or believed in last. */
  publish(epoch: number, fence = this.election.fence): Promise<string> {
    const store = new PlacementStore(this.cluster.redis, this.cluster.keys);
    return store.publish(epoch - 1, epoch, Buffer.from('x'), fence ?? { owner: this.name, fence: -1 });
  }

  /** As if killed: nothing is released. */
  async die(): Promise<void> {
    cutOff.add(this.name);
    this.cluster.redis.disconnect();
    await this.election.stop();
  }

  async close(): Promise<void> {
    await this.election.stop();
    await this.cluster.close();
  }
}

function lease(): { holder: string; transitions: number } {
  const spec = api.get(LEASES, 'lead')?.['spec'] as { holderIdentity: string; leaseTransitions: number } | undefined;
  return { holder: spec?.holderIdentity ?? '', transitions: spec?.leaseTransitions ?? -1 };
}

test('one leads; when it stops the other does at once, under a larger fence', async () => {
  const a = await new Candidate('a').start();
  const b = await new Candidate('b').start();
  assert.ok(a.fence > 0);
  assert.equal(b.fence, 0);
  assert.equal(await a.publish(1), 'published');
  const before = a.fence;
  await a.close();
  await eventually(() => b.fence > before, 'the other to lead');
  assert.deepEqual(lease(), { holder: 'b', transitions: 1 });
  assert.equal(await b.publish(2), 'published');
});

test('one that dies is followed once its record has not changed for its duration, and its late writes are refused', async () => {
  const a = await new Candidate('a').start();
  const stale = a.election.fence;
  const b = await new Candidate('b').start();
  const diedMs = systemClock.monotonicMs();
  await a.die();
  await eventually(() => b.fence > 0, 'the other to lead');
  // Never before the duration is over: that is what keeps two from leading, not a matter of speed.
  assert.ok(systemClock.monotonicMs() - diedMs >= DURATION_MS - 200);
  const late = new PlacementStore(b.cluster.redis, b.cluster.keys);
  assert.equal(await late.publish(0, 1, Buffer.from('x'), stale ?? { owner: '', fence: 0 }), 'not_leader');
  assert.equal(await b.publish(1), 'published');
});

test('clocks may differ by hours in both directions', async () => {
  for (const skewMs of [-7_200_000, 7_200_000]) {
    const a = new Candidate(`a${skewMs}`);
    const b = new Candidate(`b${skewMs}`);
    b.skewMs = skewMs;
    await a.start();
    await b.start();
    await systemClock.sleep(DURATION_MS * 1.5);
    assert.ok(a.fence > 0 && b.fence === 0, `skewed by ${skewMs}`);
    await a.close();
    await eventually(() => b.fence > 0, 'the skewed one to lead');
    await b.close();
  }
});

test('one that slept through its time learns it before any timer, and what it sends is refused', async () => {
  const a = await new Candidate('a').start();
  const believed = a.election.fence;
  // Its clock went on while it did not run.
  cutOff.add('a');
  a.jumpMs = 60_000;
  assert.equal(a.election.fence, null);
  assert.equal(a.election.mayWrite, false);
  a.cluster.redis.disconnect();
  const b = await new Candidate('b').start();
  await eventually(() => b.fence > 0, 'the other to lead');
  a.cluster.redis.connect().catch(() => undefined);
  await eventually(
    () =>
      a.publish(1, believed).then(
        (result) => result === 'not_leader',
        () => null,
      ),
    'the refusal',
  );
  assert.equal(await b.publish(1), 'published');
});

test('cut off from the API server it leads on by Redis until another takes the Lease, and then no longer', async () => {
  const a = await new Candidate('a').start();
  const fence = a.fence;
  cutOff.add('a');
  await eventually(() => a.election.mode === 'lock', 'the lock to decide');
  assert.equal(a.fence, fence);
  assert.equal(a.election.mayWrite, false, 'nothing may be written to an API server that may have another leader');
  assert.equal(await a.publish(1), 'published');
  const b = await new Candidate('b').start();
  await eventually(() => b.fence > fence, 'the holder of the Lease to take the lead');
  await eventually(() => a.fence === 0, 'the other to learn it');
  assert.equal(await b.publish(2), 'published');
  cutOff.clear();
  await eventually(() => a.election.mode === 'none', 'the other to see the Lease');
  assert.ok(b.fence > 0);
});

test('without an API server the lock in Redis elects; with it again the holder of the Lease leads', async () => {
  const a = await new Candidate('a').start();
  const b = await new Candidate('b').start();
  cutOff.add('a').add('b');
  await a.die();
  await eventually(() => b.fence > 0, 'the other to lead by the lock');
  assert.equal(b.election.mode, 'lock');
  assert.equal(b.election.mayWrite, false);
  const byLock = b.fence;
  assert.equal(await b.publish(1), 'published');
  cutOff.clear();
  const c = await new Candidate('c').start();
  await eventually(() => (b.election.mayWrite ? b : c.election.mayWrite ? c : null), 'one to hold the Lease');
  const [winner, other] = b.election.mayWrite ? [b, c] : [c, b];
  assert.equal(lease().holder, winner.name);
  assert.ok(winner.fence >= byLock);
  await eventually(() => other.fence === 0, 'the other not to lead');
  assert.equal(await winner.publish(2), 'published');
});

test('while Redis is away the holder of the Lease keeps the lead; an empty Redis gives it a new fence', async () => {
  const a = await new Candidate('a').start();
  const b = await new Candidate('b').start();
  await server.kill();
  await systemClock.sleep(DURATION_MS * 1.5);
  assert.ok(a.fence > 0 && b.fence === 0);
  assert.deepEqual(a.changes, [true]);
  await server.restart();
  await eventually(async () => (await a.publish(1).catch(() => '')) === 'published', 'its write');
  assert.equal(b.fence, 0);
});

test('a Lease that is deleted and made anew outranks every term of the old one', async () => {
  const a = await new Candidate('a').start();
  const take = (owner: string, bornS: number, term: number): Promise<unknown> =>
    runScript(
      a.cluster.redis,
      'leader-take',
      [a.cluster.keys.leader, a.cluster.keys.leaderFence],
      [owner, 60_000, bornS, term],
    );
  await a.election.stop();
  assert.ok(Number(await take('x', 100, 7)) > 0);
  assert.equal(await take('y', 100, 6), 0);
  assert.equal(await take('y', 100, 7), 0);
  assert.equal(await take('y', 99, 900), 0);
  const later = Number(await take('y', 101, 0));
  assert.ok(later > 0);
  assert.equal(await take('x', 100, 7), 0);
  assert.equal(await take('y', 101, 0), later);
  assert.ok(Number(await take('z', 101, 1)) > later);
});
