/** Sequences that begin from states which others left behind: the same bits as one that was never cut. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LittleModel } from './model.ts';
import { assertSameBits, makeRuntime, sizes, supportedIsas } from './support.ts';
import type { SequenceSpec } from './support.ts';

const tokens = (n: number, seed: number) =>
  Array.from({ length: n }, (_, i) => (i * i * 3 + i * 11 + seed * 17) % sizes.tokenizerSize);

const PROMPT = tokens(150, 1);
/** Two prompts and a generated token, each from nothing. */
const PLAIN: SequenceSpec[] = [
  { tokens: PROMPT, slot: 0, init: -2, pages: [3, 4, 5] },
  { tokens: [7], slot: 1, init: -2, mode: 1, pages: [6] },
  { tokens: tokens(70, 3), slot: 2, init: -2, pages: [7, 8] },
];
const KEPT = [
  { slot: 3, rows: 128 },
  { slot: 4, rows: 1 },
  { slot: 5, rows: 64 },
];

const noise = (bytes: number) => Buffer.alloc(bytes, 0x7f);

for (const isa of supportedIsas()) {
  test(`${isa}: a fork of a prompt goes on with its bits, in company too`, async () => {
    const model = await LittleModel.create(makeRuntime({ threads: 2, isa }), 'f32');
    const { states } = model;
    const stateOf = async (slot: number) => (await states.exportState(slot)).data;
    for (let slot = 0; slot < states.numSlots; slot++) await states.importState(slot, noise(states.slotBytes));
    const plain = await model.forward(PLAIN);
    const ends = await Promise.all([0, 1, 2].map(stateOf));

    const keeping = await model.forward(PLAIN.map((spec, i) => ({ ...spec, snapshot: KEPT[i]! })));
    assertSameBits(keeping.hidden, plain.hidden, 'hidden rows beside snapshots');
    assertSameBits(keeping.logits, plain.logits, 'logits beside snapshots');
    for (const [slot, end] of ends.entries()) assert.ok((await stateOf(slot)).equals(end), `slot ${slot}`);

    // Slot 4 holds what slot 1 holds: its only row was the last one.
    const layer = states.slotBytes / 2;
    assert.ok((await stateOf(4)).subarray(layer).equals((await stateOf(1)).subarray(layer)));

    const fork = { tokens: PROMPT.slice(128), contextLen: 128, slot: 1, init: 3, pages: [3, 4, 9] };
    const alone = await model.forward([fork]);
    assertSameBits(alone.logits, plain.logits.slice(0, sizes.vocab), 'logits of the fork');
    assertSameBits(alone.hidden, plain.hidden.slice(128 * sizes.hidden, 150 * sizes.hidden), 'hidden rows of the fork');
    assert.ok((await stateOf(1)).subarray(layer).equals(ends[0]!.subarray(layer)), 'state of the fork');

    const other = { tokens: tokens(70, 3).slice(64), contextLen: 64, slot: 2, init: 5, pages: [7, 10] };
    const again = { ...fork, slot: 0, pages: [3, 4, 11] };
    const together = await model.forward([other, fork, again]);
    for (const [row, of] of [2, 0, 0].entries()) {
      const expected = plain.logits.slice(of * sizes.vocab, (of + 1) * sizes.vocab);
      assertSameBits(together.logits.slice(row * sizes.vocab, (row + 1) * sizes.vocab), expected, `fork ${row}`);
    }
    for (const [slot, of] of [0, 0, 2].entries()) {
      assert.ok((await stateOf(slot)).subarray(layer).equals(ends[of]!.subarray(layer)), `state of slot ${slot}`);
    }
  });
}

test('snapshots of parts of a prompt and of generated tokens', async () => {
  const model = await LittleModel.create(makeRuntime({ threads: 2 }), 'f32');
  const { states } = model;
  const layer = states.slotBytes / 2;
  const stateOf = async (slot: number) => (await states.exportState(slot)).data.subarray(layer);
  const pages = [3, 4, 5];
  await model.forward([{ tokens: PROMPT.slice(0, 64), slot: 0, init: -2, pages }]);
  const part = { tokens: PROMPT.slice(64), contextLen: 64, slot: 0, pages };
  const company = { tokens: tokens(90, 5), slot: 2, init: -2, pages: [7, 8] };
  const rest = await model.forward([company, { ...part, snapshot: { slot: 3, rows: 64 } }]);
  const expected = rest.logits.slice(sizes.vocab);
  const end = await stateOf(0);
  const fork = await model.forward([
    { tokens: PROMPT.slice(128), contextLen: 128, slot: 1, init: 3, pages: [3, 4, 9] },
  ]);
  assertSameBits(fork.logits, expected);
  assert.ok((await stateOf(1)).equals(end));

  // Generated tokens, kept after the second of three and gone on from there.
  const generated = { tokens: [5, 6, 7], contextLen: 150, mode: 1 as const, slot: 0, pages };
  const three = await model.forward([{ ...generated, snapshot: { slot: 4, rows: 2 } }], 'decode');
  const last = await model.forward(
    [{ tokens: [7], contextLen: 152, mode: 1, slot: 1, init: 4, pages: [3, 4, 5] }],
    'decode',
  );
  assertSameBits(last.logits, three.logits);
  assert.ok((await stateOf(1)).equals(await stateOf(0)));
});
