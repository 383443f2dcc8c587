import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fromGrpc } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { CheckpointFiles, ExpertBytes, expertRanges, expertSources } from '@guildhall/model/weights';
import type { weights } from '@guildhall/proto';
import type { ClientReadableStream } from '@grpc/grpc-js';
import { WeightsRig } from '../testing/weights-rig.ts';
import { describePeer, fetchFile } from './peer-calls.ts';

const model = (name: string): string =>
  fileURLToPath(new URL(`../../../../test/vectors/checkpoints/${name}`, import.meta.url));

let rig: WeightsRig;
afterEach(() => rig.stop());

function open(name = 'q35-base'): WeightsRig {
  rig = new WeightsRig(model(name));
  return rig;
}

/** The error with which a call ends. */
function ended(call: ClientReadableStream<unknown>): Promise<string> {
  call.resume();
  return new Promise((resolve, reject) => {
    call.on('error', (err) => resolve(fromGrpc(err).code));
    call.on('end', () => reject(new Error('it ended well')));
  });
}

for (const name of ['q35-base', 'q3-moe', 'q35-fp8-odd']) {
  test(`${name}: every byte of every expert and small file is that of the checkpoint`, async () => {
    const { checkpoint } = open(name);
    const address = await rig.share();
    const peers = rig.peers();
    const { numLayers, moe } = checkpoint.config;
    for (let layer = 0; layer < numLayers; layer++) {
      for (let expert = 0; expert < moe.numExperts; expert++) {
        const bytes = await rig.fetch(peers, [address], { layer, expert });
        const parts = expertRanges(checkpoint, layer, expert).map((range) =>
          checkpoint.bytes(range.tensor, range.begin, range.end),
        );
        assert.ok(Buffer.concat(parts).equals(bytes.data));
        assert.deepEqual(
          expertSources(checkpoint, checkpoint.config, layer, expert, (...range) => bytes.bytes(...range)),
          expertSources(checkpoint, checkpoint.config, layer, expert),
        );
      }
    }
    const signal = new AbortController().signal;
    const calls = peers.calls(address, {
      fingerprint: checkpoint.fingerprint,
      signal,
      paced: () => Promise.resolve(),
    });
    const { files, partial } = await describePeer(calls);
    assert.equal(partial, false);
    const own = new CheckpointFiles(checkpoint);
    assert.ok(files.length > checkpoint.files.length);
    for (const file of files) {
      const bytes = await fetchFile(calls, { ...file, size: Number(file.size) });
      assert.ok((await own.read(file.name)).equals(bytes), file.name);
    }
  });
}

test('what is not asked for properly is refused', async () => {
  const { checkpoint } = open();
  const client = rig.client(await rig.share());
  const modelFingerprint = checkpoint.fingerprint;
  const experts = [{ layer: 0, expert: 0 }];
  assert.equal(await ended(client.fetchExperts({ modelFingerprint: 'other', experts })), 'fingerprint_mismatch');
  assert.equal(await ended(client.fetchFile({ modelFingerprint: '', name: 'config.json' })), 'fingerprint_mismatch');
  const many = Array.from({ length: 65 }, () => ({ layer: 0, expert: 0 }));
  assert.equal(await ended(client.fetchExperts({ modelFingerprint, experts: many })), 'invalid_value');
  for (const name of ['../q3-moe/config.json', '/etc/passwd', 'model-00001-of-00003.safetensors', '']) {
    assert.equal(await ended(client.fetchFile({ modelFingerprint, name })), 'not_found', name);
  }
});

test('an expert that is not here is absent, and the others of the request come', async () => {
  const { checkpoint } = open();
  const read = (layer: number, expert: number): Promise<ExpertBytes | null> =>
    expert === 1 ? Promise.resolve(null) : ExpertBytes.read(checkpoint, layer, expert);
  const client = rig.client(await rig.share({ read }));
  const experts = [
    { layer: 0, expert: 1 },
    { layer: 999, expert: 0 },
    { layer: 0, expert: 2 },
  ];
  const call = client.fetchExperts({ modelFingerprint: checkpoint.fingerprint, experts });
  const kinds: string[] = [];
  for await (const { part } of call as AsyncIterable<weights.ExpertReply>) kinds.push(part?.$case ?? '');
  assert.deepEqual(kinds, ['absent', 'absent', 'head', 'data', 'end']);
});

test('more transfers than the limit are refused; one that is cancelled gives its place back', async () => {
  const { checkpoint } = open();
  const gate = Promise.withResolvers<null>();
  let reads = 0;
  const read = (layer: number, expert: number): Promise<ExpertBytes | null> => {
    reads += 1;
    return reads <= 2 ? gate.promise : ExpertBytes.read(checkpoint, layer, expert);
  };
  const address = await rig.share({ read, maxTransfers: 2 });
  const client = rig.client(address);
  const request = { modelFingerprint: checkpoint.fingerprint, experts: [{ layer: 0, expert: 0 }] };
  const held = [0, 1].map(() => {
    const call = client.fetchExperts(request);
    call.on('error', () => undefined).resume();
    return call;
  });
  await eventually(() => reads === 2, 'both to run');
  assert.equal(await ended(client.fetchExperts(request)), 'overloaded');
  held[0]?.cancel();
  const bytes = await eventually(() => rig.fetch(rig.peers(), [address]).catch(() => null), 'the place of the other');
  assert.equal(bytes.layer, 1);
  assert.ok((await rig.count('guildhall_weight_transfers_total', 'outcome="cancelled"')) === 1);
  gate.resolve(null);
});

test('a reader that takes nothing is cut off', async () => {
  const { checkpoint } = open();
  const data = new Uint8Array(64 << 20);
  const ranges = [{ tensor: 'large', begin: 0, end: data.length }];
  const read = (layer: number, expert: number): Promise<ExpertBytes> =>
    Promise.resolve(new ExpertBytes({ layer, expert }, ranges, data));
  const client = rig.client(await rig.share({ read, readerLimitMs: 100 }));
  const experts = [{ layer: 0, expert: 0 }];
  const call = client.fetchExperts({ modelFingerprint: checkpoint.fingerprint, experts });
  const failed = new Promise((resolve) => call.on('error', resolve));
  call.once('data', () => call.pause());
  const stalled = (): Promise<number> => rig.count('guildhall_weight_transfers_total', 'outcome="stalled"');
  await eventually(async () => (await stalled()) === 1, 'the cut');
  call.resume();
  await failed;
});

test('a description says what is stored, and is given for the right model only', async () => {
  open();
  const address = await rig.share({ stored: () => [{ layer: 1, experts: [2] }] });
  const calls = rig.peers().calls(address, {
    fingerprint: rig.checkpoint.fingerprint,
    signal: new AbortController().signal,
    paced: () => Promise.resolve(),
  });
  const { partial, stored } = await describePeer(calls);
  assert.deepEqual([partial, stored], [true, [{ layer: 1, experts: [2] }]]);
  await assert.rejects(describePeer({ ...calls, fingerprint: 'other' }), (err) => {
    assert.equal(fromGrpc(err).code, 'fingerprint_mismatch');
    return true;
  });
});
