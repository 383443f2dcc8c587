import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '@guildhall/common/testing';
import { router } from '@guildhall/proto';
import { bitsOf, saidOf, type Generated, promptOf, type RigRequest, RouterRig } from './testing/router-rig.ts';

const NUM_LAYERS = 8;
const TOP_K = 2;
let rig: RouterRig;

before(async () => {
  rig = await RouterRig.start({ routerArgs: ['--max-running', '40', '--chunk-tokens', '256'] });
});

after(async () => {
  await rig.end();
  assert.deepEqual(rig.fatal, []);
});

/** Draws with everything that has a state: penalties, bias, a seed. */
const SAMPLED: Partial<router.SamplingParams> = {
  temperature: 0.9,
  topK: 50,
  topP: 0.95,
  minP: 0.01,
  repetitionPenalty: 1.1,
  presencePenalty: 0.3,
  frequencyPenalty: 0.2,
  seed: 12345678901234567n,
  logitBias: new Map([[500, 2]]),
};

function assertWhole(answer: Generated, promptTokens: number, completionTokens: number): void {
  assert.deepEqual(
    answer.tokens.map(({ index }) => index),
    Array.from({ length: completionTokens }, (_, i) => i),
  );
  assert.equal(answer.finished?.promptTokens, promptTokens);
  assert.equal(answer.finished?.completionTokens, completionTokens);
  const rows = [...(answer.finished?.expertRows.values() ?? [])].reduce((sum, count) => sum + Number(count), 0);
  const computed = promptTokens - (answer.finished?.cachedTokens ?? 0) + completionTokens - 1;
  assert.equal(rows, computed * NUM_LAYERS * TOP_K);
}

test('an answer comes back, with what it cost', async () => {
  const answer = await rig.generate({ promptIds: promptOf(200, 3) });
  assertWhole(answer, 200, 16);
  assert.equal(answer.started?.routerId, 'router-1');
  assert.equal(answer.started?.epoch, 1n);
  assert.equal(answer.finished?.reason, router.FinishReason.FINISH_REASON_LENGTH);
  assert.equal(answer.finished?.expertRows.size, 2);
  await rig.idle();
});

test('GetInfo and /ready say that the router can serve', async () => {
  const info = await rig.info();
  assert.equal(info.ready, true);
  assert.deepEqual(info.servedModels, ['tiny']);
  assert.equal(info.epoch, 1n);
  assert.equal(info.maxContext, Math.min(262_144, info.pagesTotal * 64));
  assert.match(info.numericsId, /^f32-fma-v1\/f32/);
  const ready = await fetch(`http://${rig.routers[0]?.admin}/ready`);
  assert.equal(ready.status, 200);
});

test('prompt length and chunk edges do not matter to what follows a resume', async () => {
  for (const length of [1, 63, 64, 65, 300]) {
    const promptIds = promptOf(length, length);
    const whole = await rig.generate({ promptIds, sampling: SAMPLED });
    assertWhole(whole, length, 16);
    for (const cut of [1, 7, 15]) {
      const generatedIds = whole.tokens.slice(0, cut).map(({ id }) => id);
      const numericsId = whole.started?.numericsId ?? '';
      const rest = await rig.generate({ promptIds, generatedIds, numericsId, sampling: SAMPLED });
      assert.deepEqual(bitsOf(rest), bitsOf(whole).slice(cut), `prompt of ${length}, resumed at ${cut}`);
      assert.equal(rest.tokens[0]?.index, cut);
      assert.equal(rest.finished?.completionTokens, 16);
    }
  }
});

