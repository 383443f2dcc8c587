import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';
import { TINY } from '../harness/service-process.ts';
import { streamTokens } from '../harness/stream.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;
let scratch: string;

before(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-checkpoints-'));
  cluster = await Cluster.start({ workers: 2, weights: 'f32' });
});
after(async () => {
  await cluster?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

function copyOfTiny(name: string): string {
  const dir = join(scratch, name);
  cpSync(TINY, dir, { recursive: true, filter: (path) => !/\/(train|eval)(\/|$)/.test(path.slice(TINY.length)) });
  return dir;
}

const REQUEST = { prompt: 'What is the capital of France?', maxTokens: 12, seed: 1 };

test('a checkpoint cut in half: the process says which file and ends, everyone else is served', async () => {
  const undisturbed = await streamTokens(cluster, REQUEST);
  const dir = copyOfTiny('cut');
  const shard = 'model-00001-of-00002.safetensors';
  truncateSync(join(dir, shard), Math.floor(statSync(join(dir, shard)).size / 2));
  const broken = cluster.spawn('expert', ['--id', 'expert-cut', '--model', dir, '--weights', 'f32']);
  assert.equal(await broken.exit(), 1);
  assert.match(broken.output, /checkpoint_invalid/);
  assert.match(broken.output, new RegExp(shard.replaceAll('.', '\\.')));
  assert.deepEqual(await streamTokens(cluster, REQUEST), undisturbed);
});

test('a worker with other weights of the same shape gets no experts and no rows', async () => {
  const undisturbed = await streamTokens(cluster, REQUEST);
  const dir = copyOfTiny('other');
  const shard = join(dir, 'model-00001-of-00002.safetensors');
  const bytes = readFileSync(shard);
  // Every tenth byte of the weights: as another training run would have it.
  const header = Number(bytes.readBigUInt64LE(0)) + 8;
  for (let offset = header; offset < bytes.length; offset += 10) bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  writeFileSync(shard, bytes);
  const foreign = cluster.spawn('expert', ['--id', 'expert-foreign', '--model', dir, '--weights', 'f32']);
  await foreign.listening();
  await until('the controller to refuse it', () => /fingerprint/.test(cluster.controller.output));
  assert.deepEqual(await streamTokens(cluster, REQUEST), undisturbed);
  assert.equal(await cluster.metric(foreign, 'guildhall_experts_held'), 0);
  assert.equal(await cluster.metric(foreign, 'guildhall_expert_rows_total'), 0);
  await foreign.stop();
});

test('a second process under the same id is refused while the first lives', async () => {
  const twin = cluster.spawn('expert', ['--id', 'expert-1', '--model', TINY, '--weights', 'f32']);
  assert.equal(await twin.exit(), 1);
  assert.match(twin.output, /id_in_use/);
  assert.ok(cluster.experts[0]?.running);
  assert.equal((await streamTokens(cluster, REQUEST)).length, REQUEST.maxTokens);
});

test('a process that would listen for everybody without a token refuses to start', async () => {
  const open = cluster.spawn('expert', ['--id', 'expert-open', '--model', TINY, '--listen', '0.0.0.0:0'], {
    GUILDHALL_CLUSTER_TOKEN: '',
  });
  assert.equal(await open.exit(), 1);
  assert.match(open.output, /insecure_listen/);
});
