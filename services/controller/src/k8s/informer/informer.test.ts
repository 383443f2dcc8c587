import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { createMetrics, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { KubeClient } from '../api/client.ts';
import { type PodObject, podSchema } from '../api/objects.ts';
import { ApiServer } from '../testing/api-server.ts';
import { Backoff } from './backoff.ts';
import { Informer, type InformerOptions } from './informer.ts';

const PODS = '/api/v1/namespaces/test/pods';
let api: ApiServer;
let client: KubeClient;
let informers: Informer<PodObject>[];
let metrics: ReturnType<typeof createMetrics>;

beforeEach(async () => {
  api = await ApiServer.start();
  client = new KubeClient(api.credentials, systemClock);
  informers = [];
  metrics = createMetrics('controller');
});

afterEach(async () => {
  await Promise.all(informers.map((informer) => informer.stop()));
  client.close();
  await api.close();
});

function pod(name: string, labels: Record<string, string> = {}): { metadata: { name: string } } {
  return { metadata: { name, labels } } as { metadata: { name: string } };
}

function informer(options: Partial<InformerOptions<PodObject>> = {}): Informer<PodObject> {
  const one = new Informer({
    client,
    clock: systemClock,
    logger: silentLogger(),
    metrics,
    kind: 'pods',
    path: PODS,
    read: (object) => podSchema.parse(object),
    watchAgeMs: 60_000,
    // The shortest waits that jitter gives.
    random: () => 0,
    ...options,
  });
  informers.push(one);
  one.start();
  return one;
}

function names(one: Informer<PodObject>): string {
  return [...(one.items?.keys() ?? ['none'])].sort().join();
}

async function relists(reason: string): Promise<number> {
  const { body } = await metrics.render();
  const line = body
    .split('\n')
    .find((text) => text.startsWith('guildhall_k8s_relists_total') && text.includes(`"${reason}"`));
  return Number(line?.split(' ').at(-1) ?? 0);
}

const LISTS = /^GET \S+pods$/;
const WATCHES = /\?watch$/;

test('lists page by page, then follows: additions, changes, deletions, and what no selector matches stays out', async () => {
  for (let i = 0; i < 1203; i++) api.put(PODS, pod(`p${i}`, { app: 'x' }));
  api.put(PODS, pod('stranger', { app: 'y' }));
  const one = informer({ labelSelector: 'app=x' });
  await eventually(() => one.items?.size === 1203, 'the list');
  assert.equal(api.count(LISTS), 3);
  await eventually(() => api.watches === 1, 'the watch');
  api.delete(PODS, 'p0');
  api.put(PODS, pod('new', { app: 'x' }));
  api.put(PODS, pod('other', { app: 'y' }));
  await eventually(() => one.items?.has('new') === true && !one.items.has('p0'), 'the changes');
  assert.equal(one.items?.has('other'), false);
  assert.equal(api.count(LISTS), 3);
});

test('an object that cannot be read hides no other', async () => {
  api.put(PODS, { metadata: { name: 'broken' }, status: { conditions: 'none' } });
  api.put(PODS, pod('good'));
  const one = informer();
  await eventually(() => one.items !== null, 'the list');
  assert.equal(names(one), 'good');
});

test('a watch that the server ends, or that breaks, goes on from where it was, without a list', async () => {
  api.put(PODS, pod('a'));
  const one = informer();
  await eventually(() => api.watches === 1, 'the watch');
  for (const broken of [false, true]) {
    api.endWatches(broken);
    // Happens while nobody watches.
    api.put(PODS, pod(`b-${broken}`));
    await eventually(() => one.items?.has(`b-${broken}`) === true, 'what happened meanwhile');
  }
  assert.equal(api.count(LISTS), 1);
});

test('a version that the server no longer knows leads to a list, and what is gone is gone', async () => {
  api.put(PODS, pod('a'));
  api.put(PODS, pod('b'));
  const one = informer();
  await eventually(() => api.watches === 1, 'the watch');
  api.endWatches(true);
  api.delete(PODS, 'a');
  api.compact();
  await eventually(() => names(one) === 'b', 'the list');
  assert.equal(await relists('expired'), 1);
});

test('a silent watch is cut and everything listed; bookmarks keep a calm one', async () => {
  api.put(PODS, pod('a'));
  const one = informer({ watchAgeMs: 400 });
  await eventually(() => api.watches === 1, 'the watch');
  for (let i = 0; i < 20; i++) {
    api.bookmark();
    await systemClock.sleep(50);
  }
  const calm = await relists('silent');
  api.silent = true;
  api.put(PODS, pod('b'));
  await eventually(() => names(one) === 'a,b', 'what the watch kept back');
  assert.equal(calm, 0);
  assert.ok((await relists('silent')) >= 1);
});

test('nothing is told while the server has been away for longer than the age allows; it comes back by itself', async () => {
  api.put(PODS, pod('a'));
  let nowMs = 0;
  const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + nowMs };
  const one = informer({ clock });
  await eventually(() => api.watches === 1 && one.items !== null, 'the watch');
  api.fault = () => ({ status: 500 });
  api.endWatches(true);
  await eventually(() => one.problem !== '', 'the failure');
  assert.equal(names(one), 'a');
  nowMs = 60_000 + 30_001;
  assert.equal(one.items, null);
  assert.ok(one.stale);
  api.fault = () => null;
  api.put(PODS, pod('b'));
  await eventually(() => names(one) === 'a,b', 'the state');
  assert.equal(one.problem, '');
});

