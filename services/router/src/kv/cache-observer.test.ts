import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics, type Logger } from '@guildhall/common';
import { testName } from '../testing/store-rig.ts';
import { FaultLog, setTierGauges, storeObserver } from './cache-observer.ts';

function recordingLogger(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const line = (level: string) => (fields: { fault: string }) => void lines.push(`${level} ${fields.fault}`);
  return { logger: { warn: line('warn'), info: line('info') } as unknown as Logger, lines };
}

test('every fault is counted, one of a kind is logged, until it has ended', async () => {
  const metrics = createMetrics('router');
  const { logger, lines } = recordingLogger();
  const faults = new FaultLog(metrics, logger);
  for (let i = 0; i < 3; i++) faults.fault('disk_full', 'no space');
  faults.fault('corrupt', 'a file');
  faults.recovered('disk_full');
  faults.recovered('disk_full');
  faults.fault('disk_full', 'no space again');
  assert.deepEqual(lines, ['warn disk_full', 'warn corrupt', 'info disk_full', 'warn disk_full']);
  const { body } = await metrics.render();
  assert.match(body, /guildhall_kv_faults_total\{kind="disk_full"\} 4/);
  assert.match(body, /guildhall_kv_faults_total\{kind="corrupt"\} 1/);
});

test('what a store tells reaches the metrics and the directory', async () => {
  const metrics = createMetrics('router');
  const told: string[] = [];
  const observer = storeObserver(metrics, new FaultLog(metrics, recordingLogger().logger), {
    added: (tier, { kind }) => void told.push(`added ${tier} ${kind}`),
    removed: (tier, kind, _name, reason) => void told.push(`removed ${tier} ${kind} ${reason}`),
  });
  observer.added('disk', { kind: 'page', name: testName('a'), size: 10, value: 1 });
  observer.removed('host', 'state', testName('a'), 'evicted');
  observer.writeBack('written', 10);
  observer.fault('truncated', 'a file');
  setTierGauges(metrics, [
    { tier: 'disk', capacityBytes: 100, usedBytes: 50, heldBytes: 20, pendingBytes: 0, pages: 3, states: 1 },
  ]);
  assert.deepEqual(told, ['added disk page', 'removed host state evicted']);
  const { body } = await metrics.render();
  for (const line of [
    'guildhall_kv_evictions_total{tier="host",reason="evicted"} 1',
    'guildhall_kv_write_backs_total{outcome="written"} 1',
    'guildhall_kv_faults_total{kind="truncated"} 1',
    'guildhall_kv_tier_capacity_bytes{tier="disk"} 100',
    'guildhall_kv_tier_bytes{tier="disk"} 50',
    'guildhall_kv_tier_held_bytes{tier="disk"} 20',
    'guildhall_kv_tier_blobs{tier="disk",kind="page"} 3',
    'guildhall_kv_tier_blobs{tier="disk",kind="state"} 1',
  ])
    assert.ok(body.includes(line), line);
});
