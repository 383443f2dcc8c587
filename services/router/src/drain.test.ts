import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import type { SequenceSpec } from './sequence.ts';
import { MovingRouter, type MovingRouterOptions } from './testing/moving-rig.ts';
import { metricOf } from './testing/peer-rig.ts';
import { type RecordingSink, specOf } from './testing/sequences.ts';

const open: MovingRouter[] = [];
after(async () => {
  for (const router of open) await router.stop();
});

async function routerOf(id: string, options: MovingRouterOptions = {}): Promise<MovingRouter> {
  const router = await MovingRouter.start(id, { numPages: 400, ...options });
  open.push(router);
  return router;
}

const PREFIX = Array.from({ length: 64 * 5 }, (_, i) => (i * 13 + 5) % 97);

/** Prompts of many lengths, the last ones with a common beginning. */
function specsOf(count: number, maxTokens: number): SequenceSpec[] {
  return Array.from({ length: count }, (_, i) => {
    const own = Array.from({ length: 1 + i * 37 }, (_own, k) => (k * 7 + i * 11 + 1) % 97);
    const promptIds = Int32Array.from(i % 2 === 0 ? own : [...PREFIX, ...own]);
    return specOf({ requestId: `request-${i}`, promptIds, maxTokens });
  });
}

/** What a router that nobody disturbs generates. */
async function undisturbed(specs: readonly SequenceSpec[]): Promise<number[][]> {
  const router = await routerOf('alone');
  const sinks = specs.map((spec) => router.submit(spec));
  await Promise.all(sinks.map(({ done }) => done));
  await router.settled();
  return sinks.map(({ ids }) => ids);
}

interface Moving {
  from: MovingRouter;
  to: MovingRouter;
  specs: SequenceSpec[];
  sinks: RecordingSink[];
}

/** Waits until each stream has `count` tokens; those that have them stop there, so that none ends before the others. */
async function allHave(sinks: readonly RecordingSink[], count: number): Promise<void> {
  for (const sink of sinks) sink.pauseAfter = count;
  await eventually(() => sinks.every(({ tokens }) => tokens.length >= count), 'all to generate');
}

/** Streams that run on one router when it begins to drain, each with some tokens. */
async function drained(
  specs: SequenceSpec[],
  options: { from?: MovingRouterOptions; to?: MovingRouterOptions } = {},
): Promise<Moving> {
  const from = await routerOf('router-1', options.from);
  const to = await routerOf('router-2', options.to);
  const sinks = specs.map((spec) => from.submit(spec));
  await allHave(sinks, 5);
  from.drain.begin(0);
  await Promise.all(sinks.map(({ done }) => done));
  assert.ok(
    sinks.every(({ movedTo }) => movedTo !== null),
    'all were moved',
  );
  return { from, to, specs, sinks };
}

/** The other router goes on; returns all tokens of each stream. */
async function goOn({ from, to, specs, sinks }: Moving): Promise<number[][]> {
  const rest = specs.map((spec, i) => to.submit(from.moved(spec, sinks[i] as RecordingSink)));
  await Promise.all(rest.map(({ done }) => done));
  for (const { error } of rest) assert.equal(error, null);
  return sinks.map(({ ids }, i) => [...ids, ...(rest[i]?.ids ?? [])]);
}

const LENGTH = 300;

test('streams that are moved in the middle go on with the same tokens, and nothing is computed twice', async () => {
  const specs = specsOf(8, LENGTH);
  const expected = await undisturbed(specs);
  const moving = await drained(specs);
  const { from, to, sinks } = moving;
  assert.ok(sinks.every(({ movedTo, ids }) => movedTo?.handle !== '' && ids.length < LENGTH));
  assert.deepEqual(from.drain.progress(), { running: 0, waiting: 0, parked: 8, moved: 8 });
  assert.equal(from.drain.done(), false);
  assert.deepEqual(await goOn(moving), expected);
  assert.equal(to.pseudo.runner.numPromptTokens, 0);
  await eventually(() => from.drain.done(), 'the drain to end');
  await Promise.all([from.settled(), to.settled()]);
  assert.equal(await metricOf(from.metrics, 'guildhall_parked_ended_total', '"taken"'), 8);
  assert.equal(await metricOf(from.metrics, 'guildhall_sequences_moved_total', '"parked"'), 8);
  assert.equal(await metricOf(to.metrics, 'guildhall_sequence_takeovers_total', '"taken"'), 8);
  assert.equal(to.pseudo.counts.lost, 0);
});

test('a router that drains takes nothing new', async () => {
  const { from } = await drained(specsOf(1, LENGTH));
  assert.throws(() => from.submit(specOf()), { code: 'not_ready' });
  assert.ok(from.draining);
  from.drain.begin(0);
  assert.equal(from.drain.progress().moved, 1);
});

