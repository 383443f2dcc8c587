import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { jsonSchemaOutputFormat } from '@anthropic-ai/sdk/helpers/json-schema';
import type { Conformance } from './conformance.ts';
import { CITY, isCity, MESSAGES, MODEL, type World } from './world.ts';

/** Still taken, though the client does not declare them any more. */
const SAMPLING = { top_k: 5, top_p: 0.9 };

type Check = (checked: string, body: (world: World) => Promise<void>) => void;

const BODY = { model: MODEL, messages: MESSAGES, max_tokens: 60, temperature: 0 };

/** Anthropic's Messages API through its own client; `dialects.test.ts` of the suite e2e compares its answers with those of chat. */
export function anthropicMessages(suite: Conformance): void {
  const check: Check = (checked, body) => suite.check('@anthropic-ai/sdk', 'messages', checked, body);
  making(check);
  tools(check);
  parameters(check);
  refusals(check);
}

function parameters(check: Check): void {
  check('every parameter of the client’s types is accepted, ignored or refused by name', async ({ oracle }) => {
    oracle.knowsFields('messageRequest', 'AnthropicMessagesRequestInput');
    oracle.knowsFields('betaMessageRequest', 'AnthropicMessagesRequestInput');
  });
  check('`usage` has the tokens read from the cache apart from those that were computed', async ({ anthropic }) => {
    const content = Array.from({ length: 300 }, (_, i) => `message ${i}`).join(' ');
    const asked = { ...BODY, messages: [{ role: 'user' as const, content }], max_tokens: 2 };
    const { usage: cold } = await anthropic.messages.create(asked);
    const { usage: warm } = await anthropic.messages.create(asked);
    assert.equal(cold.cache_read_input_tokens, 0);
    assert.ok((warm.cache_read_input_tokens ?? 0) > 0);
    assert.equal(warm.input_tokens + (warm.cache_read_input_tokens ?? 0), cold.input_tokens);
  });
  check('`thinking` adaptive, enabled, disabled; `service_tier`; the beta `output_format`', async ({ anthropic }) => {
    for (const type of ['adaptive', 'disabled'] as const) {
      const { content } = await anthropic.messages.create({
        ...BODY,
        thinking: { type },
        service_tier: 'standard_only',
      });
      assert.equal(content[0]?.type, type === 'adaptive' ? 'thinking' : 'text');
    }
    const { content } = await anthropic.beta.messages.create({
      ...BODY,
      max_tokens: 300,
      output_format: { type: 'json_schema', schema: CITY },
    });
    const [block] = content;
    assert.ok(block?.type === 'text' && isCity(JSON.parse(block.text)));
  });
  check('server tools, containers, MCP servers, images and documents are refused by name', async ({ anthropic }) => {
    const source = { type: 'base64' as const, media_type: 'application/pdf' as const, data: 'AAAA' };
    const document = { role: 'user' as const, content: [{ type: 'document' as const, source }] };
    const cases: [Partial<Anthropic.Beta.MessageCreateParamsNonStreaming>, RegExp][] = [
      [{ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, /tools\[0\]/],
      [{ container: 'container_1' }, /container/],
      [{ mcp_servers: [{ type: 'url', name: 'm', url: 'https://example.com' }] }, /mcp_servers/],
      [{ messages: [document] }, /document input is not supported/],
    ];
    for (const [extra, named] of cases)
      await assert.rejects(anthropic.beta.messages.create({ ...BODY, ...extra }), (error: unknown) => {
        assert.ok(error instanceof Anthropic.BadRequestError);
        assert.match(error.message, named);
        return true;
      });
  });
}

function making(check: Check): void {
  check('a stream accumulated by the client equals the whole message', async ({ anthropic }) => {
    const asked = { ...BODY, system: 'Be brief.', thinking: { type: 'enabled' as const, budget_tokens: 20 } };
    const whole = await anthropic.messages.create(asked);
    const stream = anthropic.messages.stream(asked);
    let text = '';
    stream.on('text', (piece) => (text += piece));
    const streamed = await stream.finalMessage();
    assert.deepEqual(streamed.content, whole.content);
    assert.equal(streamed.stop_reason, whole.stop_reason);
    assert.equal(streamed.usage.output_tokens, whole.usage.output_tokens);
    assert.equal(text, streamed.content.find((block) => block.type === 'text')?.text ?? '');
    assert.equal(whole.content[0]?.type, 'thinking');
  });
  check(
    '`stop_sequences`, `top_k`, `top_p`, `metadata`, `system` as blocks; thinking off by default',
    async (world) => {
      const plain = await world.anthropic.messages.create(BODY);
      const [block] = plain.content;
      assert.ok(block?.type === 'text' && block.text.length > 6);
      const stop = block.text.slice(3, 6);
      const cut = await world.anthropic.messages.create({ ...BODY, stop_sequences: [stop] });
      assert.deepEqual([cut.stop_reason, cut.stop_sequence], ['stop_sequence', stop]);
      const short = await world.anthropic.messages.create({
        model: MODEL,
        messages: MESSAGES,
        system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }],
        metadata: { user_id: 'u' },
        max_tokens: 2,
        ...SAMPLING,
      });
      assert.deepEqual([short.stop_reason, short.usage.output_tokens], ['max_tokens', 2]);
    },
  );
  check('`countTokens` is what the message then reads', async ({ anthropic }) => {
    const counted = await anthropic.messages.countTokens({ model: MODEL, messages: MESSAGES });
    const { usage } = await anthropic.messages.create(BODY);
    assert.equal(counted.input_tokens, usage.input_tokens + (usage.cache_read_input_tokens ?? 0));
  });
  check('`parse` with a JSON schema as `output_config.format`', async ({ anthropic }) => {
    const output_config = { format: jsonSchemaOutputFormat(CITY) };
    const { parsed_output: parsed } = await anthropic.messages.parse({ ...BODY, max_tokens: 300, output_config });
    assert.ok(isCity(parsed), JSON.stringify(parsed));
  });
}

