import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../harness/cluster.ts';

/** Tokens of the long prompt; a sixteenth of the longest context. */
const PROMPT_TOKENS = 16_384;

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({ weights: 'bf16', routers: 2 });
});
after(async () => cluster?.stop());

interface Logprobs {
  tokens: string[];
  token_logprobs: number[];
}

async function complete(prompt: number[], maxTokens: number): Promise<Logprobs> {
  const completion = await cluster.client().completions.create({
    model: 'tiny',
    prompt,
    max_tokens: maxTokens,
    temperature: 0,
    logprobs: 0,
    ...{ ignore_eos: true },
  });
  return completion.choices[0]?.logprobs as unknown as Logprobs;
}

test('a long prompt gives the same bits alone and beside 16 streams, and does not stop them', async () => {
  const prompt = Array.from({ length: PROMPT_TOKENS }, (_, i) => 100 + ((i * 7919) % 2000));
  const alone = await complete(prompt, 32);
  const short = Array.from({ length: 16 }, (_, i) => [200 + i, 300 + i, 400 + i]);
  const shortAlone = await Promise.all(short.map((ids) => complete(ids, 200)));
  const [together, ...shortTogether] = await Promise.all([
    complete(prompt, 32),
    ...short.map((ids) => complete(ids, 200)),
  ]);
  assert.deepEqual(together, alone);
  assert.deepEqual(shortTogether, shortAlone);
});