test('a think block that uses up its budget is closed, with true log-probabilities, and a resume goes on with it', async () => {
  const promptIds = promptOf(70, 5);
  const free = await rig.generate({ promptIds, sampling: SAMPLED });
  const endIds = [601, 602, 603];
  const thinking = router.ThinkingBudget.create({ tokens: 5, endIds });
  const whole = await rig.generate({ promptIds, sampling: SAMPLED, thinking });
  assertWhole(whole, 70, 16);
  assert.deepEqual(bitsOf(whole).slice(0, 5), bitsOf(free).slice(0, 5));
  assert.deepEqual(
    whole.tokens.slice(5, 8).map(({ id }) => id),
    endIds,
  );
  for (const { logprob } of whole.tokens) assert.ok(logprob < 0 && Number.isFinite(logprob));
  for (const cut of [3, 5, 6, 8, 12]) {
    const generatedIds = whole.tokens.slice(0, cut).map(({ id }) => id);
    const numericsId = whole.started?.numericsId ?? '';
    const rest = await rig.generate({ promptIds, generatedIds, numericsId, sampling: SAMPLED, thinking });
    assert.deepEqual(bitsOf(rest), bitsOf(whole).slice(cut), `resumed at ${cut}`);
  }
  const closed = free.tokens[2]?.id ?? 0;
  const inTime = await rig.generate({ promptIds, sampling: SAMPLED, thinking: { tokens: 5, endIds: [601, closed] } });
  assert.deepEqual(bitsOf(inTime), bitsOf(free), 'a block closed in time is left alone');
});

test('a resume in another numerics class is refused', async () => {
  await assert.rejects(rig.generate({ generatedIds: [5], numericsId: 'bf16-fma-v1/other' }), {
    code: 'numerics_mismatch',
    field: 'numerics_id',
  });
  await assert.rejects(rig.generate({ generatedIds: [5] }), { code: 'missing_field', field: 'numerics_id' });
});

/** Requests of many lengths and kinds. */
function mixed(count: number): RigRequest[] {
  return Array.from({ length: count }, (_, i) => ({
    promptIds: promptOf(1 + ((i * 37) % 190), i),
    sampling: i % 3 === 0 ? {} : { ...SAMPLED, seed: BigInt(i), topLogprobs: i % 4 },
    stop: { maxTokens: 4 + ((i * 5) % 21) },
    choice: i % 2,
  }));
}

test('36 sequences at a time give the bits that each gives alone', async () => {
  const requests = mixed(36);
  const alone: Generated[] = [];
  for (const request of requests) alone.push(await rig.generate(request));
  const together = await Promise.all(requests.map((request) => rig.generate(request)));
  for (const [i, answer] of together.entries()) {
    assert.deepEqual(saidOf(answer.tokens), saidOf(alone[i]?.tokens ?? []), `request ${i}`);
    assertWhole(answer, requests[i]?.promptIds?.length ?? 0, requests[i]?.stop?.maxTokens ?? 0);
  }
  await rig.idle();
});

test('a sequence that is preempted again and again gives the bits of one that is not', async () => {
  const small = await rig.addRouter('router-small', [
    '--num-pages',
    '10',
    '--chunk-tokens',
    '64',
    '--micro-batches',
    '1',
  ]);
  await rig.ready(small);
  const requests = [0, 1, 2, 3].map((i) => ({
    promptIds: promptOf(100 + 20 * i, 90 + i),
    sampling: { ...SAMPLED, seed: BigInt(i) },
    stop: { maxTokens: 120 },
  }));
  const expected = await Promise.all(requests.map((request) => rig.generate(request)));
  const squeezed = await Promise.all(requests.map((request) => rig.generate(request, small)));
  assert.ok((await rig.metric('vllm:num_preemptions_total', small)) > 0);
  assert.deepEqual(squeezed.map(bitsOf), expected.map(bitsOf));
  await rig.idle(small);
});

test('cancelling frees everything, in the queue, in prefill and in decode', async () => {
  const calls = [
    rig.call({ promptIds: promptOf(3000, 1), stop: { maxTokens: 500 } }),
    ...Array.from({ length: 45 }, (_, i) => rig.call({ promptIds: promptOf(50, i), stop: { maxTokens: 800 } })),
  ];
  await eventually(() => calls.some(({ result }) => result.tokens.length > 2), 'some tokens');
  const info = await rig.info();
  assert.ok(info.running > 0 && info.waiting > 0 && info.pagesFree < info.pagesTotal);
  for (const { stream } of calls) stream.cancel();
  const results = await Promise.all(calls.map(({ done }) => done));
  assert.ok(results.every(({ error }) => error?.code === 'cancelled'));
  await rig.idle();
  assertWhole(await rig.generate(), 40, 16);
});

