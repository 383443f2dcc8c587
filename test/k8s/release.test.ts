import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type ApiTarget, type KnownRequest, makeRequests } from '@guildhall/cli/testing';
import { eventually } from '@guildhall/common/testing';
import { type Bench, startBench } from './bench.ts';
import { addImages } from './images.ts';
import { LAPTOP, Release } from './release/release.ts';
import { knownAnswers, underLoad } from './release/steady-load.ts';

const STREAMS = 8;
const REQUESTS = 12;
/** Tokens of an answer at most: a dozen processes share two cores, and a change must be felt by all of them. */
const LONGEST = 48;
/** The laptop's profile with a second of each: what a change takes away must be somewhere else. */
const VALUES = ['--values', LAPTOP, '--set', 'gateway.replicas=2,router.replicas=2'];

const logs = process.env['GUILDHALL_K8S_LOGS'] ?? mkdtempSync(join(tmpdir(), 'guildhall-k8s-release-'));
let bench: Bench;
let release: Release;
let api: ApiTarget;
let known: KnownRequest[];

const say = (line: string): void => void process.stdout.write(`  ${line}\n`);

before(async () => {
  bench = await startBench({ logs, say });
  await addImages(bench.images);
  release = new Release(bench, 'guildhall', 'serving');
  await bench.cluster.kubectl(['create', 'namespace', release.namespace]);
  const level = 'pod-security.kubernetes.io/enforce=restricted';
  await bench.cluster.kubectl(['label', 'namespace', release.namespace, level]);
});
after(async () => await bench?.stop());

/** A change of the cluster beside running streams; prints what they felt of it. */
async function changing(what: string, change: () => Promise<void>): Promise<void> {
  try {
    const { streams, longestPauseMs } = await underLoad(api, known, STREAMS, change);
    say(`${what}: ${streams} streams, none dropped, every token the same; longest pause ${longestPauseMs} ms`);
  } catch (error) {
    say(await release.report());
    throw error;
  }
}

function uidsOf(pods: { metadata?: { uid?: string } }[]): string[] {
  return pods.map(({ metadata }) => metadata?.uid ?? '').sort();
}

test('helm install --wait makes an API that answers through its Service', async () => {
  await release.install(...VALUES);
  api = await release.api();
  const response = await fetch(`${api.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${api.apiKey}` },
    body: JSON.stringify({
      model: api.model,
      messages: [{ role: 'user', content: 'Hello! Who are you?' }],
      max_tokens: 16,
      stream: true,
    }),
  });
  const events = (await response.text()).split('\n\n').filter((event) => event !== '');
  assert.equal(response.status, 200);
  assert.ok(events.length > 3, `${events.length} events`);
  assert.equal(events.at(-1), 'data: [DONE]');
});

test('helm test asks for a real completion and finds every expert', async () => {
  const said = await release.helm('test', release.name, '--logs', '--timeout', '300s');
  assert.match(said, /Phase: +Succeeded/);
});

test('answers of an undisturbed cluster', async () => {
  const requests = makeRequests(REQUESTS, 20_261_127);
  known = await knownAnswers(
    api,
    requests.map((request) => ({ ...request, maxTokens: Math.min(request.maxTokens, LONGEST) })),
  );
  assert.equal(known.length, REQUESTS);
});

test('helm upgrade replaces every pod under load', async () => {
  const old = uidsOf(await release.pods('expert'));
  await changing('upgrade', async () => await release.upgrade(...VALUES, '--set', 'pods.podAnnotations.change=one'));
  const fresh = uidsOf(await release.pods('expert'));
  assert.deepEqual(
    fresh.filter((uid) => old.includes(uid)),
    [],
  );
});

test('helm rollback replaces them again under load', async () => {
  const old = uidsOf(await release.pods('router'));
  await changing('rollback', async () => await release.rollback(1));
  const fresh = uidsOf(await release.pods('router'));
  assert.deepEqual(
    fresh.filter((uid) => old.includes(uid)),
    [],
  );
});

test('a killed process is started again, and its streams go on', async () => {
  for (const component of ['expert', 'router']) {
    const [victim] = await release.pods(component);
    const name = victim?.metadata?.name ?? '';
    await changing(`SIGKILL of ${name}`, async () => {
      const pid = bench.kubelet.pod(release.namespace, name).container()?.pid ?? 0;
      assert.ok(pid > 1);
      process.kill(pid, 'SIGKILL');
      await eventually(
        async () => {
          const { status } = await release.core.readNamespacedPod({ namespace: release.namespace, name });
          const [container] = status?.containerStatuses ?? [];
          return container?.restartCount === 1 && container.ready;
        },
        `${name} ready again`,
        300_000,
      );
    });
  }
});

test('a deleted pod is drained and replaced', async () => {
  for (const component of ['router', 'expert']) {
    const [victim] = await release.pods(component);
    const name = victim?.metadata?.name ?? '';
    await changing(`deletion of ${name}`, async () => {
      await release.kubectl('delete', 'pod', name);
      await release.settled(component === 'expert' ? 'expert-all' : component);
    });
  }
});

test('a drained node is emptied under load', async () => {
  await changing('drain of proc-1', async () => {
    const args = ['--ignore-daemonsets', '--delete-emptydir-data', '--timeout=400s'];
    // Valkey has no controller that keeps a second one: it comes back empty, and everybody registers again.
    await release.kubectl('drain', 'proc-1', ...args);
    for (const deployment of ['gateway', 'router', 'expert-all', 'controller']) await release.settled(deployment);
  });
  await release.kubectl('uncordon', 'proc-1');
});

test('helm uninstall leaves nothing behind', async () => {
  await release.uninstall();
  await eventually(async () => (await release.leftovers()).length === 0, 'an empty namespace', 180_000);
  assert.deepEqual(bench.kubelet.pods().length, 0);
});
