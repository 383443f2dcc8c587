/** Same bits whatever surrounds a token: batch, chunking, threads, instruction set, lane. Through the addon. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { KvFormat, RuntimeOptions, WeightFormat } from '../ts/index.ts';
import { LittleModel } from './model.ts';
import { assertSameBits, makeRuntime, sizes, supportedIsas } from './support.ts';
import type { SequenceSpec } from './support.ts';

const tokens = (n: number, seed: number) =>
  Array.from({ length: n }, (_, i) => (i * i * 3 + i * 11 + seed * 17) % sizes.tokenizerSize);

const sequences: SequenceSpec[] = [
  { tokens: tokens(150, 1), slot: 0, pages: [3, 4, 5] },
  { tokens: tokens(1, 2), slot: 1, mode: 1, pages: [6] },
  { tokens: tokens(64, 3), slot: 2, pages: [7] },
  { tokens: tokens(33, 4), slot: 3, pages: [8] },
];

function reset(model: LittleModel): void {
  for (let slot = 0; slot < model.states.numSlots; slot++) model.states.reset(slot);
}

const stateOf = async (model: LittleModel, slot: number) => (await model.states.exportState(slot)).data;

/** Weights, kernels of bf16 products, KV pages. */
type Formats = [WeightFormat, RuntimeOptions['bf16Kernels'], KvFormat];

const formats: Formats[] = [
  ['f32', 'auto', 'f32'],
  ['f32', 'bf16-fma', 'fp8'],
  ['bf16', 'bf16-fma', 'bf16'],
  ['fp8', 'bf16-fma', 'bf16'],
  ['q8', 'bf16-fma', 'bf16'],
  ['q4', 'bf16-fma', 'bf16'],
];
if (makeRuntime().info.bf16Kernels === 'bf16-dot') {
  for (const format of ['bf16', 'fp8', 'q8', 'q4'] as const) formats.push([format, 'bf16-dot', 'bf16']);
  formats.push(['bf16', 'bf16-dot', 'fp8']);
}

for (const [format, bf16Kernels, kv] of formats) {
  const name = `${format}, ${bf16Kernels}, kv ${kv}`;

  test(`${name}: a sequence alone has the bits that it has in a batch`, async () => {
    const model = await LittleModel.create(makeRuntime({ threads: 2, bf16Kernels }), format, kv);
    reset(model);
    const together = await model.forward(sequences);
    let row = 0;
    for (const [i, sequence] of sequences.entries()) {
      reset(model);
      const alone = await model.forward([sequence]);
      const rows = together.hidden.slice(row * sizes.hidden, (row + sequence.tokens.length) * sizes.hidden);
      assertSameBits(alone.hidden, rows);
      assertSameBits(alone.logits, together.logits.slice(i * sizes.vocab, (i + 1) * sizes.vocab));
      row += sequence.tokens.length;
    }
  });

  test(`${name}: threads and instruction sets do not change a bit`, async () => {
    let expected: Float32Array | null = null;
    for (const isa of supportedIsas()) {
      if (bf16Kernels === 'bf16-dot' && isa !== 'avx512') continue;
      for (const threads of [1, 2, 5]) {
        const model = await LittleModel.create(makeRuntime({ threads, isa, bf16Kernels }), format, kv);
        const { hidden } = await model.forward(sequences, threads === 2 ? 'decode' : 'prefill');
        expected ??= hidden;
        assertSameBits(hidden, expected, `${isa} on ${threads} threads`);
      }
    }
  });

  test(`${name}: a prompt in pieces, and generated tokens replayed at once`, async () => {
    const model = await LittleModel.create(makeRuntime({ bf16Kernels }), format, kv);
    const pages = [9, 2, 11, 1];
    const prompt = tokens(140, 5);
    const whole = await model.forward([{ tokens: prompt, slot: 0, pages }]);
    await model.forward([{ tokens: prompt.slice(0, 64), slot: 1, pages }]);
    const rest = await model.forward([{ tokens: prompt.slice(64), contextLen: 64, slot: 1, pages }]);
    assertSameBits(rest.hidden, whole.hidden.slice(64 * sizes.hidden));
    assert.ok((await stateOf(model, 1)).equals(await stateOf(model, 0)));

    const generated = tokens(70, 6);
    const steps: number[] = [];
    for (const [i, id] of generated.entries()) {
      const one = await model.forward([{ tokens: [id], contextLen: 140 + i, slot: 0, mode: 1, pages }], 'decode');
      steps.push(...one.hidden);
    }
    const replay = await model.forward([{ tokens: generated, contextLen: 140, slot: 1, mode: 1, pages }]);
    assertSameBits(replay.hidden, Float32Array.from(steps));
    assert.ok((await stateOf(model, 1)).equals(await stateOf(model, 0)));
  });

  test(`${name}: a page and a state moved to another runtime continue with the same bits`, async () => {
    const from = await LittleModel.create(makeRuntime({ bf16Kernels }), format, kv);
    const to = await LittleModel.create(makeRuntime({ threads: 2, bf16Kernels }), format, kv);
    await from.forward([{ tokens: tokens(100, 8), slot: 2, pages: [4, 6] }]);
    const pages = await from.kv.exportPages(Int32Array.of(4, 6), 1);
    await to.kv.importPages(Int32Array.of(10, 11), pages.parts);
    await to.states.importState(5, (await from.states.exportState(2)).data);
    const next: SequenceSpec = { tokens: [12], contextLen: 100, mode: 1 };
    const here = await from.forward([{ ...next, slot: 2, pages: [4, 6] }], 'decode');
    const there = await to.forward([{ ...next, slot: 5, pages: [10, 11] }], 'decode');
    assertSameBits(there.hidden, here.hidden);
    assertSameBits(there.logits, here.logits);
  });
}
