import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertSameResult, FAMILIES, runAlone, type PromptResult } from './lib/bits.ts';
import { assertSameBits } from './lib/compare.ts';
import { ModelRunner, type Sequence, type StepPart } from './lib/model-runner.ts';
import { MODELS, MODELS_WITHOUT_STATES } from './lib/paths.ts';
import { randomIds, randomNumbers, shuffled } from './lib/random.ts';

const LENGTHS = [1, 2, 5, 16, 63, 64, 65, 129];

/** The last positions of a prompt. */
function lastPositions(length: number): Int32Array {
  return Int32Array.from({ length: Math.min(length, 4) }, (_, i) => length - Math.min(length, 4) + i);
}

async function open(name: string, family: (typeof FAMILIES)[number]): Promise<ModelRunner> {
  return ModelRunner.open(name, { weights: family.weights, bf16Kernels: family.bf16Kernels });
}

for (const name of MODELS) {
  for (const family of FAMILIES) {
    test(`${name}, ${family.name}: prompts give the same bits alone and together, beside decoding ones`, async () => {
      const runner = await open(name, family);
      const vocab = runner.model.vocabularySize;
      const prompts = LENGTHS.map((length, i) => randomIds(i + 1, length, vocab));
      const alone: PromptResult[] = [];
      for (const ids of prompts) alone.push(await runAlone(runner, ids, lastPositions(ids.length)));

      // Two sequences that are already decoding take part in the same step.
      const decoding = [await beginDecoding(runner, 90, 3, vocab), await beginDecoding(runner, 91, 70, vocab)];
      for (const seed of [1, 2]) {
        const order = shuffled([...prompts.keys()], randomNumbers(seed));
        const sequences = order.map((i) => runner.begin((prompts[i] as Int32Array).length));
        const parts: StepPart[] = order.map((i, at) => {
          const ids = prompts[i] as Int32Array;
          return { sequence: sequences[at] as Sequence, tokens: ids, mode: 0, want: [...lastPositions(ids.length)] };
        });
        const extra: StepPart[] = decoding.map((sequence) => ({ sequence, tokens: [seed], mode: 1, want: [0] }));
        const rows = await runner.step([
          ...parts.slice(0, 3),
          extra[0] as StepPart,
          ...parts.slice(3),
          extra[1] as StepPart,
        ]);
        const own = rows.filter((_, at) => at !== 3 && at !== rows.length - 1);
        for (const [at, i] of order.entries()) {
          const sequence = sequences[at] as Sequence;
          const result = { logits: own[at] as Float32Array[], state: await runner.stateBytes(sequence) };
          assertSameResult(result, alone[i] as PromptResult, `prompt of ${prompts[i]?.length} in batch ${seed}`);
          runner.end(sequence);
        }
      }
    });

    test(`${name}, ${family.name}: whole and chunked prefill give the same bits at every cut`, async () => {
      const runner = await open(name, family);
      const ids = randomIds(7, 333, runner.model.vocabularySize);
      const positions = Int32Array.from([0, 63, 64, 127, 128, 200, 255, 256, 331, 332]);
      const whole = await runAlone(runner, ids, positions);
      for (const cuts of [[64], [128], [192], [256], [320], [64, 128, 192, 256, 320], [64, 256]]) {
        assertSameResult(await runAlone(runner, ids, positions, cuts), whole, `cut at ${cuts.join(', ')}`);
      }
    });

    test(`${name}, ${family.name}: pages in any order, either lane`, async () => {
      const runner = await open(name, family);
      const ids = randomIds(8, 200, runner.model.vocabularySize);
      const results: Float32Array[][] = [];
      for (const [pages, lane] of [
        [[0, 1, 2, 3], 'prefill'],
        [[9, 4, 120, 1], 'decode'],
      ] as const) {
        const sequence = runner.begin(ids.length);
        const taken = sequence.pages;
        sequence.pages = [...pages];
        const [rows] = await runner.step([{ sequence, tokens: ids, mode: 0, want: [0, 64, 199] }], lane);
        results.push(rows as Float32Array[]);
        sequence.pages = taken;
        runner.end(sequence);
      }
      const [natural, permuted] = results as [Float32Array[], Float32Array[]];
      for (const [i, row] of natural.entries()) assertSameBits(permuted[i] as Float32Array, row, `row ${i}`);
    });

    test(`${name}, ${family.name}: replaying generated tokens in one call gives decode's bits`, async () => {
      const runner = await open(name, family);
      const vocab = runner.model.vocabularySize;
      const prompt = randomIds(11, 61, vocab);
      const generated = randomIds(12, 75, vocab);
      const stepwise = await decodeOneByOne(runner, prompt, generated);
      for (const pieces of [[75], [1, 74], [2, 3, 4, 66]]) {
        const sequence = runner.begin(prompt.length + generated.length);
        await runner.prefill(sequence, prompt, Int32Array.of());
        const rows: Float32Array[] = [];
        let from = 0;
        for (const count of pieces) {
          const tokens = generated.slice(from, from + count);
          const want = [...tokens.keys()].filter((i) => stepwise.kept.includes(from + i));
          const [part] = await runner.step([{ sequence, tokens, mode: 1, want }]);
          rows.push(...(part as Float32Array[]));
          from += count;
        }
        const result = { logits: rows, state: await runner.stateBytes(sequence) };
        assertSameResult(result, stepwise, `replay in pieces of ${pieces.join(', ')}`);
        runner.end(sequence);
      }
    });
  }
}

for (const name of MODELS_WITHOUT_STATES) {
  for (const family of FAMILIES) {
    test(`${name}, ${family.name}: without recurrent layers prefill gives decode's bits`, async () => {
      const runner = await open(name, family);
      const vocab = runner.model.vocabularySize;
      const prompt = randomIds(13, 61, vocab);
      const generated = randomIds(14, 75, vocab);
      const stepwise = await decodeOneByOne(runner, prompt, generated);
      const all = Int32Array.from([...prompt, ...generated]);
      const positions = Int32Array.from(stepwise.kept, (i) => prompt.length + i);
      assertSameResult(await runAlone(runner, all, positions), stepwise, 'all of it as a prompt');
    });
  }
}

async function beginDecoding(runner: ModelRunner, seed: number, length: number, vocab: number): Promise<Sequence> {
  const sequence = runner.begin(length + 8);
  await runner.prefill(sequence, randomIds(seed, length, vocab), Int32Array.of());
  return sequence;
}

/** Each generated token in a step of its own; logits at some of them. */
async function decodeOneByOne(
  runner: ModelRunner,
  prompt: Int32Array,
  generated: Int32Array,
): Promise<PromptResult & { kept: number[] }> {
  const kept = [0, 1, 2, 3, 4, 5, 30, 66, 67, 68, 74];
  const sequence = runner.begin(prompt.length + generated.length);
  await runner.prefill(sequence, prompt, Int32Array.of());
  const logits: Float32Array[] = [];
  for (const [i, token] of generated.entries()) {
    const [rows] = await runner.step(
      [{ sequence, tokens: [token], mode: 1, want: kept.includes(i) ? [0] : [] }],
      'decode',
    );
    logits.push(...(rows as Float32Array[]));
  }
  assert.equal(logits.length, kept.length);
  const state = await runner.stateBytes(sequence);
  runner.end(sequence);
  return { logits, state, kept };
}
