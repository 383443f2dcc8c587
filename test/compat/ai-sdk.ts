import assert from 'node:assert/strict';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, isStepCount, type LanguageModel, Output, streamText, tool } from 'ai';
import { z } from 'zod';
import type { Conformance } from './conformance.ts';
import { isCity, KEY, MODEL, QUESTION, type World } from './world.ts';

const SETTINGS = { prompt: QUESTION, maxOutputTokens: 60, temperature: 0, maxRetries: 0 };
const PLACE = z.object({ city: z.enum(['Paris', 'Rome']), sure: z.boolean() });

function compatible({ cluster, oracle }: World): LanguageModel {
  const provider = createOpenAICompatible({
    name: 'guildhall',
    baseURL: `${cluster.url}/v1`,
    apiKey: KEY,
    fetch: oracle.fetch,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
  return provider(MODEL);
}

function anthropic({ cluster, oracle }: World): LanguageModel {
  return createAnthropic({ baseURL: `${cluster.url}/v1`, apiKey: KEY, fetch: oracle.fetch })(MODEL);
}

/** The AI SDK of Vercel, by way of the OpenAI-compatible provider and of that of Anthropic. */
export function aiSdk(suite: Conformance): void {
  for (const [client, feature, model] of [
    ['ai (@ai-sdk/openai-compatible)', 'chat completions', compatible],
    ['ai (@ai-sdk/anthropic)', 'messages', anthropic],
  ] as const) {
    suite.check(client, feature, '`streamText` equals `generateText`, with reasoning apart and usage', (world) =>
      alike(model(world), client.includes('anthropic')),
    );
    suite.check(client, 'tool calls', 'a tool is run and its result goes back', (world) => toolRun(model(world)));
  }
  suite.check(
    'ai (@ai-sdk/openai-compatible)',
    'structured output',
    '`Output.object` with a zod schema',
    async (world) => {
      const output = Output.object({ schema: PLACE });
      const asked = { ...SETTINGS, maxOutputTokens: 300, model: compatible(world), output };
      const { output: made } = await generateText({
        ...asked,
        providerOptions: { guildhall: { reasoningEffort: 'none' } },
      });
      assert.ok(isCity(made), JSON.stringify(made));
    },
  );
  suite.check(
    'ai (@ai-sdk/openai-compatible)',
    'errors',
    'a refusal is an `APICallError` with status and text',
    async (world) => {
      const asked = { ...SETTINGS, temperature: 9, model: compatible(world) };
      await assert.rejects(generateText(asked), (error: unknown) => {
        assert.ok(APICallError.isInstance(error));
        assert.equal(error.statusCode, 400);
        assert.match(error.message, /temperature/);
        assert.equal(error.isRetryable, false);
        return true;
      });
    },
  );
}

async function alike(model: LanguageModel, thinkingIsAsked: boolean): Promise<void> {
  const thinking = { anthropic: { thinking: { type: 'enabled', budgetTokens: 20 } } };
  const asked = { ...SETTINGS, model, maxOutputTokens: 120, ...(thinkingIsAsked ? { providerOptions: thinking } : {}) };
  const whole = await generateText(asked);
  const streamed = streamText(asked);
  let text = '';
  for await (const piece of streamed.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.equal(await streamed.finishReason, whole.finishReason);
  assert.ok((whole.reasoningText ?? '').length > 0);
  assert.equal(await streamed.reasoningText, whole.reasoningText);
  const usage = await streamed.usage;
  assert.ok((usage.inputTokens ?? 0) > 0 && (usage.outputTokens ?? 0) > 0);
  assert.equal(usage.outputTokens, whole.usage.outputTokens);
}

async function toolRun(model: LanguageModel): Promise<void> {
  const seen: unknown[] = [];
  const place = tool({
    description: 'A city.',
    inputSchema: PLACE,
    strict: true,
    execute: (input) => {
      seen.push(input);
      return 'noted';
    },
  });
  const { steps } = await generateText({
    ...SETTINGS,
    model,
    maxOutputTokens: 300,
    tools: { place },
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? 'required' : 'none' }),
    stopWhen: isStepCount(2),
  });
  assert.ok(seen.length >= 1 && seen.every(isCity), JSON.stringify(seen));
  assert.equal(steps.length, 2);
  assert.equal(steps[0]?.finishReason, 'tool-calls');
}
