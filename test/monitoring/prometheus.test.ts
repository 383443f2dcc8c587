import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Cluster, until } from '../harness/index.ts';
import { askMixed, type MixedRequest, mixedRequests } from '../harness/mixed-requests.ts';
import type { ServiceProcess } from '../harness/service-process.ts';
import { rulesText } from './alert-rules.ts';
import { ApiLoad } from './api-load.ts';
import { panelQueries, withVariables } from './dashboard-queries.ts';
import { PrometheusServer, type ScrapeTarget } from './prometheus-server.ts';

const VALUES = { namespace: 'test', release: 'guildhall', __rate_interval: '60s' };

const cluster = await Cluster.start({
  routers: 2,
  routerArgsOf: (_id, dir) => ['--kv-host-memory', '64MiB', '--kv-disk', join(dir, 'kv')],
  // Fewer places than requests at a time, so that some wait.
  gatewayArgs: ['--max-in-flight', '6', '--queue-ms', '600000'],
});
after(() => cluster.stop());
const batch = cluster.spawn('batch', ['--id', 'batch-1', '--data-dir', join(cluster.dir, 'files')]);

async function targetOf(process: ServiceProcess, component: string, pod: string): Promise<ScrapeTarget> {
  const { admin } = await process.listening();
  return { address: admin, labels: { namespace: VALUES.namespace, release: VALUES.release, component, pod } };
}

const prometheus = await PrometheusServer.start({
  rules: rulesText(),
  targets: await Promise.all([
    targetOf(cluster.gateway, 'gateway', 'gateway-1'),
    targetOf(cluster.controller, 'controller', 'controller-1'),
    targetOf(batch, 'batch', 'batch-1'),
    ...cluster.routers.map((process, i) => targetOf(process, 'router', `router-${i + 1}`)),
    ...cluster.experts.map((process, i) => targetOf(process, 'expert', `expert-${i + 1}`)),
  ]),
});
after(() => prometheus.stop());

const api = await ApiLoad.start(cluster);

/** A prompt of several pages, whose beginning the cache has after the first time. */
const LONG: MixedRequest = {
  path: '/v1/completions',
  body: { model: 'tiny', prompt: 'The guild keeps a hall by the river. '.repeat(40), max_tokens: 4 },
};

/** Requests of every kind until `end` settles. */
async function load(end: Promise<unknown>): Promise<void> {
  let going = true;
  const stop = (): void => void (going = false);
  void end.then(stop, stop);
  while (going) {
    const requests = [LONG, ...mixedRequests(8, 24)];
    await Promise.all([api.round(), ...requests.map((request) => askMixed(cluster, request))]);
  }
}

test('a real Prometheus scrapes every process, and every panel shows data', async () => {
  // The autoscaler has nothing to tell outside Kubernetes; its dashboard is asked about in the tests of the chart.
  const queries = panelQueries()
    .filter(({ dashboard }) => dashboard !== 'autoscaling')
    .map((query) => ({ ...query, expr: withVariables(query.expr, VALUES) }));
  // A panel that has shown data is not asked again: what is rare does not all happen within one interval of rates.
  let missing = queries;
  const isEmpty = async ({ expr }: { expr: string }): Promise<boolean> =>
    !(await prometheus.query(expr)).some(({ value }) => Number.isFinite(value));
  const allShown = async (): Promise<boolean> => {
    const left: typeof queries = [];
    for (const query of missing) if (await isEmpty(query)) left.push(query);
    missing = left;
    return missing.length === 0;
  };
  const full = until('every panel to show data', allShown, 150_000).catch(() => assert.deepEqual(missing, []));
  await Promise.all([load(full), api.batch(), full]);
  const up = await prometheus.query('up');
  assert.equal(up.length, 7);
  assert.ok(up.every(({ value }) => value === 1));
});

test('what matters is not only there but right', async () => {
  const of = async (expr: string): Promise<number> => (await prometheus.query(expr))[0]?.value ?? Number.NaN;
  assert.equal(await of('min(guildhall_expert_coverage)'), 1);
  assert.equal(await of('sum(guildhall_controller_leader)'), 1);
  assert.equal(await of('min(guildhall_routers)'), 2);
  assert.equal(await of('max(guildhall_placement_copies{kind="least"})'), 1);
  assert.ok((await of('sum(vllm:generation_tokens_total)')) > 100);
});

/** What the load of the API must have counted: an empty counter would be drawn as 0. */
const COUNTED = [
  'guildhall_tenant_requests_total{tenant="free"}',
  'guildhall_tenant_tokens_total{tenant="free",kind="input"}',
  'guildhall_tenant_tokens_total{tenant="free",kind="cached"}',
  'guildhall_tenant_tokens_total{tenant="free",kind="output"}',
  'guildhall_tenant_expert_seconds_total{tenant="free"}',
  'guildhall_refusals_total{reason="requests_per_minute"}',
  'guildhall_quota_checks_total{outcome="taken"}',
  'guildhall_key_refusals_total{outcome="invalid"}',
  'guildhall_gateway_queue_total{outcome="served"}',
  'guildhall_grammar_requests_total{outcome="compiled"}',
  'guildhall_grammar_requests_total{outcome="kept"}',
  'guildhall_grammar_compile_seconds_count{outcome="compiled"}',
  'guildhall_grammar_mask_seconds_count',
  'guildhall_tool_answers_total',
  'guildhall_responses_stored_total{outcome="stored"}',
  'guildhall_background_responses_total',
  'guildhall_batch_lines_total{outcome="completed"}',
  'guildhall_batches_total{status="completed"}',
  'guildhall_file_bytes_total{direction="stored"}',
];

test('keys, quotas, grammars, tool calls, responses and batches are counted', async () => {
  const isCounted = async (expr: string): Promise<boolean> =>
    ((await prometheus.query(`sum(${expr})`))[0]?.value ?? 0) > 0;
  const counted = Promise.all(COUNTED.map((expr) => until(expr, () => isCounted(expr))));
  await Promise.all([load(counted), counted]);
});

test('no alert fires for a cluster that is well, and those for a dead worker do', async () => {
  const firing = async (): Promise<string[]> =>
    (await prometheus.query('ALERTS{alertname!~".*Burns.*"}')).map(({ labels }) => labels['alertname'] ?? '');
  assert.deepEqual(await firing(), []);
  cluster.experts[1]?.kill();
  cluster.experts[0]?.kill();
  await until('alerts for lost experts', async () => (await firing()).includes('GuildhallExpertsUncovered'));
  await until('alerts for a dead process', async () => (await firing()).includes('GuildhallProcessDown'));
});