test('a reader that stops reading pauses its own sequence only, and nothing is lost when it goes on', async () => {
  const request: RigRequest = {
    promptIds: promptOf(20, 5),
    sampling: { temperature: 0.8, seed: 4n, topLogprobs: 20 },
    stop: { maxTokens: 50_000 },
  };
  const slow = rig.slowCall(request);
  const generated = (): Promise<number> => rig.metric('vllm:generation_tokens_total');
  try {
    // Stands still while another request is served in full.
    const paused = await eventually(async () => {
      const before = await generated();
      assertWhole(await rig.generate(), 40, 16);
      const now = await generated();
      assert.equal((await rig.info()).running, 1, 'it must not come to its end');
      return now === before + 16 ? now : null;
    }, 'the sequence of the slow reader to pause');
    slow.stream.resume();
    await eventually(async () => (await generated()) > paused + 50, 'the sequence to go on');
    slow.stream.cancel();
    const { tokens } = await slow.done;
    assert.deepEqual(
      tokens.map(({ index }) => index),
      tokens.map((_, i) => i),
    );
    const quick = await rig.generate({ ...request, stop: { maxTokens: 100 } });
    assert.deepEqual(saidOf(tokens.slice(0, 100)), saidOf(quick.tokens));
  } finally {
    slow.close();
  }
  await rig.idle();
});

test('stop ids, stop strings, min_tokens and ignore_eos', async () => {
  const promptIds = promptOf(30, 8);
  const free = await rig.generate({ promptIds, stop: { maxTokens: 30 } });
  const ids = free.tokens.map(({ id }) => id);
  const stopId = ids[10] ?? 0;
  const first = ids.indexOf(stopId);
  const stopped = await rig.generate({ promptIds, stop: { maxTokens: 30, stopTokenIds: [stopId] } });
  assert.equal(stopped.tokens.length, first + 1);
  assert.equal(stopped.finished?.reason, router.FinishReason.FINISH_REASON_STOP);
  assert.equal(stopped.finished?.stopTokenId, stopId);
  const later = await rig.generate({
    promptIds,
    stop: { maxTokens: 30, minTokens: first + 3, stopTokenIds: [stopId] },
  });
  assert.ok(later.tokens.slice(0, first + 3).every(({ id }) => id !== stopId));
  const { Tokenizer } = await import('@guildhall/model');
  const text = Tokenizer.load(rig.model).decode(ids, { skipSpecial: true });
  const stop = text.slice(Math.floor(text.length / 2), Math.floor(text.length / 2) + 3);
  const byString = await rig.generate({ promptIds, stop: { maxTokens: 30, stopStrings: ['\u{10ffff}', stop] } });
  assert.equal(byString.finished?.stopString, stop);
  assert.ok(byString.tokens.length < 30);
});

test('prompt log-probabilities cover every prompt token but the first, and agree with decode', async () => {
  const first = await rig.generate({ promptIds: promptOf(140, 4) });
  const promptIds = [...promptOf(140, 4), ...first.tokens.map(({ id }) => id)];
  const echo = await rig.generate({
    promptIds,
    promptLogprobs: true,
    sampling: { topLogprobs: 2 },
    stop: { maxTokens: 1 },
  });
  assert.deepEqual(
    echo.prompt.map(({ index, id }) => [index, id]),
    promptIds.slice(1).map((id, i) => [i + 1, id]),
  );
  assert.ok(echo.prompt.every(({ top }) => top.length === 2));
  for (const [i, token] of first.tokens.entries()) {
    // Prompt tokens go through the chunked form, generated ones through the recurrent: equal up to rounding.
    assert.ok(Math.abs((echo.prompt[139 + i]?.logprob ?? 0) - token.logprob) < 1e-3);
  }
  const nothing = await rig.generate({ promptIds, promptLogprobs: true, stop: { maxTokens: 0 } });
  assert.equal(nothing.tokens.length, 0);
  assert.equal(nothing.prompt.length, promptIds.length - 1);
  assert.equal(nothing.finished?.reason, router.FinishReason.FINISH_REASON_LENGTH);
});

