import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { CacheRig, type CacheShape, type RigRouter } from '../harness/cache-rig.ts';
import { type Answer, bitsOf, type RequestFields } from '../harness/router-client.ts';
import { type Ask, type Conversation, Conversations, type Script, scripts } from './lib/conversations.ts';
import { checkpointDir } from './lib/paths.ts';

/** A hybrid, one with grouped projections, and one with full attention everywhere. */
const MODELS = { 'q35-base': 300, 'q3-next': 192, 'q3-moe': 192 } as const;
const PROMPT_LIMIT = 900;
const RUNS = 6;

let rig: CacheRig;
/** Routers without a cache, by model. */
const plain = new Map<string, RigRouter>();

before(async () => {
  rig = await CacheRig.start();
  for (const name of Object.keys(MODELS)) {
    const shape = { numPages: 400, args: ['--prefix-cache', 'off'] };
    plain.set(name, await rig.router(checkpointDir(name), shape));
  }
});
after(async () => rig?.stop());

/** Requests of an ask, one for each choice. */
function requestsOf(ask: Ask, promptIds: number[], salt: string): RequestFields[] {
  const sampling = {
    topLogprobs: ask.topLogprobs,
    ...(ask.sampled ? { temperature: 0.9, topP: 0.95, repetitionPenalty: 1.1, seed: BigInt(ask.seed) } : {}),
  };
  return Array.from({ length: ask.choices }, (_, choice) => ({
    promptIds,
    choice,
    sampling,
    promptLogprobs: ask.promptLogprobs,
    cacheSalt: salt,
    // A router that forgets a request fails the test instead of holding it up.
    deadlineMs: 60_000,
    stop: { maxTokens: ask.maxTokens },
  }));
}

interface Outcome {
  request: RequestFields;
  answer: Answer;
  whole: boolean;
}

/** Sends one request, and leaves it early where the ask says so. */
async function send(router: RigRouter, request: RequestFields, cancelAfter: number | null): Promise<Outcome> {
  const call = router.client.start(request);
  if (cancelAfter === null) return { request, answer: await call.done, whole: true };
  while (call.answer.tokens.length < cancelAfter && call.answer.finished === null) {
    await new Promise((resolve) => setImmediate(resolve));
    if (call.answer.error !== null) break;
  }
  call.cancel();
  await call.done;
  return { request, answer: call.answer, whole: false };
}

/** Plays a script; answers become part of their conversations, as prompts of the next turns. */
async function play(router: RigRouter, script: Script, vocab: number): Promise<Outcome[]> {
  const conversations = new Conversations(vocab, PROMPT_LIMIT);
  const all: Outcome[] = [];
  for (const wave of script) {
    const asked = wave.map((ask) => ({ ask, ...conversations.prompt(ask) }));
    const outcomes = await Promise.all(
      asked.map(async ({ ask, conversation, promptIds }) => {
        const requests = requestsOf(ask, promptIds, conversation.salt);
        return Promise.all(requests.map((request) => send(router, request, ask.cancelAfter)));
      }),
    );
    for (const [i, choices] of outcomes.entries()) {
      const { conversation, promptIds } = asked[i] as { conversation: Conversation; promptIds: number[] };
      conversation.ids = [...promptIds, ...(choices[0]?.answer.tokens ?? []).map(({ id }) => id)];
      all.push(...choices);
    }
  }
  return all;
}

/** Asks the router without a cache the same, and compares every bit. */
async function assertSameBits(model: string, outcomes: readonly Outcome[]): Promise<void> {
  const reference = plain.get(model) as RigRouter;
  const expected = await Promise.all(outcomes.map(({ request }) => reference.client.generate(request)));
  for (const [i, { request, answer, whole }] of outcomes.entries()) {
    const wanted = expected[i] as Answer;
    assert.equal(wanted.finished?.cachedTokens, 0);
    const label = `request ${i} of ${request.promptIds.length} tokens, cached ${answer.started?.cachedTokens}`;
    if (whole) {
      assert.equal(answer.error, null, label);
      assert.deepEqual(bitsOf(answer), bitsOf(wanted), label);
    } else {
      const cut = { ...wanted, tokens: wanted.tokens.slice(0, answer.tokens.length), prompt: answer.prompt };
      assert.deepEqual(bitsOf(answer), bitsOf(cut), label);
    }
  }
}

/** Routers with little of everything. */
const shapes: fc.Arbitrary<{ shape: CacheShape; grid: number; host: boolean; disk: boolean; pageTokens: number }> =
  fc.record({
    shape: fc.record({
      numPages: fc.constantFrom(36, 48, 80),
      maxRunning: fc.constantFrom(2, 4, 6),
      chunkTokens: fc.constantFrom(64, 128, 256),
    }),
    grid: fc.constantFrom(64, 128, 256, 4096),
    host: fc.boolean(),
    disk: fc.boolean(),
    pageTokens: fc.constantFrom(64, 64, 128),
  });

for (const [model, vocab] of Object.entries(MODELS)) {
  test(`${model}: any conversations give the bits of a router without a cache, and nothing leaks`, async () => {
    let hits = 0;
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(scripts(7), shapes, async (script, { shape, grid, host, disk, pageTokens }) => {
        runs += 1;
        const tiers = [
          ...['--kv-host-memory', host ? '2MiB' : '0'],
          ...(disk ? ['--kv-disk', `${rig.dir}/${model}-${runs}`, '--kv-disk-limit', '4MiB'] : []),
        ];
        const args = ['--snapshot-grid', String(grid), '--page-tokens', String(pageTokens), ...tiers];
        const router = await rig.router(checkpointDir(model), { ...shape, args });
        try {
          const outcomes = await Promise.race([play(router, script, vocab), rig.failed]);
          await router.idle();
          await assertSameBits(model, outcomes);
          hits += outcomes.filter(({ answer }) => (answer.started?.cachedTokens ?? 0) > 0).length;
        } finally {
          await router.stop();
        }
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
    assert.ok(hits >= RUNS, `${hits} of the requests were hits`);
  });
}
