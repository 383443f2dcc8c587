import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import type { RouterApp } from './app.ts';
import { bitsOf, promptOf, RouterRig } from './testing/router-rig.ts';

/** Enough for several prefill steps and for attention in more than one round of splits. */
const PROMPT = promptOf(4200, 3);
/** Streams pay for nothing but their bound: prefill stops every few milliseconds. */
const TIGHT = ['--prefill-burst-ms', '0', '--decode-slowdown', '2', '--num-pages', '160'];

let rig: RouterRig;
let local: RouterApp;

before(async () => {
  rig = await RouterRig.start({ routerArgs: TIGHT });
  local = await rig.addRouter('router-local', [...TIGHT, '--experts', 'local', '--prefix-cache', 'off']);
  await rig.ready(local);
});
after(async () => rig?.end());

const pauses = (app?: RouterApp): Promise<number> => rig.metric('guildhall_prefill_pauses_total', app);

test('a long prompt stops in the middle of calls for the streams beside it, and no bit changes', async () => {
  const long = { promptIds: PROMPT, stop: { maxTokens: 8 } };
  const short = [0, 1, 2].map((seed) => ({ promptIds: promptOf(30, 40 + seed), stop: { maxTokens: 200 } }));
  const expected = bitsOf(await rig.generate(long, local));
  const shortExpected = await Promise.all(short.map(async (request) => bitsOf(await rig.generate(request, local))));
  for (const app of [local, rig.routers[0]]) {
    const pausedBefore = await pauses(app);
    const calls = short.map((request) => rig.call(request, app));
    await eventually(() => calls.every(({ result }) => result.tokens.length > 3), 'the short streams to generate');
    const beside = rig.call(long, app);
    assert.deepEqual(bitsOf(await beside.done), expected);
    for (const [i, call] of calls.entries()) assert.deepEqual(bitsOf(await call.done), shortExpected[i]);
    await eventually(async () => (await pauses(app)) > pausedBefore, 'pauses to be counted');
    await rig.idle(app);
  }
});

test('a long prompt that is cancelled in its prefill gives everything back while streams go on', async () => {
  const stream = rig.call({ promptIds: promptOf(30, 60), stop: { maxTokens: 100_000 } }, local);
  await eventually(() => stream.result.tokens.length > 3, 'the stream to generate');
  const long = rig.call({ promptIds: promptOf(6000, 5), stop: { maxTokens: 8 } }, local);
  await eventually(async () => (await rig.info(local)).running === 2, 'the prompt to be admitted');
  const free = (await rig.info(local)).pagesFree;
  long.stream.cancel();
  await long.done;
  await eventually(async () => (await rig.info(local)).pagesFree >= free + 90, 'its pages to be free');
  const so = stream.result.tokens.length;
  await eventually(() => stream.result.tokens.length > so + 5, 'the stream to go on');
  stream.stream.cancel();
  await stream.done;
  await rig.idle(local);
});