function tools(check: Check): void {
  const place: Anthropic.Tool = { name: 'place', description: 'A city.', strict: true, input_schema: CITY };
  check('uses of tools: streamed input equals the whole, and results are answered', async ({ anthropic }) => {
    const tool_choice = { type: 'any' as const, disable_parallel_tool_use: true };
    const asked = { ...BODY, max_tokens: 300, tools: [place], tool_choice };
    const whole = await anthropic.messages.create(asked);
    const use = whole.content.find((block) => block.type === 'tool_use');
    assert.ok(use !== undefined && isCity(use.input), JSON.stringify(whole.content));
    assert.equal(whole.stop_reason, 'tool_use');
    const streamed = await anthropic.messages.stream(asked).finalMessage();
    assert.deepEqual(streamed.content.find((block) => block.type === 'tool_use')?.input, use.input);
    const { role } = await anthropic.messages.create({
      ...BODY,
      tools: [place],
      messages: [
        ...MESSAGES,
        { role: 'assistant', content: whole.content },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'noted' }] },
      ],
    });
    assert.equal(role, 'assistant');
  });
  check('the beta `toolRunner` calls the function and sends back what it says', async ({ anthropic }) => {
    for (const more of [{}, { thread: false as const }]) {
      const seen: unknown[] = [];
      const runnable = betaTool({
        name: 'place',
        description: 'A city.',
        inputSchema: CITY,
        run: (input) => {
          seen.push(input);
          return 'noted';
        },
      });
      const asked = { ...BODY, ...more, max_tokens: 300, tools: [{ ...runnable, strict: true }], max_iterations: 2 };
      await anthropic.beta.messages.toolRunner({ ...asked, tool_choice: { type: 'tool', name: 'place' } });
      assert.ok(seen.length >= 1 && isCity(seen[0]), JSON.stringify(seen));
    }
  });
}

function refusals(check: Check): void {
  check('the client’s error classes for 400, 401 and 404', async ({ anthropic, anthropicWith }) => {
    await assert.rejects(anthropic.messages.create({ ...BODY, max_tokens: 0 }), (error: unknown) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.equal(error.type, 'invalid_request_error');
      assert.match(error.message, /max_tokens/);
      assert.ok((error.requestID ?? '').length > 0);
      return true;
    });
    await assert.rejects(anthropicWith('wrong').messages.create(BODY), Anthropic.AuthenticationError);
    await assert.rejects(anthropic.messages.create({ ...BODY, model: 'none' }), Anthropic.NotFoundError);
  });
}
