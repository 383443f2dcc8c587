import type { WeightFormat } from '@guildhall/native';
import { ModelRunner, type StepPart } from '../vectors/lib/model-runner.ts';
import { argmax, DivergenceMeter, type Divergence } from './divergence.ts';
import type { EvalTexts } from './texts.ts';

/** What one format was found to do to the tiny model. */
export interface FormatQuality {
  weights: WeightFormat;
  base: WeightFormat;
  /** Over all tokens of prompts and answers. */
  all: Divergence;
  /** Over the tokens of the answers only. */
  answers: Divergence;
  /** Share of rows to which both give the same greedy answer, token for token. */
  sameAnswers: number;
  rows: number;
}

/** Tokens of one step and of one text at most; the runner has room for 640. */
const STEP_TOKENS = 640;
const ANSWER_TOKENS = 96;
const WIDTH = 16;

interface Compared {
  runner: ModelRunner;
  all: DivergenceMeter;
  answers: DivergenceMeter;
  same: number;
}

/**
 * Compares formats with a base format on the tiny model: the base answers every prompt greedily, and every format
 * gives its distributions along prompt and answer of the base; then each answers by itself.
 * @param onProgress told of the rows done.
 */
export async function compareFormats(
  texts: EvalTexts,
  base: WeightFormat,
  formats: readonly WeightFormat[],
  options: { threads?: number; onProgress?: (done: number, total: number) => void } = {},
): Promise<FormatQuality[]> {
  const { threads = 2, onProgress } = options;
  const open = (weights: WeightFormat): Promise<ModelRunner> => ModelRunner.open('tiny', { weights, threads });
  const reference = await open(base);
  const compared = new Map<WeightFormat, Compared>();
  for (const weights of formats) {
    const meters = { all: new DivergenceMeter(), answers: new DivergenceMeter() };
    compared.set(weights, { runner: await open(weights), ...meters, same: 0 });
  }
  for (let first = 0; first < texts.prompts.length; first += WIDTH) {
    const prompts = texts.prompts.slice(first, first + WIDTH);
    await compareSome(reference, [...compared.values()], prompts, texts.ends);
    onProgress?.(Math.min(first + WIDTH, texts.prompts.length), texts.prompts.length);
  }
  const rows = texts.prompts.length;
  return [...compared].map(([weights, { all, answers, same }]) => {
    return { weights, base, all: all.result(), answers: answers.result(), sameAnswers: same / rows, rows };
  });
}

async function compareSome(
  reference: ModelRunner,
  compared: readonly Compared[],
  prompts: readonly Int32Array[],
  ends: ReadonlySet<number>,
): Promise<void> {
  const answers = await answerAll(reference, prompts, ends);
  const others = new Map<Compared, number[][]>();
  for (const one of compared) others.set(one, await answerAll(one.runner, prompts, ends));
  for (const [i, prompt] of prompts.entries()) {
    const answer = answers[i] as number[];
    const ids = Int32Array.from([...prompt, ...answer]).slice(0, STEP_TOKENS);
    const wanted = await logitsOf(reference, ids);
    for (const one of compared) {
      for (const [position, logits] of (await logitsOf(one.runner, ids)).entries()) {
        one.all.add(wanted[position] as Float32Array, logits);
        if (position >= prompt.length - 1) one.answers.add(wanted[position] as Float32Array, logits);
      }
      if (String(others.get(one)?.[i]) === String(answer)) one.same += 1;
    }
  }
}

/** Logits after every token of a text. */
async function logitsOf(runner: ModelRunner, ids: Int32Array): Promise<Float32Array[]> {
  const sequence = runner.begin(ids.length);
  const positions = Int32Array.from(ids.keys());
  const logits = await runner.prefill(sequence, ids, positions);
  runner.end(sequence);
  return logits;
}

/** Greedy answers, all prompts side by side. */
async function answerAll(
  runner: ModelRunner,
  prompts: readonly Int32Array[],
  ends: ReadonlySet<number>,
): Promise<number[][]> {
  const answers = prompts.map((): number[] => []);
  const sequences = prompts.map((prompt) => runner.begin(prompt.length + ANSWER_TOKENS));
  const live = new Set(prompts.keys());
  const take = (index: number, logits: Float32Array): void => {
    const token = argmax(logits);
    answers[index]?.push(token);
    if (ends.has(token) || answers[index]?.length === ANSWER_TOKENS) live.delete(index);
  };
  for (const [i, prompt] of prompts.entries()) {
    const [logits] = await runner.prefill(
      sequences[i] as StepPart['sequence'],
      prompt,
      Int32Array.of(prompt.length - 1),
    );
    take(i, logits as Float32Array);
  }
  while (live.size > 0) {
    const indexes = [...live];
    const parts = indexes.map((i): StepPart => {
      return {
        sequence: sequences[i] as StepPart['sequence'],
        tokens: [answers[i]?.at(-1) as number],
        mode: 1,
        want: [0],
      };
    });
    for (const [part, logits] of (await runner.step(parts, 'decode')).entries()) {
      take(indexes[part] as number, logits[0] as Float32Array);
    }
  }
  for (const sequence of sequences) runner.end(sequence);
  return answers;
}
