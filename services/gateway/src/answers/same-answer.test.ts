import assert from 'node:assert/strict';
import { test } from 'node:test';
import { router } from '@guildhall/proto';
import fc from 'fast-check';
import { MessageBuilder } from '../anthropic/builder.ts';
import { ChoiceAssembler, type ChoiceDelta } from '../choice-assembler.ts';
import { createParser } from '../parsers/registry.ts';
import { ResponseBuilder } from '../responses/builder.ts';
import { piecesOf } from '../responses/piece.ts';
import type { ChatChunk, ChatResponse } from '../schema/chat.ts';
import type { ResponseObject } from '../schema/responses.ts';
import { cutAt } from '../testing/parse-text.ts';
import type { TokenSource } from '../token-text.ts';
import { toolTable } from '../tools/tool-table.ts';
import { ChatCollector, ChatStreamer } from './chat-answer.ts';

const parameters = { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } };
const tools = toolTable([{ function: { name: 'weather', parameters } }, { function: { name: 'list' } }]);
const COUNTS = { completionTokens: 1, reasoningTokens: 0, cachedTokens: 0, decodeCachedTokens: 0 };

/** An answer's text, and the tokens that it comes in. */
interface Transcript {
  tokens: readonly string[];
  insideThink: boolean;
  stops: readonly string[];
  cut: boolean;
}

const call = fc
  .tuple(fc.constantFrom('weather', 'list', 'nope'), fc.dictionary(fc.constantFrom('city', 'days'), fc.string()))
  .map(([name, values]) => {
    const given = Object.entries(values).map(([key, value]) => `<parameter=${key}>\n${value}\n</parameter>\n`);
    return `<tool_call>\n<function=${name}>\n${given.join('')}</function>\n</tool_call>`;
  });
const fragment = fc.constantFrom('<tool_call>', '</tool_call>', '\n', '\n\n', ' ', '<', '</think>', 'Paris', '5', '😀');
const said = fc.array(fc.oneof(call, fc.string({ unit: 'grapheme', maxLength: 8 }), fragment), { maxLength: 8 });
const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 24 });
const transcripts: fc.Arbitrary<Transcript> = fc
  .record({
    thought: fc.option(
      fc.constantFrom('', 'hm', 'Paris\n5 ', '<tool_call>\n<function=list>\n</function>\n</tool_call>'),
    ),
    parts: said,
    closed: fc.boolean(),
    stops: fc.subarray(['5', 'Paris', '</tool_call>\nz', '\n\n<'], { maxLength: 2 }),
    where: shares,
    cut: fc.boolean(),
  })
  .map(({ thought, parts, closed, stops, where, cut }) => {
    const think = thought === null ? '' : `${thought}${closed ? '\n</think>\n\n' : ''}`;
    return { tokens: cutAt(think + parts.join(''), where), insideThink: thought !== null, stops, cut };
  })
  // Text that comes out of a detokenizer never ends inside a character.
  .filter(({ tokens }) => tokens.every((token) => token.isWellFormed()));

/** What a choice says whose tokens have these texts, and how many of them it took. */
function deltasOf({ tokens, insideThink, stops, cut }: Transcript): { deltas: ChoiceDelta[]; taken: number } {
  const callIds = (index: number): string => `call_${index}`;
  const made = new ChoiceAssembler({
    detokenizer: { push: (id) => tokens[id] ?? '', flush: () => '' },
    parser: createParser('qwen3', insideThink, { name: 'qwen3_xml', tools, parallel: true, callIds }),
    stopStrings: stops,
    includeStop: false,
    minTokens: 0,
    stopIds: new Set(),
    askedStopIds: new Set(),
    logprobs: true,
    tokenIds: true,
    thinkEndId: null,
  });
  const deltas: ChoiceDelta[] = [];
  let taken = 0;
  for (; taken < tokens.length && !made.ended; taken += 1)
    deltas.push(made.onToken({ index: taken, id: taken, logprob: -taken, top: [], expertMs: 0 }));
  const finished = router.Finished.create({ completionTokens: taken });
  deltas.push(made.ended ? made.onEnded() : made.onFinished(finished, cut ? 'length' : 'stop'));
  return { deltas, taken };
}

type Message = ChatResponse['choices'][number]['message'];

interface Answered {
  message: Pick<Message, 'content' | 'reasoning_content' | 'tool_calls'>;
  finish: string | null;
  logged: number[];
  ids: number[];
}

const options = (source: TokenSource) => ({
  head: { id: 'chatcmpl-1', created: 0, model: 'm' },
  source,
  logprobs: true,
  fingerprint: () => null,
});

function whole(deltas: readonly ChoiceDelta[], source: TokenSource): Answered {
  const collector = new ChatCollector(options(source), 1);
  for (const delta of deltas) collector.delta(0, delta);
  const [choice] = collector.answer(1, [COUNTS]).choices;
  assert.ok(choice !== undefined);
  const { content, reasoning_content, tool_calls } = choice.message;
  return {
    message: { content, reasoning_content, ...(tool_calls === undefined ? {} : { tool_calls }) },
    finish: choice.finish_reason,
    logged: (choice.logprobs?.content ?? []).map(({ logprob }) => -logprob),
    ids: choice.token_ids ?? [],
  };
}

