import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Cluster } from './cluster.ts';
import { EVENT_KINDS, type EventLog, isEventKind } from './event-log.ts';

let server: RedisServer;
let home: Cluster;
let log: EventLog;
let count = 0;

before(async () => {
  server = await RedisServer.start();
});
after(() => server.stop());
beforeEach(async () => {
  const options = { redis: server.url, clock: systemClock, logger: silentLogger() };
  home = new Cluster({ ...options, cluster: `events-${count++}` });
  log = home.eventLog;
  await eventually(() => home.redis.status === 'ready', 'connection');
});
afterEach(() => home.close());

async function messages(): Promise<string[]> {
  return (await log.read()).map((event) => event.message);
}

test('events come back as they were noted, in order, from the beginning, the end or a place', async () => {
  log.append('leader', 'controller-1', 'one', { fence: 3 });
  log.append('placement', 'controller-1', 'two');
  log.append('drain_done', 'controller-1', 'three');
  await log.flushed();
  const all = await log.read();
  const fields = all.map(({ kind, source, message, details }) => [kind, source, message, details]);
  assert.deepEqual(fields, [
    ['leader', 'controller-1', 'one', { fence: 3 }],
    ['placement', 'controller-1', 'two', {}],
    ['drain_done', 'controller-1', 'three', {}],
  ]);
  assert.ok(all.every((event) => Math.abs(event.atMs - systemClock.nowMs()) < 600_000));
  assert.deepEqual(
    (await log.read(all[0]?.id)).map((event) => event.message),
    ['two', 'three'],
  );
  assert.deepEqual(
    (await log.read('0', 1)).map((event) => event.message),
    ['one'],
  );
  assert.deepEqual(
    (await log.tail(2)).map((event) => event.message),
    ['two', 'three'],
  );
});

test('following goes on where it was, and begins anew with a log that begins anew', async () => {
  log.append('leader', 'c', 'one');
  await log.flushed();
  const first = await log.follow('0');
  assert.deepEqual(
    first.events.map((event) => event.message),
    ['one'],
  );
  assert.deepEqual(await log.follow(first.next), { events: [], next: first.next });
  log.append('leader', 'c', 'two');
  await log.flushed();
  const second = await log.follow(first.next);
  assert.deepEqual(
    second.events.map((event) => event.message),
    ['two'],
  );
  await home.redis.del(home.keys.eventLog);
  assert.deepEqual(await log.follow(second.next), { events: [], next: '0' });
  // Ids are times: those of a Redis whose clock is behind are smaller than what was seen.
  await home.redis.xadd(
    home.keys.eventLog,
    '5-1',
    'event',
    JSON.stringify({ atMs: 1, kind: 'leader', message: 'old' }),
  );
  const third = await log.follow(second.next);
  assert.deepEqual(
    third.events.map((event) => event.message),
    ['old'],
  );
  assert.deepEqual(await log.follow(third.next), { events: [], next: '5-1' });
});

test('entries that cannot be read, or are of a kind of another release, are passed over', async () => {
  const add = (...fields: string[]): Promise<string | null> => home.redis.xadd(home.keys.eventLog, '*', ...fields);
  await add('event', '{');
  await add('event', 'null');
  await add('event', JSON.stringify({ atMs: 1, kind: 'toString', source: 'c', message: 'm' }));
  await add('event', JSON.stringify({ atMs: 1, kind: 'a_kind_of_tomorrow', source: 'c', message: 'm' }));
  await add('event', JSON.stringify({ atMs: 1, kind: 'leader', source: 'c' }));
  await add('other', 'field');
  log.append('leader', 'c', 'good');
  await log.flushed();
  assert.deepEqual(await messages(), ['good']);
  assert.deepEqual((await log.follow('0', 3)).events, []);
  let { next } = await log.follow('0', 3);
  assert.notEqual(next, '0', 'a page without a readable entry is no reason to stop');
  const rest = await log.follow(next, 100);
  assert.deepEqual(
    rest.events.map((event) => event.message),
    ['good'],
  );
  next = rest.next;
  assert.deepEqual((await log.follow(next)).events, []);
});

test('the log is trimmed to about ten thousand events', async () => {
  const pipeline = home.redis.pipeline();
  const text = JSON.stringify({ atMs: 1, kind: 'leader', source: 'c', message: 'old' });
  for (let i = 0; i < 12_000; i++) pipeline.xadd(home.keys.eventLog, '*', 'event', text);
  await pipeline.exec();
  log.append('leader', 'c', 'new');
  await log.flushed();
  const length = await home.redis.xlen(home.keys.eventLog);
  assert.ok(length >= 10_000 && length < 11_000, `${length} are kept`);
  assert.deepEqual(
    (await log.tail(1)).map((event) => event.message),
    ['new'],
  );
});

test('what happens while Redis is away is written when it is back, the newest of it and in order', async () => {
  await server.kill();
  await eventually(() => home.redis.status !== 'ready', 'the connection to break');
  for (let i = 0; i < 300; i++) log.append('leader', 'c', `event ${i}`);
  await log.flushed();
  await assert.rejects(log.read(), { code: 'redis_unavailable' });
  await assert.rejects(log.tail(1), { code: 'redis_unavailable' });
  await assert.rejects(log.follow('0'), { code: 'redis_unavailable' });
  await server.restart();
  const written = await eventually(async () => {
    const now = await messages().catch((): string[] => []);
    return now.includes('event 299') ? now : null;
  }, 'the events to be written');
  assert.equal(written[0], 'event 44');
  assert.equal(written.length, 256);
  assert.deepEqual(
    written,
    Array.from({ length: 256 }, (_, i) => `event ${i + 44}`),
  );
});

test('kinds are a closed list', () => {
  assert.ok(Object.keys(EVENT_KINDS).every(isEventKind));
  for (const text of ['', 'toString', 'Leader']) assert.equal(isEventKind(text), false);
});
