import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { plainCaller } from './caller.ts';
import { type PlannedPrompt, planChoices } from './plan.ts';
import { GatewayUnderTest } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;

before(async () => {
  gateway = await GatewayUnderTest.start({});
});
after(() => gateway.stop());

test('a request with many prompts writes its grammar once for each way in which they end', () => {
  const prompt = (insideThink: boolean): PlannedPrompt => ({ ids: [1, 2, 3], insideThink, maxTokens: 8 });
  const plans = planChoices(
    gateway.context,
    {
      id: 'cmpl-1',
      body: { guided_regex: '[a-z]+', n: 2 },
      parser: 'qwen3',
      topLogprobs: -1,
      promptLogprobs: false,
      calls: null,
      thinking: undefined,
      traceparent: '',
      caller: plainCaller('', ''),
    },
    [prompt(false), prompt(true), prompt(false), prompt(true)],
  );
  const constraints = plans.map(({ request }) => request.constraint);
  assert.equal(constraints.length, 8);
  assert.deepEqual(
    constraints.map((constraint) => constraint?.afterToken === 0),
    [true, true, false, false, true, true, false, false],
  );
  assert.equal(new Set(constraints).size, 2);
});