test('a deadline ends one request with an error', async () => {
  const call = rig.call({ stop: { maxTokens: 20_000 }, deadlineMs: 300 });
  const other = await rig.generate();
  assertWhole(other, 40, 16);
  const { error } = await call.done;
  assert.equal(error?.code, 'deadline_exceeded');
  await rig.idle();
});

test('bad requests cost nobody but themselves', async () => {
  const running = rig.call({ stop: { maxTokens: 60 } });
  const bad: [RigRequest, { code: string; field: string }][] = [
    [{ model: 'other' }, { code: 'model_not_found', field: 'model' }],
    [{ promptIds: [] }, { code: 'missing_field', field: 'prompt_ids' }],
    [{ promptIds: [1, 4_000_000_000] }, { code: 'invalid_value', field: 'prompt_ids[1]' }],
    [{ promptIds: promptOf(262_200, 1) }, { code: 'context_length_exceeded', field: 'prompt_ids' }],
    [{ sampling: { temperature: -1 } }, { code: 'invalid_value', field: 'sampling.temperature' }],
    [{ sampling: { temperature: Infinity } }, { code: 'invalid_value', field: 'sampling.temperature' }],
    [{ sampling: { topP: Number.NaN } }, { code: 'invalid_value', field: 'sampling.top_p' }],
    [
      { stop: { stopStrings: Array.from({ length: 10_000 }, (_, i) => `s${i}`) } },
      { code: 'invalid_value', field: 'stop.stop_strings' },
    ],
    [{ stop: { maxTokens: 5, minTokens: 6 } }, { code: 'invalid_value', field: 'stop.min_tokens' }],
  ];
  for (const [request, expected] of bad)
    await assert.rejects(rig.generate(request), expected, JSON.stringify(expected));
  const { error, finished } = await running.done;
  assert.equal(error, null);
  assert.equal(finished?.completionTokens, 60);
  await rig.idle();
});

test('a call with garbage instead of a request ends with an error, and the router lives', async () => {
  const outcome = await rig.rawCall(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]));
  assert.notEqual(outcome, null);
  assertWhole(await rig.generate(), 40, 16);
});

test('running out of queue is said at once', async () => {
  const narrow = await rig.addRouter('router-narrow', ['--max-running', '1', '--max-waiting', '2']);
  await rig.ready(narrow);
  const calls = Array.from({ length: 6 }, () => rig.call({ stop: { maxTokens: 40 } }, narrow));
  const results = await Promise.all(calls.map(({ done }) => done));
  const codes = results.map(({ error }) => error?.code ?? 'ok');
  assert.ok(codes.includes('queue_full') && codes.includes('ok'), String(codes));
  assert.ok(codes.every((code) => code === 'ok' || code === 'queue_full'));
  await rig.idle(narrow);
});

test('a router that is asked to stop without another one lets its streams finish, and says why it ends the others', async () => {
  await RouterRig.run({ routerArgs: ['--drain-ms', '1500'] }, async (alone) => {
    const [leaving] = alone.routers;
    const short = alone.call({ stop: { maxTokens: 20 } });
    const long = alone.call({ stop: { maxTokens: 20_000 } });
    await eventually(() => short.result.tokens.length > 0 && long.result.tokens.length > 0, 'both to run');
    const stopped = leaving?.stop();
    await sleep(50);
    assert.equal((await alone.call().done).error?.code, 'not_ready');
    assert.equal((await short.done).finished?.completionTokens, 20);
    assert.equal((await long.done).error?.code, 'not_ready');
    await stopped;
  });
});
