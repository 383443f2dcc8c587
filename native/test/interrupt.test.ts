/** Prefill calls that stop for decode or for want of time, in the middle of programs and blocks: the same bits, and cancellation. */

import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'node:test';

import { isNativeError, type Runtime } from '../ts/index.ts';
import { LittleModel, PROGRAM_LAYERS, programParts } from './model.ts';
import { assertSameBits, batchOf, makeKv, makeRuntime, makeStates, makeStep, native, sizes } from './support.ts';

const PROMPT = Array.from({ length: 300 }, (_, i) => (i * 31) % sizes.tokenizerSize);
const DECODE_STEPS = 30;

/** A program with a prompt and a decoding sequence on pages and states of their own. */
class Pair {
  readonly runtime: Runtime;
  readonly #program;
  readonly #pools;
  readonly #prompt;
  readonly #decode;
  #position = 0;

  private constructor(runtime: Runtime, parts: Awaited<ReturnType<typeof programParts>>) {
    this.runtime = runtime;
    this.#program = new native.ForwardProgram(runtime, parts);
    this.#pools = { states: makeStates(runtime), kv: makeKv(runtime) };
    this.#prompt = makeStep(runtime);
    this.#decode = makeStep(runtime);
  }

  static async make(threads: number): Promise<Pair> {
    const runtime = makeRuntime({ threads });
    return new Pair(runtime, await programParts(runtime));
  }

  /** Starts the prompt; resolves with the last row's logits. */
  async prefill(): Promise<Float32Array> {
    this.#pools.states.reset(0);
    this.#prompt.setBatch(batchOf([{ tokens: PROMPT, slot: 0, pages: [0, 1, 2, 3, 4] }]));
    const last = Int32Array.of(PROMPT.length - 1);
    await this.#program.forward(this.#prompt, this.#pools, 0, PROGRAM_LAYERS, last, 'prefill');
    return this.#prompt.logits.slice(0, sizes.vocab);
  }

  cancel(): void {
    this.#prompt.cancel();
  }

  restart(): void {
    this.#pools.states.reset(1);
    this.#position = 0;
  }

  async decode(): Promise<Float32Array> {
    const tokens = [(7 * this.#position) % sizes.tokenizerSize];
    this.#decode.setBatch(batchOf([{ tokens, contextLen: this.#position, mode: 1, slot: 1, pages: [5] }]));
    this.#position += 1;
    await this.#program.forward(this.#decode, this.#pools, 0, PROGRAM_LAYERS, Int32Array.of(0), 'decode');
    return this.#decode.logits.slice(0, sizes.vocab);
  }

  /** Resolves once prefill stands still in the middle of a call. */
  async stopped(): Promise<void> {
    while (this.runtime.prefillPauses().count === 0) await nextTurn();
  }
}

for (const threads of [1, 2, 3]) {
  test(`decode in the middle of prefill changes no bit of either: ${threads} threads`, async () => {
    const pair = await Pair.make(threads);
    const prompt = await pair.prefill();
    const alone: Float32Array[] = [];
    for (let i = 0; i < DECODE_STEPS; i++) alone.push(await pair.decode());
    assert.deepEqual(pair.runtime.prefillPauses(), { count: 0, decodeJobs: 0, ms: 0 });

    pair.restart();
    pair.runtime.limitPrefill(0, false);
    const pending = pair.prefill();
    await pair.stopped();
    for (const expected of alone) {
      assertSameBits(await pair.decode(), expected, 'decode');
      // Enough for a few chunks: prefill stops at another place each time.
      pair.runtime.limitPrefill(0.02, false);
    }
    const { count, decodeJobs, ms } = pair.runtime.prefillPauses();
    assert.ok(decodeJobs >= 1 && count >= 1 && ms > 0, `${decodeJobs} decode jobs in ${count} pauses`);
    pair.runtime.limitPrefill(Infinity, false);
    assertSameBits(await pending, prompt, 'prefill');
  });
}

test('a cancelled prefill call ends where it stands, and its buffers serve the next one', async () => {
  const pair = await Pair.make(2);
  const expected = await pair.prefill();
  pair.runtime.limitPrefill(0, false);
  const pending = pair.prefill();
  await pair.stopped();
  pair.cancel();
  await assert.rejects(pending, (error: unknown) => {
    return isNativeError(error) && error.code === 'NATIVE_FAILURE' && error.message === 'the step was cancelled';
  });
  pair.runtime.limitPrefill(Infinity, false);
  assertSameBits(await pair.prefill(), expected, 'after the cancelled one');
});

test('prefill by single blocks and messages stops anywhere and gives the same bits', async () => {
  const runtime = makeRuntime({ threads: 2 });
  const model = await LittleModel.create(runtime, 'f32');
  const sequences = [{ tokens: PROMPT, slot: 0, pages: [0, 1, 2, 3, 4] }];
  const { logits } = await model.forward(sequences);
  model.states.reset(0);
  runtime.limitPrefill(0, false);
  let done = false;
  const pending = model.forward(sequences).finally(() => (done = true));
  while (!done) {
    runtime.limitPrefill(0.01, false);
    await nextTurn();
  }
  assertSameBits((await pending).logits, logits);
  assert.ok(runtime.prefillPauses().count >= 1);
});

test('the time of prefill is checked', () => {
  const runtime = makeRuntime();
  const limit = (ms: unknown, alternate: unknown): void => runtime.limitPrefill(ms as number, alternate as boolean);
  for (const [ms, alternate, path] of [
    [-1, false, 'ms'],
    [NaN, false, 'ms'],
    ['1', false, 'ms'],
    [1, 0, 'alternate'],
  ]) {
    assert.throws(
      () => limit(ms, alternate),
      (error: unknown) => isNativeError(error) && error.message.startsWith(`${String(path)}: `),
    );
  }
  limit(Infinity, false);
});
