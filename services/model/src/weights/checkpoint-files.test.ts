import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { randomCheckpoint, temporaryDirectory } from '../testing/random-checkpoint.ts';
import { Checkpoint } from './checkpoint.ts';
import { CheckpointFiles, isSmallFileName } from './checkpoint-files.ts';
import { loadableExperts } from './experts.ts';
import { sha256Hex } from './sha256.ts';

for (const [what, variant] of [
  ['one file without an index', {}],
  ['three files', { numShards: 3 }],
  ['one tensor per expert', { experts: 'separate', numShards: 2 }],
] as const) {
  test(`${what}: the small files alone make the same fingerprint, and so do theirs`, async () => {
    using checkpoint = randomCheckpoint(variant);
    using first = temporaryDirectory();
    using second = temporaryDirectory();
    let source = Checkpoint.open(checkpoint.path);
    const { fingerprint } = source;
    for (const dir of [first, second]) {
      const files = new CheckpointFiles(source);
      const list = await files.list();
      assert.equal(list[0]?.name, 'config.json');
      for (const { name, size, sha256 } of list) {
        const bytes = await files.read(name);
        assert.deepEqual([bytes.length, await sha256Hex(bytes)], [size, sha256]);
        assert.ok(isSmallFileName(name));
        writeFileSync(join(dir.path, name), bytes);
      }
      source = Checkpoint.open(dir.path);
      assert.equal(source.fingerprint, fingerprint);
      assert.deepEqual(
        loadableExperts(source)?.map(({ experts }) => experts.length),
        [0, 0, 0, 0],
      );
    }
  });
}

test('nothing but the small files is given', async () => {
  using checkpoint = randomCheckpoint();
  const files = new CheckpointFiles(Checkpoint.open(checkpoint.path));
  assert.ok(existsSync(join(checkpoint.path, 'model.safetensors')));
  for (const name of ['model.safetensors', '../x', '.hidden', '', 'a/b.safetensors.outline', 'x.safetensors.outline']) {
    await assert.rejects(files.read(name), { code: 'not_found' }, name);
  }
  for (const name of ['../config.json', '.config.json', 'a/../b.safetensors.outline', '.safetensors.outline', 'x.sh'])
    assert.equal(isSmallFileName(name), false, name);
});
