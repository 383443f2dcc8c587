import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ModelRunner, type Sequence } from './lib/model-runner.ts';
import { ModelVectors, type GreedyVector } from './lib/model-vectors.ts';
import { MODELS } from './lib/paths.ts';

/** Continuations that leave the reference's at or after a near-tie of its gates or logits. */
const apart: string[] = [];
let numPrompts = 0;

interface Continuation {
  sequence: Sequence;
  tokens: number[];
}

/** Greedy tokens of all prompts, which decode together as one batch after a prefill of their own. */
async function continueGreedily(runner: ModelRunner, prompts: GreedyVector[], steps: number): Promise<number[][]> {
  const running: Continuation[] = [];
  for (const { ids } of prompts) {
    const sequence = runner.begin(ids.length + steps);
    const [last] = await runner.prefill(sequence, ids, Int32Array.of(ids.length - 1));
    running.push({ sequence, tokens: [argmax(last as Float32Array)] });
  }
  for (let i = 1; i < steps; i++) {
    const parts = running.map(({ sequence, tokens }) => {
      return { sequence, tokens: [tokens.at(-1) as number], mode: 1 as const, want: [0] };
    });
    const rows = await runner.step(parts, 'decode');
    for (const [j, [row]] of rows.entries()) running[j]?.tokens.push(argmax(row as Float32Array));
  }
  for (const { sequence } of running) runner.end(sequence);
  return running.map(({ tokens }) => tokens);
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] as number) > (logits[best] as number)) best = i;
  return best;
}

for (const name of MODELS) {
  test(`${name}: greedy continuations of 256 tokens equal the reference`, async (t) => {
    const vectors = new ModelVectors(name);
    if (vectors.skipIfStale(t)) return;
    const prompts = vectors.greedy();
    assert.ok(prompts.length >= 6, 'there are continuations to compare');
    const runner = await ModelRunner.open(name, { weights: 'f32' });
    const steps = prompts[0]?.tokens.length as number;
    const continuations = await continueGreedily(runner, prompts, steps);
    for (const [i, { name: prompt, tokens, firstNearTie }] of prompts.entries()) {
      numPrompts++;
      const ours = continuations[i] as number[];
      const at = ours.findIndex((token, step) => token !== tokens[step]);
      if (at >= 0 && at >= firstNearTie) apart.push(`${name} ${prompt} from step ${at}`);
      else assert.equal(at, -1, `${prompt}: step ${at}: token ${ours[at]} instead of ${tokens[at]}`);
    }
    t.diagnostic(`${prompts.length} prompts of ${steps} tokens`);
  });
}

after(() => {
  assert.ok(apart.length <= numPrompts / 1000, `continuations apart after a near-tie:\n${apart.join('\n')}`);
});
