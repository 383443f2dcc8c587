import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { promptIds, residentMiB, ShortStreams, timedCompletion } from '../harness/long-prompt.ts';
import { until } from '../harness/wait.ts';

/** The longest context of `tiny`: prompt and answer together. */
const CONTEXT = 262_144;
const ANSWER = 64;
const PROMPT = CONTEXT - ANSWER;
/** 2 layers, 2 kv heads, 64 dimensions, K and V, 2 bytes. */
const BYTES_PER_TOKEN = 2 * 2 * 64 * 2 * 2;
const PAGES = CONTEXT / 64 + 64;
const WINDOW_MS = 20_000;

const report = (line: Record<string, unknown>): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

async function start(experts: 'local' | 'remote'): Promise<Cluster> {
  const local = experts === 'local';
  return Cluster.start({
    weights: 'bf16',
    workers: local ? 0 : 2,
    threads: local ? 2 : 1,
    gatewayArgs: ['--request-timeout-ms=0'],
    routerArgs: [`--num-pages=${PAGES}`, ...(local ? ['--experts=local'] : [])],
  });
}

/** Sends a prompt that does not fit; returns the refusal. */
async function refused(cluster: Cluster, tokens: number, maxTokens: number): Promise<{ status: number; text: string }> {
  const response = await fetch(`${cluster.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny', prompt: promptIds(tokens, 3), max_tokens: maxTokens }),
  });
  return { status: response.status, text: await response.text() };
}

const used = (cluster: Cluster): Promise<number> =>
  cluster.metric(cluster.router(1), 'guildhall_kv_pages', 'state="used"');

for (const experts of ['local', 'remote'] as const) {
  test(`262,144 tokens through the HTTP API, experts ${experts}`, async () => {
    const cluster = await start(experts);
    try {
      const router = cluster.router(1);
      const kvBytes = await cluster.metric(router, 'guildhall_native_bytes', 'kind="kv"');
      assert.equal(kvBytes, PAGES * 64 * BYTES_PER_TOKEN);
      const before = residentMiB(router.pid);

      const tooLong = await refused(cluster, PROMPT + 1, ANSWER);
      assert.equal(tooLong.status, 400);
      assert.match(tooLong.text, /context_length_exceeded/);
      assert.match(tooLong.text, new RegExp(`${CONTEXT} tokens.*${CONTEXT + 1} tokens.*in the prompt`));

      const streams = new ShortStreams(cluster, 2);
      await sleep(2000);
      const alone = await streams.during(WINDOW_MS);
      const pending = timedCompletion(cluster, promptIds(PROMPT, 1), ANSWER);
      const beside = await streams.during(WINDOW_MS);
      await streams.stop();
      report({ experts, alone, beside, rate: beside.rate / alone.rate, p99: beside.p99 / alone.p99 });

      const first = await pending;
      assert.equal(first.promptTokens, PROMPT);
      assert.equal(first.completionTokens, ANSWER);
      const grown = residentMiB(router.pid) - before;
      // Pages, snapshots of states and the page tables; nothing that grows with the square of the context.
      assert.ok(grown < kvBytes / 2 ** 20 + 400, `resident memory grew by ${grown} MiB`);

      const again = await timedCompletion(cluster, promptIds(PROMPT, 1), ANSWER);
      assert.equal(again.text, first.text);
      assert.ok(again.cachedTokens >= PROMPT - 64, `${again.cachedTokens} cached tokens`);
      const ttft = (answer: typeof first): number => ((answer.times[0] ?? NaN) - answer.sentAt) / 1000;
      const decodeMs = ((first.times.at(-1) ?? NaN) - (first.times[0] ?? NaN)) / (first.times.length - 1);
      report({ experts, grownMiB: grown, firstTokenSeconds: ttft(first), hitSeconds: ttft(again), decodeMs });

      const abort = new AbortController();
      const cancelled = timedCompletion(cluster, promptIds(PROMPT, 2), ANSWER, abort.signal).catch(() => null);
      await until('the second prompt to hold its pages', async () => (await used(cluster)) >= PROMPT / 64);
      await sleep(3000);
      abort.abort();
      assert.equal(await cancelled, null);
      await until('every page to be free', async () => (await used(cluster)) === 0, 5000);
    } finally {
      await cluster.stop();
    }
  });
}
