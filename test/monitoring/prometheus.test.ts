import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Cluster, until } from '../harness/index.ts';
import { askMixed, type MixedRequest, mixedRequests } from '../harness/mixed-requests.ts';
import type { ServiceProcess } from '../harness/service-process.ts';
import { rulesText } from './alert-rules.ts';
import { panelQueries, withVariables } from './dashboard-queries.ts';
import { PrometheusServer, type ScrapeTarget } from './prometheus-server.ts';

const VALUES = { namespace: 'test', release: 'guildhall', __rate_interval: '20s' };

const cluster = await Cluster.start({
  routers: 2,
  routerArgsOf: (_id, dir) => ['--kv-host-memory', '64MiB', '--kv-disk', join(dir, 'kv')],
});
after(() => cluster.stop());

async function targetOf(process: ServiceProcess, component: string, pod: string): Promise<ScrapeTarget> {
  const { admin } = await process.listening();
  return { address: admin, labels: { namespace: VALUES.namespace, release: VALUES.release, component, pod } };
}

const prometheus = await PrometheusServer.start({
  rules: rulesText(),
  targets: await Promise.all([
    targetOf(cluster.gateway, 'gateway', 'gateway-1'),
    targetOf(cluster.controller, 'controller', 'controller-1'),
    ...cluster.routers.map((process, i) => targetOf(process, 'router', `router-${i + 1}`)),
    ...cluster.experts.map((process, i) => targetOf(process, 'expert', `expert-${i + 1}`)),
  ]),
});
after(() => prometheus.stop());

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
    await Promise.all(requests.map((request) => askMixed(cluster, request)));
  }
}

test('a real Prometheus scrapes every process, and every panel shows data', async () => {
  // The autoscaler has nothing to tell outside Kubernetes; its dashboard is asked about in the tests of the chart.
  const queries = panelQueries()
    .filter(({ dashboard }) => dashboard !== 'autoscaling')
    .map((query) => ({ ...query, expr: withVariables(query.expr, VALUES) }));
  const empty = async (): Promise<string[]> => {
    const found: string[] = [];
    for (const { dashboard, panel, expr } of queries) {
      const values = await prometheus.query(expr);
      if (!values.some(({ value }) => Number.isFinite(value))) found.push(`${dashboard}: ${panel}: ${expr}`);
    }
    return found;
  };
  let missing: string[] = [];
  const full = until('every panel to show data', async () => (missing = await empty()).length === 0, 90_000).catch(() =>
    assert.deepEqual(missing, []),
  );
  await Promise.all([load(full), full]);
  const up = await prometheus.query('up');
  assert.equal(up.length, 6);
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

test('no alert fires for a cluster that is well, and those for a dead worker do', async () => {
  const firing = async (): Promise<string[]> =>
    (await prometheus.query('ALERTS{alertname!~".*Burns.*"}')).map(({ labels }) => labels['alertname'] ?? '');
  assert.deepEqual(await firing(), []);
  cluster.experts[1]?.kill();
  cluster.experts[0]?.kill();
  await until('alerts for lost experts', async () => (await firing()).includes('GuildhallExpertsUncovered'));
  await until('alerts for a dead process', async () => (await firing()).includes('GuildhallProcessDown'));
});
