import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cachedCompletion, type CachedCompletion, type CompletionRequest } from '../harness/cached-completion.ts';
import { Cluster } from '../harness/cluster.ts';
import { redisCommand } from '../harness/redis-command.ts';
import { until } from '../harness/wait.ts';

/** Two routers that share what they have by the directory in Redis, and a gateway that chooses by it. */
let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({
    workers: 0,
    routers: 2,
    weights: 'bf16',
    routerArgs: ['--experts', 'local', '--num-pages', '1024', '--drain-ms', '0'],
    gatewayArgs: ['--routing', 'kv'],
  });
});
after(async () => cluster?.stop());

function promptOf(seed: number, length: number): number[] {
  return Array.from({ length }, (_, i) => 10 + ((i * 7919 + seed * 104_729 + ((i * i * seed) % 613)) % 2900));
}

const SYSTEM = promptOf(1, 500);

/** Conversations with a common beginning. */
function requests(first: number, maxTokens: number): CompletionRequest[] {
  return Array.from({ length: 6 }, (_, i) => ({
    prompt: [...SYSTEM, ...promptOf(first + i, 60 + 37 * i)],
    maxTokens,
    seed: i,
  }));
}

async function all(
  list: readonly CompletionRequest[],
  disturb: (() => unknown) | null = null,
): Promise<CachedCompletion[]> {
  const during = disturb === null ? null : { afterTokens: 15, run: disturb };
  return Promise.all(list.map((request, i) => cachedCompletion(cluster, request, i === 0 ? during : null)));
}

function bits(answers: readonly CachedCompletion[]): unknown {
  return answers.map((answer) => answer.bits);
}

async function lookups(outcome: string): Promise<number> {
  return cluster.metric(cluster.gateway, 'guildhall_routing_lookups_total', `outcome="${outcome}"`);
}

/** Resolves when the directory says again where a prompt is, and the prompt hits. */
async function hitsAgain(request: CompletionRequest): Promise<void> {
  const before = await lookups('hit');
  await until('a hit by the directory', async () => {
    const { cached } = await cachedCompletion(cluster, request);
    return cached >= 448 && (await lookups('hit')) > before;
  });
}

/** Of the leases of both routers. */
async function failedRenewals(): Promise<number> {
  const name = 'guildhall_lease_renewals_total';
  const counts = cluster.routers.map((router) => cluster.metric(router, name, 'outcome="failed"'));
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

/** Nothing is held by sequences, in either router, when none runs. */
async function nothingLeaks(): Promise<void> {
  for (const router of cluster.routers) {
    await until('every page to be given back', async () => {
      const running = await cluster.metric(router, 'vllm:num_requests_running');
      return running === 0 && (await cluster.metric(router, 'guildhall_kv_pages', 'state="used"')) === 0;
    });
  }
}

test('conversations hit through the gateway, with the bits of a miss', async () => {
  const asked = requests(10, 20);
  const cold = await all(asked);
  await hitsAgain(asked[0] as CompletionRequest);
  const warm = await all(asked);
  assert.deepEqual(bits(warm), bits(cold));
  assert.ok(warm.every(({ cached }) => cached >= 448));
  await nothingLeaks();
});

test('Redis killed under streams: they go on, and prompts hit again when it is back and empty', async () => {
  const asked = requests(20, 100);
  const undisturbed = await all(asked);
  assert.deepEqual(bits(await all(asked, () => cluster.redis.kill())), bits(undisturbed));
  // Routed by load, without the directory.
  assert.deepEqual(bits(await all(asked)), bits(undisturbed));
  await cluster.redis.restart();
  await hitsAgain(asked[1] as CompletionRequest);
  assert.deepEqual(bits(await all(asked)), bits(undisturbed));
  await nothingLeaks();
});

test('Redis emptied under streams: routers write down what they hold again', async () => {
  const asked = requests(30, 60);
  const undisturbed = await all(asked);
  const empty = async (): Promise<string> => redisCommand(cluster.redis.port, 'FLUSHALL');
  assert.deepEqual(bits(await all(asked, empty)), bits(undisturbed));
  await hitsAgain(asked[2] as CompletionRequest);
  await nothingLeaks();
});

test('Redis stopped from answering: streams and new requests go on, and it is asked again later', async () => {
  const asked = requests(40, 60);
  const undisturbed = await all(asked);
  try {
    assert.deepEqual(bits(await all(asked, () => cluster.redis.pause())), bits(undisturbed));
    assert.deepEqual(bits(await all(asked)), bits(undisturbed));
  } finally {
    cluster.redis.resume();
  }
  await hitsAgain(asked[3] as CompletionRequest);
  await nothingLeaks();
});

test('Redis without memory: nothing is published, everything is served, and all is well when it has some', async () => {
  const asked = requests(50, 40);
  const undisturbed = await all(asked);
  const failed = await failedRenewals();
  await redisCommand(cluster.redis.port, 'CONFIG SET maxmemory 1');
  try {
    const fresh = requests(60, 40);
    const first = await all(fresh);
    // Longer than any lease: members stay in the list though what they say of themselves changes all the time.
    const end = performance.now() + 12_000;
    while (performance.now() < end) assert.deepEqual(bits(await all(fresh)), bits(first));
    assert.equal(await failedRenewals(), failed, 'every lease was renewed');
    const faults = cluster.routers.map((router) => cluster.metric(router, 'guildhall_kv_faults_total', 'kind="redis"'));
    assert.ok(
      (await Promise.all(faults)).some((count) => count > 0),
      'pages that could not be listed are counted',
    );
    assert.deepEqual(bits(await all(asked)), bits(undisturbed));
  } finally {
    await redisCommand(cluster.redis.port, 'CONFIG SET maxmemory 0');
  }
  await hitsAgain(asked[4] as CompletionRequest);
  await nothingLeaks();
});
