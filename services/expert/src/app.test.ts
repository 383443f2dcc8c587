import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { systemClock } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { Checkpoint, expertSources, loadModelConfig } from '@guildhall/model/weights';
import { type ExpertShard, loadNative } from '@guildhall/native';
import { control, experts } from '@guildhall/proto';
import type { ExpertApp } from './app.ts';
import { forwardFrame, type Rows, TestRouter } from './testing/test-router.ts';
import { MODEL, SIZES, WorkerBench } from './testing/worker-bench.ts';

const { REPLY_STATUS_OK, REPLY_STATUS_NOT_HELD, REPLY_STATUS_BUSY, REPLY_STATUS_INVALID } = experts.ReplyStatus;
const ALL = Array.from({ length: SIZES.experts }, (_, expert) => expert);
const HALF = ALL.filter((expert) => expert < SIZES.experts / 2);
const REST = ALL.filter((expert) => expert >= SIZES.experts / 2);

let bench: WorkerBench;
let routers: TestRouter[];

beforeEach(async () => {
  routers = [];
  bench = await WorkerBench.start();
});

afterEach(async () => {
  for (const router of routers) router.close();
  await bench.stop();
});

async function open(app: ExpertApp, change: Partial<experts.Hello> = {}): Promise<TestRouter> {
  const router = await TestRouter.open(app, change);
  routers.push(router);
  return router;
}

function raw(app: ExpertApp): TestRouter {
  const router = new TestRouter(app.address);
  routers.push(router);
  return router;
}

/** A worker that holds all experts. */
async function ready(...argv: string[]): Promise<ExpertApp> {
  const app = await bench.worker('e1', ...argv);
  await bench.publish(1, app, { e1: ALL });
  await bench.acked('e1', 1);
  return app;
}

function rowsFor(layer: number, entries: number[][], seed = 1): Rows {
  const rows = Float32Array.from({ length: entries.length * SIZES.hidden }, (_, i) => Math.sin(seed + i * 0.7));
  return { layer, entries, rows };
}

/** The same experts in this process, for comparison. */
async function localShard(): Promise<ExpertShard> {
  const native = loadNative();
  const model = loadModelConfig(MODEL);
  const checkpoint = Checkpoint.open(MODEL);
  const runtime = new native.Runtime({ threads: 1, isa: 'auto', bf16Kernels: 'auto' });
  const { numExperts, intermediate } = model.moe;
  const shard = new native.ExpertShard(runtime, {
    numLayers: model.numLayers,
    numExperts,
    hidden: model.hidden,
    intermediate,
    format: 'f32',
    rowFormat: 'f32',
  });
  for (const expert of ALL) {
    const { gate, up, down } = expertSources(checkpoint, model, 1, expert);
    await shard.load(1, expert, gate, up, down);
  }
  return shard;
}

test('both lanes answer with the rows that the experts give in this process, in request order', async () => {
  const app = await ready();
  const local = await localShard();
  const request = rowsFor(1, [[0, 3], [2], [0, 1, 5]]);
  const answer = experts.ServerFrame.decode(await local.forward(forwardFrame(7, request), 0, 'decode')).frame;
  assert.ok(answer?.$case === 'reply');
  assert.equal(answer.value.numRows, 6);
  for (const lane of [experts.Lane.LANE_DECODE, experts.Lane.LANE_PREFILL]) {
    const router = await open(app, { lane });
    const reply = await router.forward(7, request, { attempt: 2, part: 1, microBatch: 3 });
    assert.deepEqual([reply.status, reply.numRows, reply.layer, reply.step], [REPLY_STATUS_OK, 6, 1, 7]);
    assert.deepEqual([reply.attempt, reply.part, reply.microBatch, reply.routerIncarnation], [2, 1, 3, 77n]);
    assert.ok(reply.rows.equals(answer.value.rows), 'the same bits');
  }
});

test('an expert that is not held is named and nothing is computed', async () => {
  const app = await bench.worker('e1');
  await bench.publish(1, app, { e1: HALF, other: REST });
  await bench.acked('e1', 1);
  const router = await open(app);
  const missing = REST[0] ?? 0;
  const reply = await router.forward(1, rowsFor(0, [[0], [1, missing]]));
  assert.equal(reply.status, REPLY_STATUS_NOT_HELD);
  assert.deepEqual([...new Uint16Array(Uint8Array.from(reply.notHeld).buffer)], [missing]);
  assert.equal(reply.rows.length, 0);
  assert.equal((await router.forward(2, rowsFor(0, [[0]]))).status, REPLY_STATUS_OK);
});

