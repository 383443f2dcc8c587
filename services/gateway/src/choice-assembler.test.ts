import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IncrementalDetokenizer } from '@guildhall/model/tokenizer';
import { router } from '@guildhall/proto';
import fc from 'fast-check';
import { ChoiceAssembler, type AssemblerOptions, type ChoiceDelta } from './choice-assembler.ts';
import { textOf } from './parsers/parser.ts';
import { createParser } from './parsers/registry.ts';
import { tinyAssets, tokensOf } from './testing/gateway-under-test.ts';
import { tokenKey, tokenText } from './token-text.ts';

const { tokenizer } = tinyAssets();

function assembler(options: Partial<AssemblerOptions> = {}): ChoiceAssembler {
  return new ChoiceAssembler({
    detokenizer: new IncrementalDetokenizer(tokenizer, { skipSpecial: true }),
    parser: createParser('none', false),
    stopStrings: [],
    includeStop: false,
    minTokens: 0,
    stopIds: new Set(),
    askedStopIds: new Set(),
    logprobs: false,
    thinkEndId: null,
    ...options,
  });
}

const token = (id: number, index: number): router.TokenEvent => ({ index, id, logprob: 0, top: [], expertMs: 0 });

function run(made: ChoiceAssembler, ids: readonly number[], finished: Partial<router.Finished> = {}): ChoiceDelta[] {
  const deltas = ids.map((id, index) => made.onToken(token(id, index)));
  deltas.push(made.onFinished(router.Finished.create({ completionTokens: ids.length, ...finished }), 'stop'));
  return deltas;
}

test('any token ids give well-formed pieces whose sum is the decoded text', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(tokenizer.size - 1), { maxLength: 60 }), (ids) => {
      const deltas = run(assembler(), ids);
      for (const delta of deltas) assert.ok(textOf(delta, 'content').isWellFormed());
      assert.equal(
        deltas.map((delta) => textOf(delta, 'content')).join(''),
        tokenizer.decode(ids, { skipSpecial: true }),
      );
    }),
  );
});

test('every logged token is handed out once, in order, with its place in the text', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(tokenizer.size - 1), { maxLength: 40 }), (ids) => {
      const tokens = run(assembler({ logprobs: true, stopStrings: ['zzz'] }), ids).flatMap((delta) => delta.tokens);
      assert.deepEqual(
        tokens.map(({ event }) => event.id),
        ids,
      );
      const decoder = new IncrementalDetokenizer(tokenizer, { skipSpecial: true });
      let offset = 0;
      for (const logged of tokens) {
        assert.equal(logged.offset, offset);
        offset += decoder.push(logged.event.id).length;
      }
    }),
  );
});

test('a stop token that turns out not to be the last is text', async () => {
  const ids = await tokensOf('One two three');
  const stop = ids[1] ?? 0;
  const text = (deltas: ChoiceDelta[]): string => deltas.map((delta) => textOf(delta, 'content')).join('');
  assert.equal(text(run(assembler({ stopIds: new Set([stop]) }), ids)), 'One two three');
  const last = ids.at(-1) ?? 0;
  const stopIds = new Set([last]);
  const cut = run(assembler({ stopIds, askedStopIds: stopIds }), ids, { stopTokenId: last });
  assert.equal(text(cut), tokenizer.decode(ids.slice(0, -1)));
  assert.equal(cut.at(-1)?.stopReason, last);
  assert.equal(text(run(assembler({ stopIds: new Set([last]), minTokens: ids.length }), ids)), 'One two three');
});

test('a router may leave the stop token out of its stream and still count it', async () => {
  const ids = await tokensOf('One two');
  const made = assembler({ stopIds: new Set([3000]) });
  const deltas = run(made, ids, { stopTokenId: 3000, completionTokens: ids.length + 1 });
  assert.equal(deltas.map((delta) => textOf(delta, 'content')).join(''), 'One two');
  assert.equal(deltas.at(-1)?.stopReason, null);
  assert.equal(made.counts.completionTokens, ids.length + 1);
});

test('single tokens show their bytes; parts of characters have keys of their own', async () => {
  const ids = await tokensOf('😀');
  assert.deepEqual(Buffer.from(ids.flatMap((id) => tokenText(tokenizer, id).bytes)).toString(), '😀');
  const keys = ids.map((id) => tokenKey(tokenizer, id));
  assert.ok(keys.some((key) => /^bytes:(\\x[0-9a-f]{2})+$/.test(key)));
  const all = Array.from({ length: tokenizer.size }, (_, id) => id).filter((id) => tokenizer.idToToken(id) !== null);
  assert.equal(new Set(all.map((id) => tokenKey(tokenizer, id))).size, all.length);
});
