import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { createMetrics, FakeClock, systemClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { KubeClient } from './api/client.ts';
import { type KubeEvent, KubeEvents } from './kube-events.ts';
import { ApiServer } from './testing/api-server.ts';

const EVENTS = '/api/v1/namespaces/test/events';
let api: ApiServer;
let client: KubeClient;
let clock: FakeClock;
let leads: boolean;
let events: KubeEvents;
let metrics: ReturnType<typeof createMetrics>;

beforeEach(async () => {
  api = await ApiServer.start();
  client = new KubeClient(api.credentials, systemClock);
  clock = new FakeClock();
  leads = true;
  metrics = createMetrics('controller');
  events = new KubeEvents({
    client,
    namespace: 'test',
    instance: 'controller-1',
    mayWrite: () => leads,
    clock,
    logger: silentLogger(),
    metrics,
  });
});
afterEach(async () => {
  client.close();
  await api.close();
});

async function note(message: string, fields: Partial<KubeEvent> = {}): Promise<void> {
  const regarding = { apiVersion: 'apps/v1', kind: 'Deployment', name: 'experts', uid: 'u' };
  events.note({ regarding, type: 'Normal', reason: 'Shrunk', message, ...fields });
  await events.flushed();
}

function written(): { message: string; count: number }[] {
  return api.all(EVENTS).map((event) => ({ message: String(event['message']), count: Number(event['count']) }));
}

test('equal events count one object up; others, and equal ones much later, are new', async () => {
  await note('a');
  await note('a');
  await note('b');
  await note('a');
  assert.deepEqual(written(), [
    { message: 'a', count: 3 },
    { message: 'b', count: 1 },
  ]);
  await clock.advance(600_001);
  await note('a');
  assert.equal(written().length, 3);
  const [event] = api.all(EVENTS);
  assert.deepEqual(event?.['involvedObject'], {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    name: 'experts',
    uid: 'u',
    namespace: 'test',
  });
});

test('one that the server has forgotten is written anew', async () => {
  await note('a');
  api.delete(EVENTS, api.all(EVENTS)[0]?.metadata.name ?? '');
  await note('a');
  assert.deepEqual(written(), [{ message: 'a', count: 1 }]);
});

test('an object that something keeps happening to gets a burst and then one in five minutes; others are not held up', async () => {
  for (let i = 0; i < 40; i++) await note(`event ${i}`);
  assert.equal(written().length, 25);
  await note('other', { regarding: { apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u2' } });
  assert.equal(written().length, 26);
  await clock.advance(300_000);
  await note('later');
  await note('too soon');
  assert.equal(written().length, 27);
  assert.match((await metrics.render()).body, /what="event",outcome="dropped"\} 16/);
});

test('one who does not lead writes nothing, and a server that refuses is no failure', async () => {
  leads = false;
  await note('a');
  assert.equal(api.requests.length, 0);
  leads = true;
  api.fault = () => ({ status: 403 });
  await note('a');
  assert.match((await metrics.render()).body, /what="event",outcome="refused"\} 1/);
});
