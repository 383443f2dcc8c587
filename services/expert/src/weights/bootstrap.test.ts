import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, test } from 'node:test';
import { fail, type MemberEntry, type StoredPlacement, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { Checkpoint, CheckpointFiles } from '@guildhall/model/weights';
import { control, type weights } from '@guildhall/proto';
import { MODEL } from '../testing/worker-bench.ts';
import { crc32c, WeightsRig } from '../testing/weights-rig.ts';
import { bootstrapCheckpoint } from './bootstrap.ts';

const OTHER = fileURLToPath(new URL('../../../../test/vectors/checkpoints/q3-moe', import.meta.url));

let rig: WeightsRig;
let dir: string;
let entries: MemberEntry[];
let placement: StoredPlacement | null;

beforeEach(() => {
  rig = new WeightsRig(MODEL);
  dir = join(mkdtempSync(join(tmpdir(), 'guildhall-bootstrap-')), 'model');
  entries = [];
  placement = null;
});

afterEach(async () => {
  await rig.stop();
  rmSync(join(dir, '..'), { recursive: true, force: true });
});

/** A worker as Redis knows it; by default it has the checkpoint and serves it. */
function member(id: string, address: string, change: Partial<control.Member> = {}): void {
  const value = control.Member.fromPartial({
    id,
    address,
    modelFingerprint: rig.checkpoint.fingerprint,
    servesWeights: true,
    ...change,
  });
  entries.push({ kind: 'expert', id, incarnation: 1n, value: Buffer.from(control.Member.encode(value).finish()) });
}

function learn(signal = new AbortController().signal): Promise<void> {
  return bootstrapCheckpoint({
    dir,
    cluster: { members: { members: () => entries }, placements: { current: () => placement } },
    peers: rig.peers(),
    clock: systemClock,
    logger: silentLogger(),
    signal,
  });
}

const fingerprint = (): string => Checkpoint.open(dir).fingerprint;
const drafts = (): string[] => readdirSync(dir).filter((name) => name.startsWith('.draft-'));

/** A peer that describes the checkpoint with changes, and gives whatever `read` does. */
async function lying(
  change: (files: weights.WeightsFile[]) => weights.WeightsFile[],
  read: (name: string) => Promise<Uint8Array> = (name) => new CheckpointFiles(rig.checkpoint).read(name),
): Promise<string> {
  const known = await new CheckpointFiles(rig.checkpoint).list();
  const files = known.map(({ name, size, sha256 }) => {
    return { name, size: BigInt(size), sha256: Buffer.from(sha256, 'hex') };
  });
  return rig.serve({
    describe: (_call, reply) => {
      const description = { modelFingerprint: rig.checkpoint.fingerprint, partial: false, stored: [] };
      reply(null, { ...description, files: change(files) });
    },
    fetchFile: (call) =>
      void read(call.request.name).then(async (bytes) => {
        const [checksum] = await crc32c([bytes]);
        call.write({ data: Buffer.from(bytes), crc32c: checksum ?? 0 });
        call.end();
      }),
    fetchExperts: () => {
      throw fail('internal', 'not asked for');
    },
  });
}

const LIES: [what: string, peer: () => Promise<string>][] = [
  [
    'a path that leads out of the folder',
    () => lying((files) => files.map((file, i) => (i === 1 ? { ...file, name: '../evil.json' } : file))),
  ],
  ['no configuration', () => lying((files) => files.slice(1))],
  ['a file twice', () => lying((files) => [...files, ...files.slice(0, 1)])],
  [
    'a file of a terabyte',
    () => lying((files) => files.map((file, i) => (i === 1 ? { ...file, size: 1n << 40n } : file))),
  ],
  [
    'a file that is not what it listed',
    () =>
      lying(
        (files) => files,
        () => Promise.resolve(Buffer.from('{}')),
      ),
  ],
  [
    'another model with right checksums',
    async () => {
      const other = new CheckpointFiles(Checkpoint.open(OTHER));
      const list = await other.list();
      const files = list.map(({ name, size, sha256 }) => {
        return { name, size: BigInt(size), sha256: Buffer.from(sha256, 'hex') };
      });
      return lying(
        () => files,
        (name) => other.read(name),
      );
    },
  ],
];

for (const [what, peer] of LIES) {
  test(`${what}: nothing of it stays, and the next peer is asked`, async () => {
    member('a', await peer());
    member('b', await rig.share());
    await learn();
    assert.equal(fingerprint(), rig.checkpoint.fingerprint);
    assert.deepEqual(drafts(), []);
    assert.equal(existsSync(join(dir, '..', 'evil.json')), false);
  });
}

test('it waits for a worker that serves weights, and ends when it is no longer wanted', async () => {
  const abort = new AbortController();
  const given = assert.rejects(learn(abort.signal));
  abort.abort(fail('cancelled', 'enough'));
  await given;
  member('a', await rig.share(), { servesWeights: false });
  const learning = learn();
  await eventually(() => existsSync(dir), 'the folder');
  member('b', await rig.share());
  await learning;
  assert.equal(fingerprint(), rig.checkpoint.fingerprint);
});

test('of two models that of the placement in force is taken, else that of most workers', async () => {
  const other = new WeightsRig(OTHER);
  try {
    member('a', await other.share(), { modelFingerprint: other.checkpoint.fingerprint });
    for (const id of ['b', 'c']) member(id, await rig.share());
    await learn();
    assert.equal(fingerprint(), rig.checkpoint.fingerprint);
    rmSync(dir, { recursive: true });
    const bytes = control.Placement.encode(
      control.Placement.fromPartial({ epoch: 1n, modelFingerprint: other.checkpoint.fingerprint }),
    ).finish();
    placement = { epoch: 1, bytes: Buffer.from(bytes) };
    await learn();
    assert.equal(fingerprint(), other.checkpoint.fingerprint);
  } finally {
    await other.stop();
  }
});

test('a folder that was left half made or was damaged is made again, one that is whole asks nobody', async () => {
  member('a', await rig.share());
  await learn();
  // A process that died before the last step: everything but the configuration, and its draft.
  rmSync(join(dir, 'config.json'));
  mkdirSync(join(dir, '.draft-old'));
  utimesSync(join(dir, '.draft-old'), 0, 0);
  await learn();
  assert.equal(fingerprint(), rig.checkpoint.fingerprint);
  assert.deepEqual(drafts(), []);
  const [outline] = readdirSync(dir).filter((name) => name.endsWith('.outline'));
  writeFileSync(join(dir, outline ?? ''), 'damaged');
  await learn();
  assert.equal(fingerprint(), rig.checkpoint.fingerprint);
  entries = [];
  await learn();
});

test('a folder that cannot be made is a mistake of the configuration', async () => {
  dir = join(dir, '..', 'file', 'model');
  writeFileSync(join(dir, '..'), '');
  await assert.rejects(learn(), { code: 'config_invalid', field: 'model' });
});
