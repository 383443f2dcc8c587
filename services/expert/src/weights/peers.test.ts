import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fail, type GuildhallError, toGrpc } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { Checkpoint, CheckpointFiles, ExpertBytes, sha256Hex } from '@guildhall/model/weights';
import type { weights } from '@guildhall/proto';
import { MODEL } from '../testing/worker-bench.ts';
import { crc32c, WeightsRig } from '../testing/weights-rig.ts';
import { partsOf } from './wire.ts';

const ADDRESS = { layer: 1, expert: 2 };
type Part = weights.ExpertReply['part'];
type Call = Parameters<weights.WeightsServer['fetchExperts']>[0];

let rig: WeightsRig;
let good: string;
/** What a sound peer sends for the expert. */
let sound: weights.ExpertReply[];

beforeEach(async () => {
  rig = new WeightsRig(MODEL);
  good = await rig.share();
  sound = await repliesFor((await ExpertBytes.read(rig.checkpoint, ADDRESS.layer, ADDRESS.expert)).data);
});

afterEach(() => rig.stop());

const reply = (part: Part): weights.ExpertReply => ({ part });
const head = (size: number, expert = ADDRESS): weights.ExpertReply =>
  reply({ $case: 'head', value: { expert, size: BigInt(size) } });

/** Head, parts of 4 KiB and end, with the right checksums. */
async function repliesFor(data: Uint8Array): Promise<weights.ExpertReply[]> {
  const parts = partsOf(data, 4096);
  const checksums = await crc32c(parts);
  const sha256 = Buffer.from(await sha256Hex(data), 'hex');
  return [
    head(data.length),
    ...parts.map((part, i) => reply({ $case: 'data', value: { data: Buffer.from(part), crc32c: checksums[i] ?? 0 } })),
    reply({ $case: 'end', value: { sha256 } }),
  ];
}

/** A peer that answers as it likes. */
function fake(answer: (call: Call) => void): Promise<string> {
  const unused = (): never => {
    throw fail('internal', 'not asked for');
  };
  return rig.serve({ describe: unused, fetchFile: unused, fetchExperts: answer });
}

function sending(replies: readonly weights.ExpertReply[]): Promise<string> {
  return fake((call) => {
    for (const message of replies) call.write(message);
    call.end();
  });
}

const refusing = (err: GuildhallError): Promise<string> => fake((call) => void call.emit('error', toGrpc(err)));

/** The sound answer with its `at`th data part changed. */
function changed(at: number, change: (part: weights.FilePart) => weights.FilePart): weights.ExpertReply[] {
  return sound.map((message, i) =>
    i === at + 1 && message.part?.$case === 'data'
      ? reply({ $case: 'data', value: change(message.part.value) })
      : message,
  );
}

function flipped(part: weights.FilePart): weights.FilePart {
  const data = Buffer.from(part.data);
  data[17] = (data[17] ?? 0) ^ 4;
  return { ...part, data };
}

const without = (at: number): weights.ExpertReply[] => sound.filter((_, i) => i !== at);

const FAULTS: [what: string, fault: string, peer: () => Promise<string>][] = [
  ['a part with a flipped bit', 'corrupt', () => sending(changed(1, flipped))],
  [
    'a part with a wrong CRC-32C',
    'corrupt',
    () => sending(changed(1, (part) => ({ ...part, crc32c: (part.crc32c ^ 1) >>> 0 }))),
  ],
  ['a part that is missing', 'corrupt', () => sending(without(2))],
  ['parts in another order', 'corrupt', () => sending([1, 3, 2].reduce(swapInto, [...sound]))],
  [
    'a wrong SHA-256',
    'corrupt',
    () => sending([...sound.slice(0, -1), reply({ $case: 'end', value: { sha256: Buffer.alloc(32) } })]),
  ],
  ['no end', 'corrupt', () => sending(sound.slice(0, -1))],
  ['an end at once', 'corrupt', () => sending([])],
  ['data before the head', 'corrupt', () => sending(without(0))],
  ['two heads', 'corrupt', () => sending([...sound.slice(0, 1), ...sound])],
  ['another size', 'corrupt', () => sending([head(4096)])],
  ['a size that is no memory', 'corrupt', () => sending([head(2 ** 52)])],
  ['another expert', 'corrupt', () => sending([head(1, { layer: 1, expert: 3 })])],
  ['more than the head promised', 'corrupt', () => sending([...sound.slice(0, -1), ...sound.slice(1)])],
  ['an empty part', 'corrupt', () => sending(changed(0, (part) => ({ ...part, data: Buffer.alloc(0) })))],
  ['a message without a part', 'corrupt', () => sending([reply(undefined)])],
  [
    'a holder that has it not',
    'absent',
    () => sending([reply({ $case: 'absent', value: { expert: ADDRESS, reason: 'gone' } })]),
  ],
  ['another checkpoint', 'refused', () => refusing(fail('fingerprint_mismatch', 'this worker has another'))],
  ['too many transfers', 'busy', () => refusing(fail('overloaded', 'later'))],
  ['an address where nobody is', 'gone', () => Promise.resolve('127.0.0.1:1')],
];

