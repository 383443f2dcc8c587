import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { type Answer, bitsOf, type RequestFields } from '../harness/router-client.ts';
import { until } from '../harness/wait.ts';

/** Tokens of prompts that are worth pulling. */
const LENGTH = 1500;
/** What of them can come from a cache. */
const CACHED = 1472;

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({
    workers: 0,
    routers: 2,
    gateway: false,
    weights: 'bf16',
    routerArgs: ['--experts', 'local', '--num-pages', '256', '--pull-stall-ms', '1500'],
    routerArgsOf: (_, dir) => ['--kv-disk', dir],
  });
  // Whether a pull is worth it depends on what computing costs.
  for (const router of [1, 2]) for (const seed of [1, 2]) await ask(router, { promptIds: promptOf(seed, 700) });
});
after(async () => cluster?.stop());

function promptOf(seed: number, length: number): number[] {
  return Array.from({ length }, (_, i) => 10 + ((i * 7919 + seed * 104_729 + ((i * i * seed) % 613)) % 2900));
}

async function ask(router: number, fields: RequestFields): Promise<Answer> {
  return (await cluster.routerClient(router)).generate(fields);
}

/** A request that names router 1 as the holder of its prompt. */
async function hinted(promptIds: number[]): Promise<RequestFields> {
  const { address } = await cluster.routerClient(1);
  return { promptIds, holder: { routerId: 'router-1', address, tokens: CACHED } };
}

async function pulls(outcome = ''): Promise<number> {
  return cluster.metric(cluster.router(2), 'guildhall_kv_pulls_total', outcome === '' ? '' : `outcome="${outcome}"`);
}

test('a prompt that another router holds is pulled, with the same bits', async () => {
  const promptIds = promptOf(3, LENGTH);
  const cold = await ask(1, { promptIds });
  const pulled = await ask(2, await hinted(promptIds));
  assert.deepEqual(bitsOf(pulled), bitsOf(cold));
  assert.equal(pulled.started?.cachedTokens, CACHED);
  assert.equal(await pulls('complete'), 1);
});

test('a holder that stalls costs a while, and the prompt is computed', async () => {
  const promptIds = promptOf(4, LENGTH);
  const cold = await ask(1, { promptIds });
  const request = await hinted(promptIds);
  const before = await pulls('complete');
  cluster.router(1).kill('SIGSTOP');
  try {
    const computed = await ask(2, request);
    assert.deepEqual(bitsOf(computed), bitsOf(cold));
    assert.equal(computed.started?.cachedTokens, 0);
    assert.equal(await pulls('complete'), before);
  } finally {
    cluster.router(1).kill('SIGCONT');
  }
});

test('a holder killed during a pull: the prompt is computed, and the holder back with its disk serves it', async () => {
  const promptIds = promptOf(5, LENGTH);
  const cold = await ask(1, { promptIds });
  const request = await hinted(promptIds);
  const before = await pulls();
  cluster.router(1).kill('SIGSTOP');
  const call = (await cluster.routerClient(2)).start(request);
  // It waits for the first bytes now, or has given the holder up for its last silence.
  await new Promise((resolve) => setTimeout(resolve, 300));
  cluster.router(1).kill('SIGKILL');
  const answer = await call.done;
  assert.equal(answer.error, null);
  assert.deepEqual(bitsOf(answer), bitsOf(cold));
  assert.ok((await pulls()) > before, 'the pull, or that there was none, is counted');
  await cluster.restartRouter(1);
  const again = await ask(1, { promptIds });
  assert.deepEqual(bitsOf(again), bitsOf(cold));
});

test('spoiled files on disk are found out, counted and computed again', async () => {
  const promptIds = promptOf(6, LENGTH);
  const cold = await ask(1, { promptIds });
  const dir = join(cluster.dir, 'router-1');
  await until('the pages to be on disk', async () => {
    const files = await cluster.metric(cluster.router(1), 'guildhall_kv_tier_blobs', 'tier="disk"');
    return files >= CACHED / 64;
  });
  await cluster.router(1).stop();
  for (const file of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.page')) continue;
    const bytes = readFileSync(join(dir, file));
    const middle = bytes.length >> 1;
    bytes[middle] = (bytes[middle] ?? 0) ^ 0x40;
    writeFileSync(join(dir, file), bytes);
  }
  await cluster.restartRouter(1);
  const again = await ask(1, { promptIds });
  assert.deepEqual(bitsOf(again), bitsOf(cold));
  assert.equal(again.started?.cachedTokens, 0);
  assert.ok((await cluster.metric(cluster.router(1), 'guildhall_kv_faults_total')) > 0);
});
