import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadNative } from '@guildhall/native';
import type { Runtime, StatePool, StepBuffers } from '@guildhall/native';
import {
  blockCases,
  buildAttention,
  buildDeltaNet,
  mixerStep,
  rowsBetween,
  singleSequence,
  type BlockCase,
} from './lib/block-vectors.ts';
import { assertClose } from './lib/compare.ts';

const TOLERANCE = 1e-5;
const PAGES = 4;

function newRuntime(): Runtime {
  return new (loadNative().Runtime)({ threads: 2, isa: 'auto', bf16Kernels: 'auto' });
}

/** S and the raw convolution inputs of a slot with one layer. */
async function stateOf(states: StatePool, slot: number): Promise<Float32Array> {
  const { data: bytes } = await states.exportState(slot);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/** Runs a DeltaNet block over [from, to) of a case's rows; returns the hidden rows. */
async function runDeltaNet(
  built: ReturnType<typeof buildDeltaNet>,
  step: StepBuffers,
  delta: BlockCase<'gated_delta_net'>,
  piece: { from: number; to: number; mode: 0 | 1 },
): Promise<Float32Array> {
  step.setBatch(singleSequence(piece.from, piece.to, { mode: piece.mode, slot: 0 }));
  step.setHidden(rowsBetween(delta.file.floats('in.hidden'), delta.spec.hidden_size, piece.from, piece.to));
  await built.block.forward(step, built.states, 'prefill');
  return step.hidden();
}

for (const delta of blockCases('gated_delta_net')) {
  const { spec, file } = delta;
  const tokens = file.shape('in.hidden')[0] as number;
  const hidden = spec.hidden_size;

  test(`${delta.name}: chunked over a whole prompt equals the reference`, async () => {
    const runtime = newRuntime();
    const built = buildDeltaNet(runtime, delta, 1);
    const step = mixerStep(runtime, hidden, tokens);
    const out = await runDeltaNet(built, step, delta, { from: 0, to: tokens, mode: 0 });
    assertClose(out, file.floats('out.hidden'), TOLERANCE, 'hidden rows');
  });

  test(`${delta.name}: state and convolution inputs after each length equal the reference, chunked and recurrent`, async () => {
    const runtime = newRuntime();
    const built = buildDeltaNet(runtime, delta, 1);
    const step = mixerStep(runtime, hidden, tokens);
    for (const mode of [0, 1] as const) {
      for (const length of spec.state_lengths) {
        built.states.reset(0);
        await runDeltaNet(built, step, delta, { from: 0, to: length, mode });
        const expected = [...file.floats(`out.state${length}`), ...file.floats(`out.conv${length}`)];
        const state = await stateOf(built.states, 0);
        assertClose(state, Float32Array.from(expected), TOLERANCE, `mode ${mode}, ${length} tokens`);
      }
    }
  });

  test(`${delta.name}: a prompt cut after 1 to 4 and 64 tokens and carried on recurrently equals the reference`, async () => {
    const runtime = newRuntime();
    const built = buildDeltaNet(runtime, delta, 1);
    const step = mixerStep(runtime, hidden, tokens);
    const expected = file.floats('out.hidden');
    for (const cut of [1, 2, 3, 4, 64]) {
      built.states.reset(0);
      const head = await runDeltaNet(built, step, delta, { from: 0, to: cut, mode: 0 });
      assertClose(head, rowsBetween(expected, hidden, 0, cut), TOLERANCE, `first ${cut}`);
      const tail = await runDeltaNet(built, step, delta, { from: cut, to: tokens, mode: 1 });
      assertClose(tail, rowsBetween(expected, hidden, cut, tokens), TOLERANCE, `after ${cut}`);
    }
  });

  test(`${delta.name}: pieces of 64 tokens and single tokens equal the reference`, async () => {
    const runtime = newRuntime();
    const built = buildDeltaNet(runtime, delta, 1);
    const step = mixerStep(runtime, hidden, tokens);
    const expected = file.floats('out.hidden');
    for (let from = 0; from < tokens; from += 64) {
      const to = Math.min(from + 64, tokens);
      const out = await runDeltaNet(built, step, delta, { from, to, mode: 0 });
      assertClose(out, rowsBetween(expected, hidden, from, to), TOLERANCE, `chunk at ${from}`);
    }
    built.states.reset(0);
    for (let token = 0; token < 70; token++) {
      const out = await runDeltaNet(built, step, delta, { from: token, to: token + 1, mode: 1 });
      assertClose(out, rowsBetween(expected, hidden, token, token + 1), TOLERANCE, `token ${token}`);
    }
  });
}

test('every attention case has positions, and one has axes that differ', () => {
  const cases = blockCases('gated_attention');
  const differs = cases.filter(({ file }) => {
    const positions = file.ints('in.positions');
    const tokens = positions.length / 3;
    return positions.some((p, i) => p !== positions[i % tokens]);
  });
  assert.deepEqual(
    differs.map(({ name }) => name),
    ['attention-vision'],
  );
});

for (const attention of blockCases('gated_attention')) {
  const { spec, file } = attention;
  const tokens = file.shape('in.hidden')[0] as number;
  const hidden = spec.hidden_size;

  test(`${attention.name}: whole, in pieces and token by token equal the reference`, async () => {
    const runtime = newRuntime();
    const { block, kv } = buildAttention(runtime, attention, PAGES);
    const step = mixerStep(runtime, hidden, tokens);
    const input = file.floats('in.hidden');
    const expected = file.floats('out.hidden');
    const positions = file.ints('in.positions');
    const run = async (from: number, to: number): Promise<void> => {
      step.setBatch(singleSequence(from, to, { mode: 1, pages: PAGES, positions }));
      step.setHidden(rowsBetween(input, hidden, from, to));
      await block.forward(step, kv, 'prefill');
      assertClose(step.hidden(), rowsBetween(expected, hidden, from, to), TOLERANCE, `rows ${from} to ${to}`);
    };
    await run(0, tokens);
    for (const [from, to] of [
      [0, 5],
      [5, 64],
      [64, 65],
      [65, tokens],
    ] as const)
      await run(from, to);
    for (let token = 0; token < tokens; token++) await run(token, token + 1);
  });
}