test('sequences that wait are moved at once, with nothing but the request', async () => {
  const from = await routerOf('router-1', { maxRunning: 1 });
  const to = await routerOf('router-2');
  const specs = specsOf(4, 3 * LENGTH);
  const expected = await undisturbed(specs);
  const sinks = specs.map((spec) => from.submit(spec));
  // Long enough not to end before the next look; one that was paused would give its place to another.
  await eventually(() => (sinks[0]?.tokens.length ?? 0) > 3, 'the first one to run');
  from.drain.begin(0);
  for (const sink of sinks.slice(1)) assert.deepEqual(sink.movedTo, { handle: '', numComputed: 0 });
  await Promise.all(sinks.map(({ done }) => done));
  assert.notEqual(sinks[0]?.movedTo?.handle, '');
  assert.deepEqual(await goOn({ from, to, specs, sinks }), expected);
  await Promise.all([from.settled(), to.settled()]);
});

test('a sequence in the middle of its prompt is moved with what was computed', async () => {
  const spec = specOf({ numPrompt: 2000, maxTokens: 20 });
  const [expected] = await undisturbed([spec]);
  const from = await routerOf('router-1');
  const to = await routerOf('router-2');
  const gate = Promise.withResolvers<void>();
  from.pseudo.runner.holdPrefill = gate.promise;
  const sink = from.submit(spec);
  await eventually(() => from.pseudo.runner.specs.length > 0, 'a step to run');
  from.drain.begin(0);
  gate.resolve();
  await sink.done;
  assert.equal(sink.movedTo?.numComputed, 128);
  const [ids] = await goOn({ from, to, specs: [spec], sinks: [sink] });
  assert.deepEqual(ids, expected);
  assert.equal(to.pseudo.runner.numPromptTokens, 2000 - 128);
  await Promise.all([from.settled(), to.settled()]);
});

test('the drained router dies before its sequences are fetched: they are computed again, with the same tokens', async () => {
  const specs = specsOf(6, LENGTH);
  const expected = await undisturbed(specs);
  const moving = await drained(specs);
  moving.from.kill();
  assert.deepEqual(await goOn(moving), expected);
  await moving.to.settled();
  const { metrics } = moving.to;
  assert.equal(await metricOf(metrics, 'guildhall_sequence_takeovers_total', '"holder_gone"'), 6);
});

test('sequences that nobody fetches in time are given up', async () => {
  const specs = specsOf(3, LENGTH);
  const expected = await undisturbed(specs);
  const moving = await drained(specs, { from: { parkMs: 50 } });
  await eventually(() => moving.from.drain.done(), 'the time to be up');
  await moving.from.settled();
  assert.equal(await metricOf(moving.from.metrics, 'guildhall_parked_ended_total', '"expired"'), 3);
  assert.deepEqual(await goOn(moving), expected);
  await moving.to.settled();
});

test('a router that serves fewer than want its sequences is asked again', async () => {
  const specs = specsOf(10, LENGTH);
  const expected = await undisturbed(specs);
  const options = { maxRunning: 10 };
  const moving = await drained(specs, { from: { ...options, maxFetches: 1 }, to: options });
  assert.deepEqual(await goOn(moving), expected);
  assert.ok((await metricOf(moving.from.metrics, 'guildhall_kv_fetches_total', '"overloaded"')) > 0);
  assert.equal(await metricOf(moving.to.metrics, 'guildhall_sequence_takeovers_total', '"taken"'), 10);
  await Promise.all([moving.from.settled(), moving.to.settled()]);
});

test('a limit of the drain gives up what nobody took over', async () => {
  const from = await routerOf('router-1');
  const sink = from.submit(specOf({ maxTokens: LENGTH }));
  await allHave([sink], 1);
  from.drain.begin(100);
  await from.drain.finished(60_000);
  assert.notEqual(sink.movedTo?.handle, '');
  assert.equal(await metricOf(from.metrics, 'guildhall_parked_ended_total', '"dropped"'), 1);
  await from.settled();
});

test('bytes that change on the way are found, and the sequence is computed again', async () => {
  const specs = specsOf(7, LENGTH);
  const expected = await undisturbed(specs);
  // Tokens of the last prompt behind its whole pages, as a page of this model holds them.
  const marks = [192, 200, 208].map((at) => bytesOf((specs[6] as SequenceSpec).promptIds.subarray(at, at + 8)));
  const alter = (chunk: Buffer): Buffer => {
    for (const mark of marks) {
      const at = chunk.indexOf(mark);
      if (at >= 0) chunk[at] = (chunk[at] ?? 0) ^ 0x40;
    }
    return chunk;
  };
  const moving = await drained(specs, { from: { alter } });
  assert.deepEqual(await goOn(moving), expected);
  await moving.to.settled();
  const { metrics } = moving.to;
  // Others may have the same tokens.
  const spoiled = await metricOf(metrics, 'guildhall_sequence_takeovers_total', '"checksum"');
  assert.ok(spoiled >= 1);
  assert.equal(await metricOf(metrics, 'guildhall_sequence_takeovers_total'), 7);
});