test('a server that asks for patience gets it: no request before Retry-After', async () => {
  const waits: number[] = [];
  const clock = {
    ...systemClock,
    sleep: (ms: number, signal?: AbortSignal) => {
      waits.push(ms);
      return systemClock.sleep(Math.min(ms, 10), signal);
    },
  };
  let refusals = 3;
  api.fault = () => (refusals-- > 0 ? { status: 429, headers: { 'retry-after': '17' } } : null);
  const one = informer({ clock });
  await eventually(() => one.items !== null, 'the list');
  assert.deepEqual(waits, [17_000, 17_000, 17_000]);
});

test('a server that ends every watch at once is asked more and more seldom', async () => {
  const waits: number[] = [];
  const clock = {
    ...systemClock,
    sleep: (ms: number, signal?: AbortSignal) => {
      waits.push(ms);
      return systemClock.sleep(5, signal);
    },
  };
  informer({ clock });
  for (let i = 0; i < 8; i++) {
    await eventually(() => api.watches === 1, 'a watch');
    api.put(PODS, pod(`p${i}`));
    api.endWatches(false);
    await eventually(() => waits.length > i, 'its end');
  }
  assert.deepEqual(waits.slice(0, 8), [400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
  assert.equal(api.count(WATCHES) <= 9, true);
});

test('a list that hangs is given up; a missing optional resource is an empty one', async () => {
  const clock = {
    ...systemClock,
    setTimer: (ms: number, fn: () => void) => systemClock.setTimer(ms >= 10_000 ? 50 : ms, fn),
  };
  let hangs = 1;
  api.fault = (_request, url) => (!url.searchParams.has('watch') && hangs-- > 0 ? 'hang' : null);
  client = new KubeClient(api.credentials, clock);
  const one = informer({ client });
  await eventually(() => one.items !== null, 'the second list');
  assert.equal(api.count(LISTS), 2);
  api.fault = () => ({ status: 404 });
  const missing = informer({ optional: true });
  await eventually(() => missing.items !== null, 'the absence');
  assert.equal(missing.items?.size, 0);
});

test('waits double up to a cap, are spread by half, and are never shorter than the server asks', () => {
  const lows = new Backoff(() => 0, 100, 1000);
  const highs = new Backoff(() => 1, 100, 1000);
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => lows.next()),
    [50, 100, 200, 400, 500],
  );
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => highs.next()),
    [100, 200, 400, 800, 1000],
  );
  assert.equal(lows.next(5000), 5000);
  assert.equal(highs.next(5000), 6000);
  lows.reset();
  assert.equal(lows.next(), 50);
});
