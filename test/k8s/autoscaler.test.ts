import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeRequests } from '@guildhall/cli/testing';
import { type Bench, startBench } from './bench.ts';
import { addImages } from './images.ts';
import { LAPTOP, Release } from './release/release.ts';
import { knownAnswers, underLoad } from './release/steady-load.ts';

const STREAMS = 8;
/** A policy that wants three workers for any load and one for none, in seconds instead of minutes. */
const POLICY = {
  'autoscaler.mode': 'active',
  'autoscaler.evaluateMs': 1000,
  'autoscaler.warmUpMs': 2000,
  'autoscaler.targetUtilisation': 0.02,
  'autoscaler.scaleDownUtilisation': 0.01,
  'autoscaler.scaleDownAfterMs': 10_000,
  'router.autoscaler.min': 1,
  'router.autoscaler.max': 1,
  'expertGroups[0].name': 'all',
  'expertGroups[0].replicas': 1,
  'expertGroups[0].autoscaler.min': 1,
  'expertGroups[0].autoscaler.max': 3,
};

const logs = process.env['GUILDHALL_K8S_LOGS'] ?? mkdtempSync(join(tmpdir(), 'guildhall-k8s-autoscaler-'));
let bench: Bench;
let release: Release;

const say = (line: string): void => void process.stdout.write(`  ${line}\n`);

before(async () => {
  bench = await startBench({ logs, say });
  await addImages(bench.images);
  release = new Release(bench, 'guildhall', 'scaling');
  await bench.cluster.kubectl(['create', 'namespace', release.namespace]);
});
after(async () => await bench?.stop());

test('workers follow the load from one to three and back, and no stream feels it', async () => {
  const settings = Object.entries(POLICY).flatMap(([name, value]) => [
    '--set-json',
    `${name}=${JSON.stringify(value)}`,
  ]);
  await release.install('--values', LAPTOP, ...settings);
  await release.settled('expert-all', 1);
  const api = await release.api();
  const known = await knownAnswers(
    api,
    makeRequests(STREAMS, 7).map((request) => ({ ...request, maxTokens: 32 })),
  );
  await release.settled('expert-all', 1);
  const figures = await underLoad(api, known, STREAMS, async () => await release.settled('expert-all', 3)).catch(
    async (error: unknown) => {
      say(await release.report());
      throw error;
    },
  );
  say(`from one to three: ${figures.streams} streams, none dropped; longest pause ${figures.longestPauseMs} ms`);
  await release.settled('expert-all', 1);
  // One worker holds every expert again, and answers as three did.
  const after = await underLoad(api, known, 1, () => Promise.resolve());
  say(`back at one: longest pause ${after.longestPauseMs} ms`);
  assert.match(await release.kubectl('get', 'events', '-o', 'jsonpath={.items[*].reason}'), /Scal/);
});