test('what is held is told when asked and whenever it changes', async () => {
  const app = await bench.worker('e1');
  const router = await open(app);
  assert.deepEqual(await router.held(), { ackedEpoch: 0n, layers: [] });
  await bench.publish(1, app, { e1: HALF, e2: REST });
  const held = await router.take('held', (value) => value.ackedEpoch === 1n);
  assert.deepEqual(
    held.layers,
    Array.from({ length: SIZES.layers }, (_, layer) => ({ layer, experts: HALF })),
  );
  const member = await bench.acked('e1', 1);
  assert.deepEqual(member.holdings, held.layers);
  assert.equal(member.ready, true);
});

test('leftovers are dropped when every router of the model plans with the newer epoch, not before', async () => {
  const app = await ready();
  const ack = await bench.router('r1', app);
  await bench.router('stranger', { fingerprint: 'other', numericsId: 'other' });
  const router = await open(app);
  await bench.publish(2, app, { e1: HALF, e2: REST });
  await bench.acked('e1', 2);
  await systemClock.sleep(300);
  assert.equal((await router.held()).layers[0]?.experts.length, SIZES.experts);
  ack(2);
  const held = await router.take('held', (value) => value.layers[0]?.experts.length === HALF.length);
  assert.deepEqual(held.layers[0]?.experts, HALF);
  assert.equal((await router.forward(1, rowsFor(0, [[REST[0] ?? 0]]))).status, REPLY_STATUS_NOT_HELD);
  // A worker that the newest epoch does not name gives everything up.
  await bench.publish(3, app, { e2: ALL });
  ack(3);
  await router.take('held', (value) => value.ackedEpoch === 3n && value.layers.length === 0);
});

test('while Redis is away the worker serves on and drops nothing; it comes back by itself', async () => {
  const app = await ready();
  const ack = await bench.router('r1', app);
  const router = await open(app);
  await bench.publish(2, app, { e1: HALF, e2: REST });
  await bench.acked('e1', 2);
  await bench.redis.kill();
  await eventually(() => bench.cluster.members.stale, 'the outage');
  ack(2);
  for (let step = 1; step <= 20; step++) {
    assert.equal((await router.forward(step, rowsFor(0, [ALL.slice(0, 2), [REST[0] ?? 0]]))).status, REPLY_STATUS_OK);
    await systemClock.sleep(50);
  }
  assert.equal((await open(app)).received.length, 0, 'new streams are taken');
  await bench.redis.restart();
  await eventually(() => bench.member('e1') !== null && !bench.cluster.members.stale, 'the worker to be back');
  assert.equal((await bench.acked('e1', 2)).holdings.length, SIZES.layers);
  await router.take('held', (value) => value.layers[0]?.experts.length === HALF.length);
  assert.deepEqual(bench.fatal, []);
});

test('a Redis that hangs does not hold up a forward', async () => {
  const app = await ready();
  const router = await open(app);
  bench.redis.pause();
  try {
    for (let step = 1; step <= 30; step++) {
      assert.equal((await router.forward(step, rowsFor(0, [[0]]))).status, REPLY_STATUS_OK);
      await systemClock.sleep(100);
    }
  } finally {
    bench.redis.resume();
  }
});

test('a worker can start while Redis is away', async () => {
  await bench.redis.kill();
  const app = await bench.worker('e1');
  assert.equal((await fetch(`http://${app.admin}/health`)).status, 200);
  assert.equal((await fetch(`http://${app.admin}/ready`)).status, 503);
  await bench.redis.restart();
  await bench.publish(1, app, { e1: ALL });
  await bench.acked('e1', 1);
  await eventually(async () => (await fetch(`http://${app.admin}/ready`)).status === 200, 'readiness');
});

test('a placement of another checkpoint or numerics class is not followed', async () => {
  const app = await ready();
  await bench.publish(2, { ...app, fingerprint: 'other' }, { e1: HALF });
  await bench.publish(3, { ...app, numericsId: 'other' }, { e1: HALF });
  await bench.publish(4, app, { e1: ALL });
  const member = await bench.acked('e1', 4);
  assert.equal(member.holdings[0]?.experts.length, SIZES.experts);
});