/** The chunks of a stream put together as clients do it. */
async function streamed(deltas: readonly ChoiceDelta[], source: TokenSource): Promise<Answered> {
  const chunks: ChatChunk[] = [];
  const stream = {
    send: (chunk: unknown) => Promise.resolve(void chunks.push(chunk as ChatChunk)),
    done: async () => {},
  };
  const streamer = new ChatStreamer(options(source), stream, false);
  await streamer.started(0);
  for (const delta of deltas) await streamer.delta(0, delta);
  const choices = chunks.flatMap((chunk) => chunk.choices);
  const join = (texts: (string | undefined)[]): string => texts.join('');
  const calls: NonNullable<Message['tool_calls']> = [];
  for (const { index, id, function: fn } of choices.flatMap(({ delta }) => delta.tool_calls ?? [])) {
    calls[index] ??= { id: id ?? '', type: 'function', function: { name: fn.name ?? '', arguments: '' } };
    calls[index].function.arguments += fn.arguments;
  }
  const content = join(choices.map(({ delta }) => delta.content));
  const reasoning = join(choices.map(({ delta }) => delta.reasoning_content));
  return {
    message: {
      content: content === '' && calls.length > 0 ? null : content,
      reasoning_content: reasoning === '' ? null : reasoning,
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    },
    finish: choices.at(-1)?.finish_reason ?? null,
    logged: choices.flatMap(({ logprobs }) => logprobs?.content ?? []).map(({ logprob }) => -logprob),
    ids: choices.flatMap(({ token_ids: ids }) => ids ?? []),
  };
}

/** Items of a response and blocks of a message, in their order. */
function dialects(deltas: readonly ChoiceDelta[], source: TokenSource) {
  const head = { id: `resp_${'0'.repeat(32)}`, status: 'in_progress', output: [] } as unknown as ResponseObject;
  const response = new ResponseBuilder({ head, summary: false, seal: false });
  const message = new MessageBuilder({
    id: 'm',
    model: 'm',
    promptTokens: 1,
    omitThinking: false,
    cutByContext: false,
  });
  for (const delta of deltas) {
    for (const piece of piecesOf(delta, source)) response.add(piece);
    message.add(delta);
  }
  response.end({ status: 'completed', atS: 0, usage: null, error: null });
  return { output: response.snapshot().output, blocks: message.whole(COUNTS).content };
}

type Output = ReturnType<typeof dialects>['output'];

const withoutLogprobs = (output: Output): unknown =>
  output.map((item) => (item.type === 'message' ? { ...item, content: item.content.map(({ text }) => text) } : item));

function sourceOf(tokens: readonly string[]): TokenSource {
  return { tokenBytes: (id) => new TextEncoder().encode(tokens[id] ?? '') };
}

test('a stream joins to the whole answer, with one log-probability and one id for each token, in every dialect', async () => {
  await fc.assert(
    fc.asyncProperty(transcripts, async (transcript) => {
      const { deltas, taken } = deltasOf(transcript);
      const source = sourceOf(transcript.tokens);
      const answer = whole(deltas, source);
      assert.deepEqual(await streamed(deltas, source), answer);
      const all = Array.from({ length: taken }, (_, id) => id);
      assert.deepEqual([answer.logged, answer.ids], [all, all]);
      const { output, blocks } = dialects(deltas, source);
      const said = output.flatMap((item) => (item.type === 'message' ? item.content.map(({ text }) => text) : []));
      assert.equal(said.join('').trim(), (answer.message.content ?? '').trim());
      const texts = blocks.flatMap((block) => (block.type === 'text' ? [block.text] : []));
      assert.equal(texts.join(''), said.join(''));
    }),
    { numRuns: 200 },
  );
});

test('however its tokens are cut, an answer is the same, and so is the order of texts and calls', () => {
  fc.assert(
    fc.property(transcripts, (transcript) => {
      const one = { ...transcript, tokens: [transcript.tokens.join('')] };
      const [cut, uncut] = [deltasOf(transcript).deltas, deltasOf(one).deltas];
      const [many, few] = [sourceOf(transcript.tokens), sourceOf(one.tokens)];
      const { message, finish } = whole(cut, many);
      assert.deepEqual({ message, finish }, { message: whole(uncut, few).message, finish: whole(uncut, few).finish });
      const [a, b] = [dialects(cut, many), dialects(uncut, few)];
      assert.deepEqual(withoutLogprobs(a.output), withoutLogprobs(b.output));
      assert.deepEqual(a.blocks, b.blocks);
    }),
    { numRuns: 300 },
  );
});

test('the texts of a response have the log-probabilities of their own tokens, each once', () => {
  fc.assert(
    fc.property(transcripts, (transcript) => {
      const { output } = dialects(deltasOf(transcript).deltas, sourceOf(transcript.tokens));
      const parts = output.flatMap((item) => (item.type === 'message' ? item.content : []));
      const places = parts.flatMap(({ logprobs }) => logprobs.map(({ logprob }) => -logprob));
      assert.deepEqual(
        places,
        [...new Set(places)].toSorted((a, b) => a - b),
      );
      let shared = '';
      for (const { text, logprobs } of parts) {
        // A token in which one text ends and another begins is the first one's.
        const own = shared + logprobs.map(({ token }) => token).join('');
        assert.ok(own.replaceAll(/\s/g, '').includes(text.replaceAll(/\s/g, '')), `${own} has not ${text}`);
        const visible = logprobs.filter(({ token }) => token.trim() !== '').slice(1);
        const less = visible.map(({ token }) => token).join('');
        assert.ok(!less.replaceAll(/\s/g, '').includes(text.replaceAll(/\s/g, '')), `${own} has more than ${text}`);
        shared = logprobs.at(-1)?.token ?? shared;
      }
    }),
    { numRuns: 300 },
  );
});
