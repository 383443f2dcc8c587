import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type ClusterRecord, systemClock } from '@guildhall/common';
import { PlacedCluster } from '../testing/placed-cluster.ts';
import { chooseEvents, since } from './events.ts';

let placed: PlacedCluster;

before(async () => {
  placed = await PlacedCluster.start(1);
  await placed.worker('expert-1');
  await placed.until('a placement', () => placed.cluster.placements.current() !== null);
});
after(() => placed.stop());

test('events are a table for people and lines of JSON for programs', async () => {
  const text = await placed.run('events').end;
  assert.equal(text.code, 0, text.stderr);
  const lines = text.stdout.trimEnd().split('\n');
  assert.match(lines[0] ?? '', /^20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ  leader +controller-1 +controller-1 leads$/);
  assert.match(text.stdout, /worker_joined +controller-1 +expert-1 joined at 127\.0\.0\.1:1/);
  assert.match(text.stdout, /placement +controller-1 +epoch 1: first placement, 1 workers/);
  const json = await placed.run('events', '--json', '--kind', 'placement', '--since', '1h').end;
  const events = json.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ClusterRecord);
  assert.equal(events.length, 1);
  const { kind, source, details } = events[0] as ClusterRecord;
  assert.deepEqual(
    [kind, source, details['epoch'], details['workers']],
    ['placement', 'controller-1', 1, ['expert-1']],
  );
  assert.equal((details['after'] as { leastCopies: number }).leastCopies, 1);
});

test('--follow goes on until a signal, over an outage of Redis that takes its data', async () => {
  const following = placed.run('events', '--follow', '--json', '--kind', 'quarantined');
  const note = (message: string): void => placed.cluster.eventLog.append('quarantined', 'router-1', message);
  note('first');
  await placed.until('the first event', () => following.stdout().includes('"first"'));
  await placed.redis.kill();
  await placed.until('the outage to be said', () => following.stderr().includes('Redis is away; waiting for it'));
  await placed.redis.restart();
  note('second');
  await placed.until('the second event', () => following.stdout().includes('"second"'));
  following.kill('SIGINT');
  const { code, stdout } = await following.end;
  assert.equal(code, 0);
  assert.equal(stdout.trimEnd().split('\n').length, 2);
});

test('what makes no sense is refused with what does', async () => {
  const kind = await placed.run('events', '--kind', 'party').end;
  assert.equal(kind.code, 1);
  assert.match(kind.stderr, /'party' is no kind of event; kinds: placement, placement_kept/);
  const time = await placed.run('events', '--since', 'yesterday', '--json').end;
  assert.match(time.stderr, /"code":"config_invalid","message":"'yesterday' is no time/);
});

test('times are ago or absolute', () => {
  const now = Date.parse('2026-02-03T12:00:00Z');
  const read = (text: string): string => new Date(since(text, undefined, now)).toISOString();
  assert.equal(read('90s'), '2026-02-03T11:58:30.000Z');
  assert.equal(read('10m'), '2026-02-03T11:50:00.000Z');
  assert.equal(read('2h'), '2026-02-03T10:00:00.000Z');
  assert.equal(read('3d'), '2026-01-31T12:00:00.000Z');
  assert.equal(read('2026-01-02T03:04:05Z'), '2026-01-02T03:04:05.000Z');
  for (const text of ['', '5', '5w', '-3h', 'noon', '2026-13-45']) assert.throws(() => since(text, undefined, now));
});

test('events are chosen by kind and time, and of those the newest', () => {
  const at = systemClock.nowMs();
  const events = Array.from({ length: 120 }, (_, i): ClusterRecord => {
    const kind = i % 2 === 0 ? 'placement' : 'leader';
    return { id: `${i}-0`, atMs: at + i, kind, source: 'c', message: String(i), details: {} };
  });
  const chosen = (choice: Partial<Parameters<typeof chooseEvents>[1]>): [number, string | undefined] => {
    const found = chooseEvents(events, { kinds: [], sinceMs: null, limit: null, ...choice });
    return [found.length, found[0]?.message];
  };
  assert.deepEqual(chosen({}), [50, '70']);
  assert.deepEqual(chosen({ limit: 3 }), [3, '117']);
  assert.deepEqual(chosen({ limit: 500 }), [120, '0']);
  assert.deepEqual(chosen({ sinceMs: at + 10 }), [110, '10']);
  assert.deepEqual(chosen({ sinceMs: at + 10, limit: 2 }), [2, '118']);
  assert.deepEqual(chosen({ kinds: ['leader'], limit: 2 }), [2, '117']);
  assert.deepEqual(chosen({ kinds: ['leader', 'placement'], limit: 2 }), [2, '118']);
  assert.deepEqual(chosen({ kinds: ['quarantined'] }), [0, undefined]);
});
