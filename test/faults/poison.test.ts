import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { writePoisonedCheckpoint } from '../fakes/poisoned-checkpoint.ts';
import { Cluster } from '../harness/cluster.ts';
import { bitsOf } from '../harness/router-client.ts';
import { ROOT, TINY } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';

/** Tokens that no answer here comes to: one without a finite embedding, one that kills routers. */
const POISON = 2777;
const DEADLY = 2778;
let dir: string;
let cluster: Cluster;

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'guildhall-poison-'));
  writePoisonedCheckpoint(TINY, join(dir, 'model'), [POISON]);
  const preload = pathToFileURL(join(ROOT, 'test', 'fakes', 'deadly-tokens.ts')).href;
  cluster = await Cluster.start({
    model: join(dir, 'model'),
    workers: 2,
    routers: 2,
    weights: 'bf16',
    gatewayArgs: ['--resume-timeout-ms', '300000'],
    env: { NODE_OPTIONS: `--import=${preload}`, GUILDHALL_TEST_DEADLY_TOKEN: String(DEADLY) },
  });
});
after(async () => {
  await cluster?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const promptOf = (seed: number, length = 40): number[] =>
  Array.from({ length }, (_, i) => 10 + ((i * 7919 + seed * 104_729) % 2700));

interface Answer {
  status: number;
  code: string | null;
  text: string | null;
  tokens: unknown;
  retryAfter: number;
}

/** A completion with log-probabilities, whatever tokens it has. */
async function complete(prompt: number[], seed: number): Promise<Answer> {
  const body = { model: 'tiny', prompt, max_tokens: 60, seed, temperature: 0.9, logprobs: 1, ignore_eos: true };
  const response = await fetch(`${cluster.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const json = (await response.json()) as {
    choices?: { text: string; logprobs: unknown }[];
    error?: { code: string };
  };
  const choice = json.choices?.[0];
  return {
    status: response.status,
    code: json.error?.code ?? null,
    text: choice?.text ?? null,
    tokens: choice?.logprobs ?? null,
    retryAfter: Number(response.headers.get('retry-after')),
  };
}

const good = (): Promise<Answer>[] =>
  Array.from({ length: 8 }, (_, seed) => complete(promptOf(seed, 30 + 9 * seed), seed));

async function metricOfGateway(name: string, labels = ''): Promise<number> {
  return cluster.metric(cluster.gateway, name, labels);
}

test('a prompt that breaks native steps fails alone, in two routers, and is then refused; no other bit changes', async () => {
  const undisturbed = await Promise.all(good());
  const poison = promptOf(1).with(17, POISON);
  const [bad, ...others] = await Promise.all([complete(poison, 1), ...good()]);
  assert.deepEqual([bad?.status, bad?.code], [500, 'computation_failed']);
  assert.deepEqual(others, undisturbed);
  const refused = await complete(poison, 5);
  assert.deepEqual([refused.status, refused.code], [422, 'request_quarantined']);
  assert.ok(refused.retryAfter > 0);
  assert.equal(await metricOfGateway('guildhall_requests_quarantined_total', 'outcome="added"'), 1);
  for (const router of cluster.routers) {
    assert.ok(router.running);
    assert.equal(await cluster.metric(router, 'guildhall_errors_total', 'code="computation_failed"'), 1);
  }
});

test('logits that are no numbers fail their own sequence, in the midst of eight others', async () => {
  const client = await cluster.routerClient(1);
  const requests = Array.from({ length: 8 }, (_, seed) => ({
    promptIds: promptOf(seed, 30 + 9 * seed),
    sampling: { temperature: 0.9, seed: BigInt(seed) },
    stop: { maxTokens: 40 },
  }));
  const undisturbed = await Promise.all(requests.map((request) => client.generate(request)));
  const absurd = { promptIds: promptOf(3), sampling: { repetitionPenalty: 1e-38 } };
  const [bad, ...others] = await Promise.all([absurd, ...requests].map((request) => client.start(request).done));
  assert.equal(bad?.error?.code, 'computation_failed');
  assert.match(bad.error.message, /logit row \d+ is not finite/);
  assert.deepEqual(others.map(bitsOf), undisturbed.map(bitsOf));
});

test('a prompt that kills its routers is found after three at most; eight streams go on in their places', async () => {
  const undisturbed = await Promise.all(good());
  let deaths = 0;
  let done = false;
  const answers = Promise.all([complete(promptOf(1).with(17, DEADLY), 1), ...good()]).finally(() => (done = true));
  answers.catch(() => undefined);
  await until(
    'every answer',
    async () => {
      const dead = [1, 2].filter((number) => !cluster.router(number).running);
      deaths += dead.length;
      await Promise.all(dead.map((number) => cluster.restartRouter(number)));
      return done;
    },
    300_000,
  );
  const [bad, ...others] = await answers;
  assert.deepEqual([bad?.status, bad?.code], [500, 'computation_failed']);
  assert.deepEqual(others, undisturbed);
  assert.ok(deaths >= 2 && deaths <= 3, `${deaths} routers died`);
  assert.equal((await complete(promptOf(1).with(17, DEADLY), 9)).code, 'request_quarantined');
  assert.equal(await metricOfGateway('guildhall_stream_resumes_total', 'outcome="failed"'), 1);
});
