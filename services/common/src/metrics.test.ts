import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from './logger.ts';
import { type MetricInfo, METRICS } from './metric-table.ts';
import { createMetrics } from './metrics.ts';

test('every metric is named by its convention, and histograms have rising buckets', () => {
  for (const [name, info] of Object.entries(METRICS) as [string, MetricInfo][]) {
    assert.match(name, /^(vllm:|gen_ai_|guildhall_)[a-z0-9_]+$/);
    assert.ok(info.help.endsWith('.'), name);
    assert.equal(info.buckets !== undefined, info.type === 'histogram', name);
    const buckets = info.buckets ?? [];
    assert.deepEqual(
      [...buckets],
      [...buckets].sort((a, b) => a - b),
    );
  }
});

test('a service has its own metrics and no others', async () => {
  const metrics = createMetrics('router');
  metrics.gauge('vllm:num_requests_running', 3, { model_name: 'tiny' });
  metrics.count('guildhall_expert_rows_total', { worker: 'expert-1' }, 7);
  metrics.observe('guildhall_dispatch_seconds', 0.0003, { lane: 'decode' });
  const { body } = await metrics.render();
  assert.match(body, /vllm:num_requests_running\{model_name="tiny"\} 3/);
  assert.match(body, /guildhall_expert_rows_total\{worker="expert-1"\} 7/);
  assert.match(body, /guildhall_dispatch_seconds_count\{lane="decode"\} 1/);
  assert.throws(() => metrics.count('guildhall_http_requests_total'), { code: 'internal' });
  assert.throws(() => metrics.gauge('guildhall_expert_rows_total', 1), { code: 'internal' });
  metrics.count('guildhall_expert_rows_total', { worker: 'expert-1' }, 2);
  metrics.count('guildhall_expert_rows_total', { worker: 'expert-1' }, 3);
  assert.match((await metrics.render()).body, /guildhall_expert_rows_total\{worker="expert-1"\} 12/);
  metrics.count('guildhall_expert_rows_total', { worker: 'expert-1' }, 4);
  metrics.remove('guildhall_expert_rows_total', { worker: 'expert-1' });
  assert.doesNotMatch((await metrics.render()).body, /expert-1/);
  metrics.count('guildhall_expert_rows_total', { worker: 'expert-1' }, 5);
  assert.match((await metrics.render()).body, /guildhall_expert_rows_total\{worker="expert-1"\} 5/);
});

test('log lines are JSON with the service and without secrets', () => {
  const lines: string[] = [];
  const logger = createLogger({
    service: 'router',
    id: 'router-1',
    level: 'info',
    destination: { write: (line) => void lines.push(line) },
  });
  logger.info({ clusterToken: 'hunter2', config: { apiKey: 'hunter3' } }, 'started');
  logger.debug('hidden');
  assert.equal(lines.length, 1);
  const line = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
  assert.deepEqual(
    [line['level'], line['service'], line['id'], line['msg']],
    ['info', 'router', 'router-1', 'started'],
  );
  assert.doesNotMatch(lines[0] ?? '', /hunter/);
});

test('what was counted of a worker is forgotten with it, and nothing else', async () => {
  const metrics = createMetrics('router');
  for (const worker of ['expert-1', 'expert-2']) {
    metrics.count('guildhall_dispatch_messages_total', { worker, status: 'ok' }, 3);
    metrics.count('guildhall_dispatch_messages_total', { worker, status: 'lost' });
    metrics.gauge('guildhall_worker_breaker_open', 1, { worker });
  }
  metrics.observe('guildhall_dispatch_seconds', 0.1, { lane: 'decode' });
  await metrics.forget('worker', 'expert-1');
  const { body } = await metrics.render();
  assert.doesNotMatch(body, /expert-1/);
  assert.match(body, /guildhall_dispatch_messages_total\{worker="expert-2",status="ok"\} 3/);
  assert.match(body, /guildhall_worker_breaker_open\{worker="expert-2"\} 1/);
  assert.match(body, /guildhall_dispatch_seconds_count\{lane="decode"\} 1/);
});

test('gauges that are asked for are asked when the page is read', async () => {
  const metrics = createMetrics('router');
  let epoch = 1;
  metrics.beforeRender(() => metrics.gauge('guildhall_epoch', epoch));
  epoch = 7;
  assert.match((await metrics.render()).body, /guildhall_epoch 7/);
});