/** Swaps neighbouring replies, for a wrong order. */
function swapInto(list: weights.ExpertReply[], at: number): weights.ExpertReply[] {
  return list.map((message, i) => (i === at ? list[at + 1] : i === at + 1 ? list[at] : message) ?? message);
}

for (const [what, fault, peer] of FAULTS) {
  test(`${what}: the next peer is asked`, async () => {
    const bad = await peer();
    const peers = rig.peers();
    const bytes = await rig.fetch(peers, [bad, good]);
    assert.ok(
      (await ExpertBytes.read(rig.checkpoint, ADDRESS.layer, ADDRESS.expert)).data.every((b, i) => b === bytes.data[i]),
    );
    await assert.rejects(rig.fetch(peers, [bad]), { code: 'peer_unavailable', details: { fault } });
  });
}

test('what a peer sends of another model with right checksums is found out by the samples of the fingerprint', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-outlined-'));
  try {
    const files = new CheckpointFiles(rig.checkpoint);
    for (const { name } of await files.list()) writeFileSync(join(dir, name), await files.read(name));
    const outlined = Checkpoint.open(dir);
    assert.equal(outlined.fingerprint, rig.checkpoint.fingerprint);
    let found = 0;
    for (let expert = 0; expert < outlined.config.moe.numExperts; expert++) {
      const bytes = await ExpertBytes.read(rig.checkpoint, 0, expert);
      bytes.checkAgainst(outlined);
      const other = new ExpertBytes(
        { layer: 0, expert },
        bytes.ranges,
        bytes.data.map((byte) => byte ^ 1),
      );
      try {
        other.checkAgainst(outlined);
      } catch (err) {
        assert.equal((err as GuildhallError).code, 'checkpoint_invalid');
        found += 1;
      }
    }
    assert.ok(found > 0, 'samples lie in some of the experts');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('a peer that stalls is given up for the next, and hears of it', async () => {
  let cancelled = 0;
  const slow = await fake((call) => {
    call.on('cancelled', () => (cancelled += 1));
    for (const message of sound.slice(0, 2)) call.write(message);
  });
  const bytes = await rig.fetch(rig.peers(200), [slow, good]);
  assert.equal(bytes.expert, ADDRESS.expert);
  await eventually(() => cancelled === 1, 'the cancellation');
  await assert.rejects(rig.fetch(rig.peers(200), [slow]), { details: { fault: 'stalled' } });
});

test('a peer that dies in the middle is replaced', async () => {
  const dying = await fake((call) => {
    for (const message of sound.slice(0, 2)) call.write(message, () => call.destroy());
  });
  const bytes = await rig.fetch(rig.peers(2000), [dying, good]);
  assert.equal(bytes.data.length, (await ExpertBytes.read(rig.checkpoint, 1, 2)).data.length);
});

test('a peer with a fault is asked after those without, until it did well', async () => {
  const asked: string[] = [];
  const counting = (name: string, replies: () => weights.ExpertReply[]): Promise<string> =>
    fake((call) => {
      asked.push(name);
      for (const message of replies()) call.write(message);
      call.end();
    });
  let broken = true;
  const first = await counting('first', () => (broken ? [] : sound));
  const second = await counting('second', () => sound);
  const peers = rig.peers();
  await rig.fetch(peers, [first, second]);
  await rig.fetch(peers, [first, second]);
  assert.deepEqual(asked, ['first', 'second', 'second']);
  broken = false;
  await rig.fetch(peers, [first]);
  await rig.fetch(peers, [first, second]);
  assert.deepEqual(asked, ['first', 'second', 'second', 'first', 'first']);
});

test('a transfer that is no longer wanted ends at both sides, and nobody is blamed', async () => {
  let cancelled = 0;
  const slow = await fake((call) => {
    call.on('cancelled', () => (cancelled += 1));
    call.write(sound[0] ?? reply(undefined));
  });
  const abort = new AbortController();
  const peers = rig.peers();
  const fetching = rig.fetch(peers, [slow, good], { signal: abort.signal });
  const rejected = assert.rejects(fetching, { code: 'cancelled' });
  await new Promise((resolve) => setImmediate(resolve));
  abort.abort();
  await rejected;
  await assert.rejects(rig.fetch(peers, [slow, good], { signal: abort.signal }), { code: 'cancelled' });
  assert.ok(cancelled <= 2);
});

test('a peer that has too much to do is asked again while nobody else can give the expert', async () => {
  let calls = 0;
  const busy = await fake((call) => {
    calls += 1;
    if (calls < 3) return void call.emit('error', toGrpc(fail('overloaded', 'later')));
    for (const message of sound) call.write(message);
    call.end();
  });
  const broken = await sending([]);
  const bytes = await rig.fetch(rig.peers(20_000, 30_000), [broken, busy]);
  assert.equal(bytes.expert, ADDRESS.expert);
  assert.equal(calls, 3);
});
