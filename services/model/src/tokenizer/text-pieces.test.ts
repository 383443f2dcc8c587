import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import tokenizers from 'tokenizers';
import { canCut, endOfPiece, isCut, MAX_UNCUT, PIECE_LENGTH, SPLITS } from './text-pieces.ts';
import { Tokenizer } from './tokenizer.ts';

const TINY = join(import.meta.dirname, '../../../../models/tiny');
const tokenizer = Tokenizer.load(TINY);
const reference = tokenizers.Tokenizer.fromFile(join(TINY, 'tokenizer.json'));

async function expectedOf(text: string): Promise<number[]> {
  return (await reference.encode(text, null, { addSpecialTokens: false })).getIds();
}

/** What stands beside cuts: every class of the expression, what NFC joins, and tokens that are spelled out. */
const part = fc.constantFrom(
  ...[
    'a',
    'Bc',
    "'s",
    "'",
    '漢',
    '字',
    '，',
    '。',
    '、',
    '.',
    ',',
    ';',
    ':',
    '1',
    '23',
    ' ',
    '  ',
    '\n',
    '\r\n',
    '\n\n',
    '\t',
  ],
  ...[
    '\u0301',
    '\u0308',
    'é',
    '\u3099',
    '\u115f',
    '\u11a8',
    '각',
    '\u00a0',
    '\u0085',
    '\u2028',
    '\u3000',
    '\ufeff',
    '😀',
    '\ud83d',
  ],
  ...['<think>', '<|im_end|>', '<|im', '_end|>', '<tool_call>', '!', '-', '/', 'http://x.y/z', '\0'],
);
const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''));

test('the tokens of what is cut are those of the whole, at every cut', async () => {
  let cuts = 0;
  await fc.assert(
    fc.asyncProperty(text, async (whole) => {
      const expected = await expectedOf(whole);
      for (let at = 1; at < whole.length; at += 1) {
        if (!isCut(whole, at)) continue;
        cuts += 1;
        const pieces = [...(await expectedOf(whole.slice(0, at))), ...(await expectedOf(whole.slice(at)))];
        assert.deepEqual(pieces, expected, JSON.stringify([whole.slice(0, at), whole.slice(at)]));
      }
    }),
    { numRuns: 1000 },
  );
  assert.ok(cuts > 300, `${cuts} cuts`);
});

test('parts end at every cut by each of the expressions, whatever a vocabulary merges', () => {
  for (const source of SPLITS) {
    const split = new RegExp(String(source), 'gu');
    const partsOf = (piece: string): string[] => piece.normalize('NFC').match(split) ?? [];
    fc.assert(
      fc.property(text, (whole) => {
        const parts = partsOf(whole);
        for (let at = 1; at < whole.length; at += 1)
          if (isCut(whole, at))
            assert.deepEqual([...partsOf(whole.slice(0, at)), ...partsOf(whole.slice(at))], parts, `${at} of ${whole}`);
      }),
      { numRuns: 3000 },
    );
  }
});

test('a long text has the tokens that the Rust core gives it as a whole', async () => {
  const sample =
    'Grüße: 漢字，字。 x1y2 "it\'s", file.txt;\n\n  e\u0301 <think>\na</think> 1234 https://a.b/c?d=1\r\n\t\u3000';
  for (const long of [
    sample.repeat(2500),
    'QWxhZGRpbjpvcGVuIHNlc2FtZQ'.repeat(8000),
    ' '.repeat(200_000),
    `${'a'.repeat(90_000)} b`,
  ]) {
    assert.ok(long.length > PIECE_LENGTH);
    assert.deepEqual([...(await tokenizer.encode(long))], await expectedOf(long));
  }
});

test('pieces are short wherever there are words', () => {
  const words = 'some words and 漢字。\n'.repeat(20_000);
  for (let from = 0; from < words.length;) {
    const end = endOfPiece(words, from);
    assert.ok(end > from && end - from <= PIECE_LENGTH);
    from = end;
  }
});

test('nothing more is encoded when there are enough tokens, or nobody wants them', async () => {
  const long = 'word '.repeat(200_000);
  const some = await tokenizer.encode(long, { enough: 1000 });
  assert.ok(some.length > 1000 && some.length < 100_000);
  assert.deepEqual([...some], (await expectedOf(long)).slice(0, some.length));
  let asked = 0;
  await assert.rejects(tokenizer.encode(long, { gone: () => (asked += 1) === 3 }), { code: 'cancelled' });
  assert.equal(asked, 3);
  // The turn of the one that is gone is somebody else's.
  const all = await Promise.all([1, 2, 3, 4].map(async () => (await tokenizer.encode(long)).length));
  assert.equal(new Set(all).size, 1);
});

test('a text without the end of a word for too long is refused by its name', async () => {
  for (const run of [' '.repeat(MAX_UNCUT + 1), 'x'.repeat(8 << 20), `a b ${'='.repeat(2 << 20)}`]) {
    await assert.rejects(tokenizer.encode(run, { field: 'prompt' }), { code: 'invalid_value', field: 'prompt' });
  }
  assert.ok((await tokenizer.encode(' '.repeat(MAX_UNCUT))).length > 0);
});

test('a tokenizer that is not known is given texts as they are', () => {
  const root = JSON.parse(readFileSync(join(TINY, 'tokenizer.json'), 'utf8')) as {
    pre_tokenizer: { pretokenizers: [{ pattern: object }, object] };
    added_tokens: object[];
  };
  assert.equal(canCut(root), true);
  const { pretokenizers } = root.pre_tokenizer;
  const others: object[] = [
    { normalizer: { type: 'Lowercase' } },
    { pre_tokenizer: null },
    { pre_tokenizer: { type: 'Sequence', pretokenizers: [pretokenizers[0]] } },
    {
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [{ ...pretokenizers[0], pattern: { Regex: '.' } }, pretokenizers[1]],
      },
    },
    { added_tokens: [...root.added_tokens, { content: 'two words' }] },
    { added_tokens: [...root.added_tokens, { content: '<x>', rstrip: true }] },
  ];
  for (const other of others) assert.equal(canCut({ ...root, ...other }), false, JSON.stringify(other).slice(0, 100));
});
