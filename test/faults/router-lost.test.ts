import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { type ClusterRecord, Cluster as RedisCluster, type EventKind, systemClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { Cluster } from '../harness/cluster.ts';
import { askMixed, type MixedAnswer, type MixedRequest, mixedRequests } from '../harness/mixed-requests.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({
    workers: 0,
    routers: 2,
    weights: 'bf16',
    routerArgs: ['--experts', 'local', '--drain-ms', '9000', '--pull-stall-ms', '10000'],
    gatewayArgs: ['--resume-timeout-ms', '300000'],
  });
});
after(async () => cluster?.stop());

/** Both routers run and the gateway knows them. */
beforeEach(async () => {
  for (const number of [1, 2]) if (!cluster.router(number).running) await cluster.restartRouter(number);
  await until('both routers to be known', async () => (await metric('guildhall_routers')) === 2);
});

const metric = (name: string, labels = ''): Promise<number> => cluster.metric(cluster.gateway, name, labels);

const runningIn = (number: number): Promise<number> =>
  cluster.metric(cluster.router(number), 'vllm:num_requests_running');

/** Answers to all requests; `during` runs once, as soon as one of them has come to its `pieces`th piece. */
async function askAll(
  requests: readonly MixedRequest[],
  pieces = Infinity,
  during: () => unknown = () => undefined,
): Promise<MixedAnswer[]> {
  let seen = 0;
  let done: unknown = null;
  const onPiece = (): void => {
    if ((seen += 1) === pieces) done = during();
  };
  const answers = await Promise.all(requests.map((request) => askMixed(cluster, request, onPiece)));
  await done;
  return answers;
}

/** Events of a kind so far. */
async function eventsOf(kind: EventKind): Promise<ClusterRecord[]> {
  const options = { redis: cluster.redis.url, cluster: 'test', clock: systemClock, logger: silentLogger() };
  const reader = new RedisCluster(options);
  await reader.start();
  const events = await reader.eventLog.read();
  await reader.close();
  return events.filter((event) => event.kind === kind);
}

test('a router killed under 32 requests of every kind: each gets the same answer, and usage counts once', async () => {
  const requests = mixedRequests(32, 60);
  const undisturbed = await askAll(requests);
  assert.ok(undisturbed.every(({ status, error }) => status === 200 && error === null));
  const before = await metric('guildhall_http_tokens_total');
  const disturbed = await askAll(requests, 200, () => cluster.router(1).kill('SIGKILL'));
  assert.deepEqual(disturbed, undisturbed);
  assert.equal(await metric('guildhall_stream_resumes_total', 'outcome="failed"'), 0);
  const resumed = await metric('guildhall_stream_resumes_total', 'outcome="resumed"');
  assert.ok(resumed > 0);
  assert.equal(await metric('guildhall_stream_pause_seconds_count'), resumed);
  assert.equal((await metric('guildhall_http_tokens_total')) - before, before, 'tokens are counted once');
  const lost = await until('one event of the death', async () => {
    const events = await eventsOf('router_lost');
    return events.length > 0 && (await eventsOf('stream_resumed')).length > 0 ? events : null;
  });
  assert.deepEqual([lost.length, lost[0]?.details['router'], lost[0]?.details['streams']], [1, 'router-1', resumed]);
  const [event, ...more] = await eventsOf('stream_resumed');
  assert.deepEqual([event?.details['resumed'], event?.details['routers'], more], [resumed, ['router-2'], []]);
});

const short = mixedRequests(8, 60);

test('a router killed in the midst of long prompts: nobody is taken for the cause', async () => {
  const requests = Array.from({ length: 6 }, (_, seed): MixedRequest => {
    const prompt = Array.from({ length: 3000 }, (_, i) => 10 + ((i * 7919 + seed * 104_729) % 2700));
    const body = { model: 'tiny', prompt, max_tokens: 12, seed, temperature: 0.9, ignore_eos: true, logprobs: 1 };
    return { path: '/v1/completions', body };
  });
  const answers = askAll(requests);
  const killed = await until('a router to compute prompts', async () => {
    for (const number of [1, 2]) if ((await runningIn(number)) > 0) return number;
    return null;
  });
  cluster.router(killed).kill('SIGKILL');
  const disturbed = await answers;
  assert.ok(disturbed.every(({ status }) => status === 200));
  assert.equal(await metric('guildhall_requests_quarantined_total', 'outcome="added"'), 0);
  await cluster.restartRouter(killed);
  assert.deepEqual(disturbed, await askAll(requests));
});

test('a router killed while the only other one drains: its streams wait for the next one', async () => {
  const undisturbed = await askAll(short);
  const disturbed = await askAll(short, 60, async () => {
    cluster.router(2).kill('SIGTERM');
    await until('router 2 to have gone', () => !cluster.router(2).running);
    cluster.router(1).kill('SIGKILL');
    await cluster.restartRouter(1);
  });
  assert.deepEqual(disturbed, undisturbed);
});

test('a router killed while Redis is away: its streams go on in the other one', async () => {
  const undisturbed = await askAll(short);
  const disturbed = await askAll(short, 60, async () => {
    await cluster.redis.kill();
    cluster.router(1).kill('SIGKILL');
  });
  assert.deepEqual(disturbed, undisturbed);
  await cluster.redis.restart();
});