test('hellos that do not fit end their stream with both values', async () => {
  const app = await ready();
  await assert.rejects(open(app, { modelFingerprint: 'beef' }), {
    code: 'fingerprint_mismatch',
    field: 'model_fingerprint',
    message: new RegExp(`${app.fingerprint}.*beef`),
  });
  await assert.rejects(open(app, { numericsId: 'else' }), {
    code: 'numerics_mismatch',
    message: new RegExp(`${app.numericsId}.*else`),
  });
  await assert.rejects(open(app, { rowFormat: experts.RowFormat.ROW_FORMAT_BF16 }), { code: 'protocol_mismatch' });
});

test('bytes that break the protocol end their own stream; another stream goes on', async () => {
  const app = await ready();
  const good = await open(app);
  const attacks: [string, Buffer[]][] = [
    ['a forward before the hello', [forwardFrame(1, rowsFor(0, [[0]]))]],
    ['no protobuf', [Buffer.from([0xff, 0xff, 0xff, 0xff])]],
    ['a hello with a lying length', [Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x0f])]],
    ['nothing', [Buffer.alloc(0)]],
  ];
  for (const [what, frames] of attacks) {
    const router = raw(app);
    for (const frame of frames) router.stream.write(frame);
    assert.equal((await router.failed).code, 'protocol_mismatch', what);
  }
  const twice = await open(app);
  twice.hello({ ...experts.Hello.decode(Buffer.alloc(0)), routerId: 'again' });
  assert.equal((await twice.failed).code, 'protocol_mismatch');
  assert.equal((await good.forward(1, rowsFor(0, [[0]]))).status, REPLY_STATUS_OK);
});

test('forwards that do not add up are answered as invalid and the stream goes on', async () => {
  const app = await ready();
  const router = await open(app);
  const request = rowsFor(0, [[0, 1], [2]]);
  const lies: [string, Partial<experts.Forward>][] = [
    ['more rows than there are', { numRows: 3 }],
    ['4 billion rows', { numRows: 0xffffffff }],
    ['no rows', { rows: Buffer.alloc(0) }],
    ['half a row', { rows: Buffer.alloc(SIZES.hidden * 2) }],
    ['a layer past the end', { layer: SIZES.layers }],
    ['an expert past the end', { experts: Buffer.from(Uint16Array.of(0, 1, 60_000).buffer) }],
    ['experts that do not ascend', { experts: Buffer.from(Uint16Array.of(1, 0, 2).buffer) }],
    ['too few weights', { weights: Buffer.alloc(4) }],
    ['entries that are not there', { rowEntries: Buffer.from(Uint16Array.of(2, 9).buffer) }],
    ['a row without entries', { rowEntries: Buffer.from(Uint16Array.of(3, 0).buffer) }],
    ['another combine mode', { combineMode: experts.CombineMode.COMBINE_MODE_PARTIAL }],
  ];
  for (const [at, [what, change]] of lies.entries()) {
    const reply = await router.forward(100 + at, request, change);
    assert.equal(reply.status, REPLY_STATUS_INVALID, what);
    assert.ok(reply.error.length > 0, what);
  }
  const cut = forwardFrame(1, request);
  router.stream.write(cut.subarray(0, cut.length - 40));
  assert.equal((await router.reply()).status, REPLY_STATUS_INVALID);
  const long = Buffer.from(cut);
  long.writeUInt32LE(0x7fffffff, 1);
  router.stream.write(long);
  assert.equal((await router.reply()).status, REPLY_STATUS_INVALID);
  assert.equal((await router.forward(1, request)).status, REPLY_STATUS_OK);
});

test('a message over the limit ends its stream only; a reply that would be over it is refused beforehand', async () => {
  const app = await ready('--max-message-bytes', '65536');
  const router = await open(app);
  const rows = Math.floor(65_536 / (SIZES.hidden * 4)) + 1;
  const big = raw(app);
  big.stream.write(Buffer.alloc(70_000));
  await big.failed;
  const entries = Array.from({ length: Math.ceil(rows / 2) }, () => ALL.slice(0, 3));
  const reply = await router.forward(1, rowsFor(0, entries));
  assert.equal(reply.status, REPLY_STATUS_INVALID);
  assert.match(reply.error, /the reply would have \d+ bytes, the limit is 65536/);
  const small = await open(app, { maxMessageBytes: 20_000 });
  assert.equal((await small.forward(1, rowsFor(0, [[0]]))).status, REPLY_STATUS_OK);
});