function bytesOf(ids: Int32Array): Buffer {
  return Buffer.from(Int32Array.from(ids).buffer);
}

test('a router without room for what is moved computes it again', async () => {
  const specs = specsOf(3, LENGTH);
  const expected = await undisturbed(specs);
  const moving = await drained(specs);
  moving.to.store.full = true;
  assert.deepEqual(await goOn(moving), expected);
  await Promise.all([moving.from.settled(), moving.to.settled()]);
  assert.equal(await metricOf(moving.to.metrics, 'guildhall_sequence_takeovers_total', '"no_room"'), 3);
});

test('a router without room to park moves the request only', async () => {
  const specs = specsOf(3, LENGTH);
  const expected = await undisturbed(specs);
  const from = await routerOf('router-1');
  const to = await routerOf('router-2');
  const sinks = specs.map((spec) => from.submit(spec));
  await allHave(sinks, 5);
  from.store.full = true;
  from.drain.begin(0);
  await Promise.all(sinks.map(({ done }) => done));
  assert.ok(sinks.every(({ movedTo }) => movedTo?.handle === '' && movedTo.numComputed === 0));
  assert.deepEqual(await goOn({ from, to, specs, sinks }), expected);
  await Promise.all([from.settled(), to.settled()]);
});

test('a moved sequence that is cancelled while it is fetched leaves nothing behind', async () => {
  const moving = await drained(specsOf(2, LENGTH));
  const { from, to, specs, sinks } = moving;
  for (const [i, spec] of specs.entries()) {
    const seq = to.pseudo.engine.submit(from.moved(spec, sinks[i] as RecordingSink), sinks[i] as RecordingSink);
    to.pseudo.engine.cancel(seq);
  }
  await Promise.all([from.settled(), to.settled()]);
});

test('a moved sequence moves on', async () => {
  const specs = specsOf(4, LENGTH);
  const expected = await undisturbed(specs);
  const first = await drained(specs);
  const third = await routerOf('router-3');
  const again = specs.map((spec, i) => first.from.moved(spec, first.sinks[i] as RecordingSink));
  const sinks = again.map((spec) => first.to.submit(spec));
  await allHave(sinks, 3);
  first.to.drain.begin(0);
  await Promise.all(sinks.map(({ done }) => done));
  const rest = await goOn({ from: first.to, to: third, specs: again, sinks });
  assert.deepEqual(
    rest.map((ids, i) => [...(first.sinks[i]?.ids ?? []), ...ids]),
    expected,
  );
  assert.equal(third.pseudo.runner.numPromptTokens, 0);
  await Promise.all([first.from.settled(), first.to.settled(), third.settled()]);
});

test('a prefix that another router holds is pulled, and gives the same tokens', async () => {
  const spec = specOf({ numPrompt: 64 * 20 + 9, maxTokens: 30 });
  const [expected] = await undisturbed([spec]);
  const from = await routerOf('router-1');
  const to = await routerOf('router-2');
  await from.submit(spec).done;
  await from.pseudo.kv.settle();
  const holder = { routerId: from.id, address: from.address, tokens: 64 * 20 };
  const sink = to.submit({ ...spec, holder });
  await sink.done;
  assert.deepEqual(sink.ids, expected);
  assert.equal(sink.result?.cachedTokens, 64 * 20);
  assert.equal(to.pseudo.runner.numPromptTokens, 9);
  assert.equal(await metricOf(to.metrics, 'guildhall_kv_pulls_total', '"complete"'), 1);
  await Promise.all([from.settled(), to.settled()]);
});

test('a holder that is gone costs computing the prefix', async () => {
  const spec = specOf({ numPrompt: 64 * 20 + 9, maxTokens: 30 });
  const [expected] = await undisturbed([spec]);
  const from = await routerOf('router-1');
  const to = await routerOf('router-2');
  const holder = { routerId: from.id, address: from.address, tokens: 64 * 20 };
  from.kill();
  const sink = to.submit({ ...spec, holder });
  await sink.done;
  assert.deepEqual(sink.ids, expected);
  assert.equal(sink.result?.cachedTokens, 0);
  assert.equal(await metricOf(to.metrics, 'guildhall_kv_pulls_total', '"holder_gone"'), 1);
  await to.settled();
});
