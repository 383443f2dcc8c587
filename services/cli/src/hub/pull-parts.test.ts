import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { isGuildhallError } from '@guildhall/common';
import { Checkpoint, expertSources, loadableExperts } from '@guildhall/model/weights';
import { encodeSafetensors } from '../../../model/src/testing/safetensors-writer.ts';
import { PullRig, WHOLE } from '../testing/pull-rig.ts';
import { ROOT } from '../stack/state-dir.ts';

const TINY = join(ROOT, 'models', 'tiny');
const DENSE = 'model-00001-of-00009.safetensors';

let rig: PullRig;
let files: Record<string, Buffer>;
let scratch: string;
let fingerprint: string;

/** The tiny model with its dense part in one file and the experts of each layer in another. */
before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-parts-'));
  const checkpoint = Checkpoint.open(TINY);
  const shards = new Map<string, { name: string; dtype: string; shape: number[]; data: Uint8Array }[]>();
  const map: Record<string, string> = {};
  for (const name of checkpoint.names) {
    const layer = /layers\.(\d+)\.mlp\.experts\./.exec(name)?.[1];
    const file =
      layer === undefined ? DENSE : `model-${String(Number(layer) + 2).padStart(5, '0')}-of-00009.safetensors`;
    const { dtype, shape, data } = checkpoint.tensor(name);
    map[name] = file;
    shards.set(file, [...(shards.get(file) ?? []), { name, dtype, shape: [...shape], data }]);
  }
  files = { 'model.safetensors.index.json': Buffer.from(JSON.stringify({ metadata: {}, weight_map: map })) };
  for (const [file, tensors] of shards) files[file] = encodeSafetensors(tensors);
  files['config.json'] = readFileSync(join(TINY, 'config.json'));
  for (const [file, bytes] of Object.entries(files)) writeFileSync(join(scratch, file), bytes);
  fingerprint = Checkpoint.open(scratch).fingerprint;
});
after(() => rmSync(scratch, { recursive: true, force: true }));

beforeEach(async () => {
  rig = new PullRig();
  await rig.start();
  rig.hub.add('org/tiny', files);
});
afterEach(() => rig.stop());

function bytesAsked(): number {
  return rig.hub.filesAsked().length;
}

function refuses(use: () => unknown): void {
  assert.throws(use, (err) => isGuildhallError(err) && err.code === 'checkpoint_partial');
}

test('a gateway: headers of every file, the fingerprint of the whole, and no weights', async () => {
  const result = await rig.pull('org/tiny', { selection: { ...WHOLE, whole: false } });
  assert.deepEqual(
    Object.keys(files).filter((file) => file.endsWith('.safetensors') && existsSync(join(result.dir, file))),
    [],
  );
  assert.equal(result.outlined.length, 9);
  assert.equal(Checkpoint.open(result.dir).fingerprint, fingerprint);
});

test('a router: the dense file whole, headers of the rest, the fingerprint of the whole', async () => {
  const result = await rig.pull('org/tiny', { selection: { ...WHOLE, whole: false, dense: true } });
  assert.ok(existsSync(join(result.dir, DENSE)));
  assert.deepEqual(
    result.files.filter((name) => name.endsWith('.safetensors')),
    [DENSE],
  );
  assert.ok(result.outlined.length >= 4);
  const checkpoint = Checkpoint.open(result.dir);
  assert.equal(checkpoint.fingerprint, fingerprint);
  assert.deepEqual(checkpoint.outlinedFiles, result.outlined);
  for (const name of checkpoint.denseNames) checkpoint.tensor(name);
  refuses(() => expertSources(checkpoint, checkpoint.config, 0, 0));
  const whole = Object.values(files).reduce((sum, bytes) => sum + bytes.length, 0);
  assert.ok(result.downloadedBytes < whole / 2, `${result.downloadedBytes} of ${whole}`);
});

test('a worker: its layers only, and a later pull adds others without losing them', async () => {
  const part = { ...WHOLE, whole: false };
  const first = await rig.pull('org/tiny', { selection: { ...part, layers: [1, 2] } });
  let checkpoint = Checkpoint.open(first.dir);
  assert.equal(checkpoint.fingerprint, fingerprint);
  const { numLayers, moe } = checkpoint.config;
  for (const expert of [0, moe.numExperts - 1]) {
    for (const layer of [1, 2]) expertSources(checkpoint, checkpoint.config, layer, expert);
  }
  refuses(() => expertSources(checkpoint, checkpoint.config, 3, 0));
  const loadable = loadableExperts(checkpoint) ?? [];
  assert.deepEqual(
    loadable.map(({ experts }) => experts.length),
    Array.from({ length: numLayers }, (_, layer) => (layer === 1 || layer === 2 ? moe.numExperts : 0)),
  );
  refuses(() => checkpoint.tensor(checkpoint.denseNames[0] ?? ''));

  const asked = bytesAsked();
  const again = await rig.pull('org/tiny', { selection: { ...part, layers: [1, 2] } });
  assert.deepEqual([again.downloadedBytes, bytesAsked()], [0, asked]);

  await rig.pull('org/tiny', { selection: { ...part, shard: { index: 2, count: 2 } } });
  checkpoint = Checkpoint.open(first.dir);
  for (let layer = numLayers / 2; layer < numLayers; layer++) expertSources(checkpoint, checkpoint.config, layer, 0);
  expertSources(checkpoint, checkpoint.config, 1, 0);

  const { outlined } = await rig.pull('org/tiny');
  assert.deepEqual(outlined, []);
  assert.equal(Checkpoint.open(first.dir).fingerprint, fingerprint);
  assert.deepEqual(Checkpoint.open(first.dir).outlinedFiles, []);
  assert.equal(loadableExperts(Checkpoint.open(first.dir)), null);
});

test('parts that the model does not have are refused', async () => {
  const part = { ...WHOLE, whole: false };
  for (const selection of [
    { ...part, layers: [0, 999] as [number, number] },
    { ...part, experts: [0, 100_000] as [number, number] },
    { ...part, shard: { index: 1, count: 999 } },
  ]) {
    await assert.rejects(
      rig.pull('org/tiny', { selection }),
      (err) => isGuildhallError(err) && err.code === 'config_invalid' && /the model has/.test(err.message),
    );
  }
});

test('a damaged outline is refused, and a server without ranges too', async () => {
  const part = { ...WHOLE, whole: false, dense: true };
  rig.hub.faults.ignoreRanges = true;
  await assert.rejects(
    rig.pull('org/tiny', { selection: part }),
    (err) => isGuildhallError(err) && err.code === 'unsupported',
  );
  rig.hub.faults.ignoreRanges = false;
  const { dir, outlined } = await rig.pull('org/tiny', { selection: part });
  const path = join(dir, `${outlined[0]}.outline`);
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  writeFileSync(path, bytes);
  assert.throws(
    () => Checkpoint.open(dir),
    (err) => isGuildhallError(err) && err.code === 'checkpoint_invalid' && /checksum/.test(err.message),
  );
});