test('more requests than the queue holds are answered BUSY, and all are answered', async () => {
  const app = await ready('--max-queued', '4');
  const router = await open(app);
  const count = 200;
  const entries = Array.from({ length: 30 }, () => ALL.slice(0, 3));
  for (let step = 0; step < count; step++) router.stream.write(forwardFrame(step, rowsFor(0, entries)));
  const statuses = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const reply = await router.reply();
    statuses.set(reply.status, (statuses.get(reply.status) ?? 0) + 1);
  }
  assert.ok((statuses.get(REPLY_STATUS_BUSY) ?? 0) > 0);
  assert.equal((statuses.get(REPLY_STATUS_BUSY) ?? 0) + (statuses.get(REPLY_STATUS_OK) ?? 0), count);
  assert.equal((await router.forward(999, rowsFor(0, [[0]]))).status, REPLY_STATUS_OK);
});

test('a router that never reads is cut off', async () => {
  const app = await ready('--max-queued', '4');
  const router = await open(app);
  router.stream.pause();
  const frame = forwardFrame(
    1,
    rowsFor(
      0,
      Array.from({ length: 100 }, () => ALL.slice(0, 3)),
    ),
  );
  const stop = eventually(async () => {
    const text = await (await fetch(`http://${app.admin}/metrics`)).text();
    return text.includes('guildhall_errors_total{code="overloaded"} 1');
  }, 'the cut');
  let cut = false;
  void stop.then(() => (cut = true));
  while (!cut) {
    router.stream.write(frame);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await stop;
  const other = await open(app);
  assert.equal((await other.forward(1, rowsFor(0, [[0]]))).status, REPLY_STATUS_OK);
});

test('a stream that is cancelled frees its place', async () => {
  const app = await ready();
  const router = await open(app);
  for (let step = 0; step < 10; step++) router.stream.write(forwardFrame(step, rowsFor(0, [[0]])));
  router.close();
  await eventually(async () => {
    const text = await (await fetch(`http://${app.admin}/metrics`)).text();
    return (
      text.includes('guildhall_expert_streams{lane="decode"} 0') &&
      text.includes('guildhall_expert_queue_depth{lane="decode"} 0')
    );
  }, 'the stream to be gone');
});

test('what is served is counted and reported', async () => {
  const app = await ready();
  const router = await open(app);
  await router.forward(1, rowsFor(1, [[0, 2], [2]]));
  const text = await (await fetch(`http://${app.admin}/metrics`)).text();
  assert.match(text, /guildhall_expert_rows_total\{worker="e1"\} 3/);
  const [report] = await eventually(async () => {
    const loads = await bench.cluster.loads.read();
    return loads.length > 0 ? loads : null;
  }, 'the load report');
  const { reporter, layers } = control.LoadReport.decode(report?.bytes ?? Buffer.alloc(0));
  assert.equal(reporter, 'e1');
  assert.deepEqual(layers, [
    { layer: 1, tokens: ALL.map((expert) => (expert === 0 ? 1n : expert === 2 ? 2n : 0n)), samples: Buffer.alloc(0) },
  ]);
});

test('a second worker under a live id is told and ends', async () => {
  await ready();
  await bench.worker('e1');
  const err = await eventually(() => bench.fatal[0], 'the refusal');
  assert.equal((err as { code: string }).code, 'id_in_use');
});

test('with a cluster token, streams without it are refused', async () => {
  const app = await bench.worker('e1', '--cluster-token', 'a-long-token');
  await assert.rejects(open(app), { code: 'unauthorized' });
});

test('a draining worker leaves when the others serve its experts', async () => {
  const app = await ready();
  await bench.neighbours(app);
  const ack = await bench.router('r1', app);
  const stopped = app.stop();
  await eventually(() => bench.member('e1')?.draining === true, 'the wish to leave');
  await bench.publish(2, app, { e2: ALL });
  await systemClock.sleep(300);
  assert.ok(bench.member('e1') !== null, 'it stays until the routers have moved');
  ack(2);
  await stopped;
  await eventually(() => bench.member('e1') === null, 'the leave');
});
