import assert from 'node:assert/strict';
import { test } from 'node:test';
import type Anthropic from '@anthropic-ai/sdk';
import { MessageStream } from '@anthropic-ai/sdk/lib/MessageStream';
import fc from 'fast-check';
import { ResponseStream } from 'openai/lib/responses/ResponseStream';
import { MessageBuilder } from '../anthropic/builder.ts';
import type { ChoiceDelta } from '../choice-assembler.ts';
import type { ResponseObject } from '../schema/responses.ts';
import type { OutputItem } from '../schema/response-items.ts';
import { ResponseBuilder, type ResponseEnd, type ResponseEvent } from './builder.ts';
import { joinPieces, type Piece } from './piece.ts';

/** What a model says: each part of one kind. */
type Part = { kind: 'reasoning' | 'content'; text: string } | { kind: 'call'; name: string; args: string };

const text = fc.oneof(
  fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' }),
  fc.string({ minLength: 1, maxLength: 6, unit: fc.constantFrom(' ', '\n', 'a') }),
);
const args = fc.dictionary(fc.string({ maxLength: 4 }), fc.jsonValue({ maxDepth: 1 }), { maxKeys: 3 });
const part: fc.Arbitrary<Part> = fc.oneof(
  fc.record({ kind: fc.constantFrom('reasoning' as const, 'content' as const), text }),
  fc.record({
    kind: fc.constant('call' as const),
    name: fc.constantFrom('a', 'b'),
    args: args.map((v) => JSON.stringify(v)),
  }),
);
/** Parts, and the places at which their texts are cut. */
const transcripts = fc.tuple(fc.array(part, { maxLength: 8 }), fc.infiniteStream(fc.integer({ min: 1, max: 5 })));

function cut(whole: string, sizes: Iterator<number>): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < whole.length;) {
    const size = Number(sizes.next().value);
    pieces.push(whole.slice(at, at + size));
    at += size;
  }
  return pieces.length === 0 ? [''] : pieces;
}

function piecesOf(parts: readonly Part[], sizes: Iterator<number>): Piece[] {
  let index = -1;
  return parts.flatMap((one) => {
    const empty = { reasoning: '', content: '', toolCalls: [], logprobs: [] };
    if (one.kind !== 'call') return cut(one.text, sizes).map((piece) => ({ ...empty, [one.kind]: piece }));
    index += 1;
    const head = { id: `call_${index}`, name: one.name };
    return cut(one.args, sizes).map((piece, i) => ({
      ...empty,
      toolCalls: [{ index, ...(i === 0 ? head : {}), arguments: piece }],
    }));
  });
}

const HEAD = {
  id: `resp_${'0'.repeat(32)}`,
  object: 'response',
  status: 'in_progress',
  output: [],
} as unknown as ResponseObject;
const END: ResponseEnd = { status: 'completed', atS: 1, usage: null, error: null };

function built(pieces: readonly Piece[], summary: boolean) {
  const builder = new ResponseBuilder({ head: HEAD, summary, seal: true });
  const events = [...builder.begin(), ...pieces.flatMap((piece) => builder.add(piece)), ...builder.end(END)];
  return { events, response: builder.snapshot() };
}

function lines(events: readonly object[]): ReadableStream {
  return new Blob(events.map((event) => `${JSON.stringify(event)}\n`)).stream();
}

test('events of a response add up, for the official client, to the response, however the text was cut', async () => {
  await fc.assert(
    fc.asyncProperty(transcripts, fc.boolean(), async ([parts, sizes], summary) => {
      const { events, response } = built(piecesOf(parts, sizes), summary);
      assert.deepEqual(response.output, built(uncut(parts), summary).response.output);
      // The client takes items from the events that end them, so what their deltas add up to is compared apart.
      assert.deepEqual(addedUp(events), response.output.map(textOfItem));
      const { output } = await ResponseStream.fromReadableStream(lines(events)).finalResponse();
      assert.deepEqual(JSON.parse(JSON.stringify(output, without('parsed', 'parsed_arguments'))), response.output);
      assert.deepEqual(
        events.map((event) => event.sequence_number),
        [...events.keys()],
      );
    }),
    { numRuns: 60 },
  );
});

function addedUp(events: readonly ResponseEvent[]): string[] {
  const texts: string[] = [];
  for (const { type, output_index: index, delta } of events) {
    if (type === 'response.output_item.added') texts.push('');
    if (typeof delta === 'string') texts[Number(index)] = (texts[Number(index)] ?? '') + delta;
  }
  return texts;
}

function textOfItem(item: OutputItem): string {
  if (item.type === 'function_call') return item.arguments;
  if (item.type === 'message') return item.content.map((one) => one.text).join('');
  return [...item.summary, ...(item.content ?? [])].map((one) => one.text).join('');
}

function uncut(parts: readonly Part[]): Piece[] {
  return piecesOf(
    parts,
    (function* () {
      for (;;) yield 1_000_000;
    })(),
  );
}

function without(...names: string[]) {
  return (key: string, value: unknown): unknown => (names.includes(key) ? undefined : value);
}

test('pieces that are joined, as in the log of a background response, give the same items', () => {
  fc.assert(
    fc.property(transcripts, fc.infiniteStream(fc.boolean()), ([parts, sizes], joins) => {
      const pieces = piecesOf(parts, sizes);
      const joined: Piece[] = [];
      for (const piece of pieces) {
        const last = joined.at(-1);
        const both = last === undefined || joins.next().value !== true ? null : joinPieces(last, piece);
        if (both === null) joined.push(piece);
        else joined[joined.length - 1] = both;
      }
      assert.deepEqual(built(joined, false).response, built(pieces, false).response);
    }),
    { numRuns: 150 },
  );
});

const COUNTS = { completionTokens: 3, reasoningTokens: 1, cachedTokens: 2, decodeCachedTokens: 0 };

/** A piece as the parts of a delta, in their order. */
function partsOf({ reasoning, content, toolCalls }: Piece): ChoiceDelta['parts'] {
  const texts = [
    { kind: 'reasoning' as const, text: reasoning },
    { kind: 'content' as const, text: content },
  ];
  return [...texts.filter(({ text }) => text !== ''), ...toolCalls.map((call) => ({ kind: 'call' as const, call }))];
}

function message(pieces: readonly Piece[], omitThinking: boolean) {
  const builder = new MessageBuilder({ id: 'msg_1', model: 'm', promptTokens: 5, omitThinking, cutByContext: false });
  const deltas: ChoiceDelta[] = pieces.map((piece) => ({
    parts: partsOf(piece),
    tokens: [],
    finish: null,
    stopReason: null,
  }));
  const events = [...builder.begin(COUNTS), ...deltas.flatMap((delta) => builder.add(delta)), ...builder.end(COUNTS)];
  return { events, whole: builder.whole(COUNTS) };
}

test('events of a message add up, for the official client, to the message, however the text was cut', async () => {
  await fc.assert(
    fc.asyncProperty(transcripts, fc.boolean(), async ([parts, sizes], omitThinking) => {
      const { events, whole } = message(piecesOf(parts, sizes), omitThinking);
      assert.deepEqual(whole, message(uncut(parts), omitThinking).whole);
      const final: Anthropic.Message = await MessageStream.fromReadableStream(
        lines(events.filter(({ type }) => type !== 'ping')),
      ).finalMessage();
      const { content, usage, stop_reason: reason } = JSON.parse(JSON.stringify(final)) as Anthropic.Message;
      assert.deepEqual({ content, usage, reason }, { content: whole.content, usage: whole.usage, reason: 'end_turn' });
    }),
    { numRuns: 60 },
  );
});
