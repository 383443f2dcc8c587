import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { channelCredentials, fromGrpc } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { Checkpoint, EXPERTS_DIR } from '@guildhall/model/weights';
import { experts, weights } from '@guildhall/proto';
import type { ExpertApp } from '../app.ts';
import { type Rows, TestRouter } from '../testing/test-router.ts';
import { NO_TLS } from '../testing/weights-rig.ts';
import { MODEL, SIZES, WorkerBench } from '../testing/worker-bench.ts';

const ALL = Array.from({ length: SIZES.experts }, (_, expert) => expert);
const HALF = ALL.filter((expert) => expert < SIZES.experts / 2);

let bench: WorkerBench;
let dir: string;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'guildhall-peers-'));
  bench = await WorkerBench.start();
});

afterEach(async () => {
  await bench.stop();
  rmSync(dir, { recursive: true, force: true });
});

const store = (): string => join(dir, 'model');
const fromPeers = (id: string, ...argv: string[]): Promise<ExpertApp> =>
  bench.worker(id, '--model', store(), '--model-from-peers', ...argv);

function rowsFor(layer: number): Rows {
  const entries = ALL.map((expert) => [expert]);
  const rows = Float32Array.from({ length: entries.length * SIZES.hidden }, (_, i) => Math.sin(layer + i * 0.7));
  return { layer, entries, rows };
}

/** Rows of every expert of every layer. */
async function answers(app: ExpertApp): Promise<Buffer[]> {
  const router = await TestRouter.open(app);
  try {
    const found: Buffer[] = [];
    for (let layer = 0; layer < SIZES.layers; layer++) {
      const reply = await router.forward(layer, rowsFor(layer));
      assert.equal(reply.status, experts.ReplyStatus.REPLY_STATUS_OK);
      found.push(reply.rows);
    }
    return found;
  } finally {
    router.close();
  }
}

test('a worker without a checkpoint gets the model and its experts from a peer and computes the same bits', async () => {
  const owner = await bench.worker('e1');
  await eventually(() => bench.member('e1') !== null, 'the owner');
  const app = await fromPeers('e2');
  assert.equal(app.fingerprint, owner.fingerprint);
  assert.equal(Checkpoint.open(store()).fingerprint, owner.fingerprint);
  const joined = await eventually(() => bench.member('e2'), 'the worker');
  assert.equal(joined.loadable.length, SIZES.layers, 'all that the peer has can be placed here');
  assert.equal(joined.stored.length, 0);
  await bench.publish(1, app, { e1: ALL, e2: ALL });
  const member = await bench.acked('e2', 1);
  assert.deepEqual(member.stored, member.holdings);
  assert.equal(readdirSync(join(store(), EXPERTS_DIR)).length, SIZES.layers * SIZES.experts);
  assert.deepEqual(await answers(app), await answers(owner));
});

test('a worker that was stopped finds its experts again without a peer', async () => {
  const owner = await bench.worker('e1');
  await eventually(() => bench.member('e1') !== null, 'the owner');
  const first = await fromPeers('e2');
  await bench.publish(1, owner, { e1: ALL, e2: HALF });
  await bench.acked('e2', 1);
  const rows = await answers(owner);
  await first.stop();
  await owner.stop();
  // One of the files is damaged meanwhile: it is thrown away and comes from elsewhere.
  const file = join(store(), EXPERTS_DIR, '0-1.expert');
  const bytes = readFileSync(file);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  writeFileSync(file, bytes);
  const again = await fromPeers('e2');
  await bench.publish(2, again, { e2: HALF });
  await eventually(() => bench.member('e2')?.loadProblemCode === 'checkpoint_partial', 'the missing expert');
  assert.equal(bench.member('e2')?.ackedEpoch, 0n);
  assert.equal(existsSync(file), false);
  const last = await bench.worker('e3');
  await bench.acked('e2', 2);
  await bench.publish(3, again, { e2: ALL, e3: [] });
  await bench.acked('e2', 3);
  assert.equal(bench.member('e2')?.loadProblemCode, '');
  assert.deepEqual(await answers(again), rows);
  await last.stop();
});

