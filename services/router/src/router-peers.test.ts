import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { authMetadata } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type { router } from '@guildhall/proto';
import type { RouterApp } from './app.ts';
import { bitsOf, type Call, promptOf, type RigRequest, RouterRig } from './testing/router-rig.ts';

const NO_TOKEN = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };
const SAMPLED: Partial<router.SamplingParams> = { temperature: 0.8, topK: 50, topP: 0.95, repetitionPenalty: 1.1 };
/** Nothing here is to depend on how busy the machine is. */
const PATIENT = ['--pull-stall-ms', '60000', '--park-ms', '600000', '--drain-ms', '60000'];
let rig: RouterRig;
/** Beside router-1, which computes what others are compared with. */
let other: RouterApp;

before(async () => {
  rig = await RouterRig.start({ routerArgs: PATIENT });
  other = await another();
});

after(async () => {
  await rig.end();
  assert.deepEqual(rig.fatal, []);
});

/** One more router, ready. */
async function another(): Promise<RouterApp> {
  const app = await rig.addRouter(`router-${rig.routers.length + 1}`, PATIENT);
  await rig.ready(app);
  return app;
}

function requests(count: number, maxTokens: number): RigRequest[] {
  return Array.from({ length: count }, (_, i) => ({
    promptIds: promptOf(30 + 97 * i, i + 1),
    sampling: { ...SAMPLED, seed: BigInt(i) },
    stop: { maxTokens },
  }));
}

/** Prompt tokens that a router has computed. */
async function computed(app: RouterApp): Promise<number> {
  const text = await (await fetch(`http://${app.admin}/metrics`)).text();
  const line = text.split('\n').find((candidate) => /by_source_total\{.*local_compute/.test(candidate)) ?? ' 0';
  return Number(line.slice(line.lastIndexOf(' ') + 1));
}

/** A request as its gateway sends it again after the first part of its answer. */
function resumed(request: RigRequest, first: Call): RigRequest {
  const { tokens, started, moved } = first.result;
  return {
    ...request,
    generatedIds: tokens.map(({ id }) => id),
    numericsId: started?.numericsId ?? '',
    ...(moved === null ? {} : { moved }),
  };
}

/** Drains over gRPC; returns the messages until the call ends. */
function drain(
  app: Pick<RouterApp, 'address'>,
  limitMs = 0,
): { progress: router.DrainProgress[]; done: Promise<void> } {
  const progress: router.DrainProgress[] = [];
  const call = rig.client(app).drain({ limitMs }, authMetadata(NO_TOKEN));
  const done = new Promise<void>((resolve, reject) => {
    call.on('data', (message: router.DrainProgress) => progress.push(message));
    call.on('end', () => resolve());
    call.on('error', reject);
  });
  return { progress, done };
}

test('a prefix is pulled from another router, and gives the same bits', async () => {
  const [first] = rig.routers;
  const tokens = 64 * 24;
  const prefix = promptOf(tokens, 77);
  const request: RigRequest = { promptIds: [...prefix, ...promptOf(50, 5)], stop: { maxTokens: 24 } };
  // The prefix alone leaves a state at its end; under another salt it is not shared.
  await rig.generate({ promptIds: [...prefix, 11], stop: { maxTokens: 1 } }, first);
  const cold = await rig.generate({ ...request, cacheSalt: 'cold' }, first);
  const holder = { routerId: 'router-1', address: first?.address ?? '', tokens };
  const pulled = await rig.generate({ ...request, holder }, other);
  assert.equal(cold.finished?.cachedTokens, 0);
  assert.equal(pulled.finished?.cachedTokens, tokens);
  assert.deepEqual(bitsOf(pulled), bitsOf(cold));
  const bytes = await rig.metric('guildhall_kv_pulled_bytes_total', other);
  assert.equal(bytes, await rig.metric('guildhall_kv_served_bytes_total', first));
  assert.ok(bytes > 0);
  assert.equal(await rig.metric('guildhall_kv_hit_tokens_total{tier="peer"}', other), tokens);
});

test('draining in the middle of streams: another router goes on with the same bits, and computes nothing again', async () => {
  const leaving = await another();
  const all = requests(6, 60);
  const undisturbed = await Promise.all(all.map((request) => rig.generate(request)));
  const calls = all.map((request) => rig.call(request, leaving));
  await eventually(() => calls.every(({ result }) => result.tokens.length >= 5), 'all to generate');
  const before = await computed(other);
  const { progress, done } = drain(leaving);
  const firsts = await Promise.all(calls.map((call) => call.done));
  assert.ok(firsts.every(({ moved, error }) => error === null && moved !== null && moved.handle !== ''));
  assert.equal(new Set(firsts.map(({ moved }) => moved?.handle)).size, 6);
  assert.equal((await rig.call({}, leaving).done).error?.code, 'not_ready');
  const rests = await Promise.all(all.map((request, i) => rig.generate(resumed(request, calls[i] as Call), other)));
  await done;
  assert.deepEqual(progress.at(-1), { running: 0, waiting: 0, parked: 0, moved: 6 });
  for (const [i, rest] of rests.entries()) {
    assert.deepEqual(
      [...bitsOf(firsts[i] as (typeof firsts)[number]), ...bitsOf(rest)],
      bitsOf(undisturbed[i] as typeof rest),
    );
  }
  assert.equal(await rig.metric('guildhall_sequence_takeovers_total', other), 6);
  assert.equal(await computed(other), before);
  assert.equal((await rig.info(leaving)).notReadyReason, 'shutting down');
});

test('the drained router is killed before its sequences are fetched: they are computed again, with the same bits', async () => {
  const all = requests(4, 50);
  const undisturbed = await Promise.all(all.map((request) => rig.generate(request)));
  const { process, app } = await rig.routerProcess('router-killed', PATIENT);
  const calls = all.map((request) => rig.call(request, app));
  await eventually(() => calls.every(({ result }) => result.tokens.length >= 5), 'all to generate');
  const { done } = drain(app);
  done.catch(() => undefined);
  const firsts = await Promise.all(calls.map((call) => call.done));
  assert.ok(firsts.every(({ moved }) => moved !== null && moved.handle !== ''));
  await process.end('SIGKILL');
  const rests = await Promise.all(all.map((request, i) => rig.generate(resumed(request, calls[i] as Call), other)));
  for (const [i, rest] of rests.entries()) {
    assert.deepEqual(
      [...bitsOf(firsts[i] as (typeof firsts)[number]), ...bitsOf(rest)],
      bitsOf(undisturbed[i] as typeof rest),
    );
  }
});

test('a router that is asked to stop moves its streams to the others', async () => {
  const leaving = await another();
  const request = { ...requests(1, 200)[0], stop: { maxTokens: 200 } };
  const undisturbed = await rig.generate(request);
  const call = rig.call(request, leaving);
  await eventually(() => call.result.tokens.length >= 5, 'it to generate');
  const stopped = leaving.stop();
  await call.done;
  assert.ok(call.result.moved !== null && call.result.moved.handle !== '');
  const rest = await rig.generate(resumed(request, call));
  assert.deepEqual([...bitsOf(call.result), ...bitsOf(rest)], bitsOf(undisturbed));
  await stopped;
  rig.routers.splice(rig.routers.indexOf(leaving), 1);
});
