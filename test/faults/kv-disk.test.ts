import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type OpenAI from 'openai';
import { Cluster } from '../harness/cluster.ts';
import { until } from '../harness/wait.ts';

/** About 1,000 tokens. */
const QUESTION = `${'A router keeps pages of keys and values, and states of the layers between. '.repeat(60)}Why?`;

let cluster: Cluster;
const ARGS = ['--experts', 'local', '--num-pages', '200'];

before(async () => {
  cluster = await Cluster.start({ workers: 0, routerArgsOf: (id, dir) => [...ARGS, '--kv-disk', join(dir, id)] });
});
after(async () => cluster?.stop());

async function ask(): Promise<OpenAI.Chat.ChatCompletion> {
  return await cluster.client().chat.completions.create({
    model: 'tiny',
    messages: [{ role: 'user', content: QUESTION }],
    temperature: 0,
    max_tokens: 20,
    logprobs: true,
  });
}

function cachedOf({ usage }: OpenAI.Chat.ChatCompletion): number {
  return usage?.prompt_tokens_details?.cached_tokens ?? -1;
}

test('a router that is killed and starts again answers a long prompt from its disk, with the same bits', async () => {
  const first = await ask();
  assert.equal(cachedOf(first), 0);
  const pages = Math.floor(((first.usage?.prompt_tokens ?? 0) - 1) / 64);
  assert.ok(pages > 10);
  const [router] = cluster.routers;
  assert.ok(router !== undefined);
  const onDisk = async (): Promise<number> =>
    await cluster.metric(cluster.routers.at(-1) ?? router, 'guildhall_kv_tier_blobs', 'tier="disk"');
  // After some seconds in host memory.
  await until('pages and state to be on disk', async () => (await onDisk()) > pages);
  router.kill('SIGKILL');
  await router.exit();
  cluster.addRouter('router-1');
  await until('the new router to know its disk', async () => (await onDisk()) > pages);
  // It joins when the lease of the one that was killed has ended; the gateway hears of it a moment later.
  await cluster.routerReady(cluster.routers.length);
  const again = await until('the gateway to know it', ask);
  assert.equal(cachedOf(again), pages * 64);
  assert.deepEqual(again.choices, first.choices);
  const restarted = cluster.routers.at(-1) ?? router;
  assert.equal(await cluster.metric(restarted, 'guildhall_kv_faults_total'), 0);
});