/** A copy of the model of which the worker's files can be taken away. */
function copy(): string {
  cpSync(MODEL, store(), { recursive: true });
  return store();
}

const weightFiles = (): string[] => readdirSync(store()).filter((name) => name.endsWith('.safetensors'));

for (const [what, code, damage, files] of [
  ['deleted', 'checkpoint_not_found', (path: string) => rmSync(path), weightFiles],
  ['cut short', 'checkpoint_invalid', (path: string) => truncateSync(path, 5000), weightFiles],
] as const) {
  test(`weights that are ${what} under a running worker come from a peer`, async () => {
    const app = await bench.worker('e1', '--model', copy());
    const owner = await bench.worker('e2');
    await bench.publish(1, app, { e1: HALF, e2: ALL });
    await bench.acked('e1', 1);
    assert.equal(bench.member('e1')?.partialCheckpoint, false);
    for (const name of files()) damage(join(store(), name));
    const member = await eventually(() => {
      const entry = bench.member('e1');
      return entry?.loadProblemCode === code ? entry : null;
    }, 'the report');
    assert.match(member.loadProblem, /model-0000\d-of-00003\.safetensors/);
    assert.deepEqual([member.partialCheckpoint, member.stored.length], [true, 0]);
    await bench.publish(2, app, { e1: ALL, e2: ALL });
    await bench.acked('e1', 2);
    assert.deepEqual(await answers(app), await answers(owner));
    const events = await bench.cluster.eventLog.read();
    assert.deepEqual(
      events.map(({ kind, source, details }) => [kind, source, details['code']]),
      [['load_failed', 'e1', code]],
    );
    for (const name of readdirSync(MODEL)) cpSync(join(MODEL, name), join(store(), name));
    await eventually(() => bench.member('e1')?.loadProblemCode === '', 'the files to be known again');
    assert.equal(bench.member('e1')?.partialCheckpoint, false);
  });
}

test('a worker whose memory is full serves on, says so and is given no more', async () => {
  const app = await bench.worker('e1', '--weight-memory-mib', '1', '--model', copy());
  await bench.publish(1, app, { e1: ALL });
  const member = await eventually(() => {
    const entry = bench.member('e1');
    return entry?.loadProblemCode === 'out_of_memory' ? entry : null;
  }, 'the report');
  assert.equal(member.ackedEpoch, 0n);
  const held = member.holdings.reduce((sum, { experts: list }) => sum + list.length, 0);
  assert.ok(held > 0 && held < SIZES.layers * SIZES.experts);
  assert.ok(member.weightCapacityBytes <= BigInt(held) * member.expertBytes);
  const router = await TestRouter.open(app);
  const [first] = member.holdings;
  const rows = { layer: first?.layer ?? 0, entries: [[first?.experts[0] ?? 0]], rows: new Float32Array(SIZES.hidden) };
  assert.equal((await router.forward(1, rows)).status, experts.ReplyStatus.REPLY_STATUS_OK);
  router.close();
  // A placement that fits is followed.
  await bench.publish(2, app, { e1: [0] });
  assert.equal((await bench.acked('e1', 2)).loadProblemCode, '');
  assert.deepEqual(bench.fatal, []);
});

test('weights are given to those with the cluster token only', async () => {
  const token = ['--cluster-token', 'a-long-token'];
  const owner = await bench.worker('e1', ...token);
  await eventually(() => bench.member('e1') !== null, 'the owner');
  const client = new weights.WeightsClient(owner.address, channelCredentials(NO_TLS));
  const refused = await new Promise((resolve) => client.describe({ modelFingerprint: '' }, (err) => resolve(err)));
  client.close();
  assert.equal(fromGrpc(refused).code, 'unauthorized');
  const app = await fromPeers('e2', ...token);
  await bench.publish(1, app, { e1: ALL, e2: HALF });
  await bench.acked('e2', 1);
});
