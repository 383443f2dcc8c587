import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import tokenizers from 'tokenizers';
import { assertFails } from '../testing/errors.ts';
import { temporaryDirectory } from '../testing/random-checkpoint.ts';
import { IncrementalDetokenizer } from './detokenizer.ts';
import { Tokenizer, tokenizerSize } from './tokenizer.ts';

const TINY = join(import.meta.dirname, '../../../../models/tiny');
const tokenizer = Tokenizer.load(TINY);
const reference = tokenizers.Tokenizer.fromFile(join(TINY, 'tokenizer.json'));

const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc
    .array(
      fc.constantFrom(
        ' ',
        '  ',
        '\n',
        '\ufeff',
        '\ufffd',
        '\0',
        '<think>',
        '<|im_end|>',
        'é',
        '👩‍👩‍👧',
        'hello',
        '<|im',
        '\r\n',
      ),
      { maxLength: 20 },
    )
    .map((parts) => parts.join('')),
);
const anyIds = fc.array(fc.nat(tokenizer.size + 50), { maxLength: 60 });

function stream(ids: Iterable<number>, skipSpecial = false): string[] {
  const detokenizer = new IncrementalDetokenizer(tokenizer, { skipSpecial });
  return [...Array.from(ids, (id) => detokenizer.push(id)), detokenizer.flush()];
}

test('ids equal those of the Rust core and decode to the text', async () => {
  await fc.assert(
    fc.asyncProperty(text, async (input) => {
      const ids = await tokenizer.encode(input);
      const expected = await reference.encode(input, null, { addSpecialTokens: false });
      assert.deepEqual([...ids], expected.getIds());
      assert.equal(tokenizer.decode(ids), input.normalize('NFC').toWellFormed());
    }),
    { numRuns: 500 },
  );
});

test('any ids decode to what the Rust core gives, with and without special tokens', async () => {
  await fc.assert(
    fc.asyncProperty(anyIds, fc.boolean(), async (ids, skipSpecial) => {
      assert.equal(tokenizer.decode(ids, { skipSpecial }), await reference.decode(ids, skipSpecial));
    }),
    { numRuns: 1000 },
  );
});

test('the pieces of a stream join to the decoded whole, whatever the ids', () => {
  fc.assert(
    fc.property(anyIds, fc.boolean(), (ids, skipSpecial) => {
      const pieces = stream(ids, skipSpecial);
      assert.equal(pieces.join(''), tokenizer.decode(ids, { skipSpecial }));
      assert.deepEqual(stream(ids, skipSpecial), pieces);
    }),
    { numRuns: 2000 },
  );
});

test('byte tokens cut anywhere: no piece ends within a character and none shows a replacement character', () => {
  const idOfByte = new Map<number, number>();
  for (let id = 0; id < tokenizer.size; id++) {
    const bytes = tokenizer.tokenBytes(id);
    if (bytes.length === 1 && !idOfByte.has(bytes[0] as number)) idOfByte.set(bytes[0] as number, id);
  }
  assert.equal(idOfByte.size, 256, 'the vocabulary has a token for each byte');
  fc.assert(
    fc.property(text, (input) => {
      const whole = input.toWellFormed();
      const ids = Array.from(Buffer.from(whole), (byte) => idOfByte.get(byte) as number);
      const pieces = stream(ids);
      assert.equal(pieces.join(''), whole);
      assert.ok(pieces.every((piece) => piece.isWellFormed()));
      // One piece for each character, given with its last byte.
      assert.deepEqual(
        pieces.filter((piece) => piece !== ''),
        Array.from(whole),
      );
    }),
    { numRuns: 1000 },
  );
});

test('bytes that can no longer become a character turn into U+FFFD at once, unfinished ones at the end', () => {
  const byte = (value: number): number => {
    for (let id = 0; id < tokenizer.size; id++) {
      const bytes = tokenizer.tokenBytes(id);
      if (bytes.length === 1 && bytes[0] === value) return id;
    }
    return assert.fail(`no token for byte ${value}`);
  };
  const euro = [byte(0xe2), byte(0x82)];
  assert.deepEqual(stream([...euro, byte(0xac)]), ['', '', '€', '']);
  assert.deepEqual(stream([...euro, byte(0x41)]), ['', '', '\ufffdA', '']);
  assert.deepEqual(stream(euro), ['', '', '\ufffd']);
  assert.deepEqual(stream([byte(0xff), byte(0x41)]), ['\ufffd', 'A', '']);
});

test('special tokens are left out on request, thinking and tool calls never', async () => {
  const ids = await tokenizer.encode('<|im_start|>a<think>b</think><tool_call>c</tool_call><|im_end|>');
  const left = 'a<think>b</think><tool_call>c</tool_call>';
  assert.equal(tokenizer.decode(ids, { skipSpecial: true }), left);
  assert.equal(stream(ids, true).join(''), left);
  assert.equal(stream(ids).join(''), `<|im_start|>${left}<|im_end|>`);
});

test('tokens and ids name each other; ids without a token are nothing', () => {
  for (const token of ['<|im_end|>', '<think>', 'Ġthe']) {
    const id = tokenizer.tokenToId(token);
    assert.ok(id !== null && id < tokenizer.size, token);
    assert.equal(tokenizer.idToToken(id), token);
  }
  assert.equal(tokenizer.tokenToId('no such token'), null);
  for (const id of [tokenizer.size, -1, 0.5]) {
    assert.equal(tokenizer.idToToken(id), null);
    assert.equal(tokenizer.decode([id]), '');
  }
  assert.equal(tokenizer.size, reference.getVocabSize(true));
  assert.equal(tokenizerSize(TINY), tokenizer.size);
});

test('files that are missing, damaged or of another kind are refused by name', () => {
  using dir = temporaryDirectory();
  const path = join(dir.path, 'tokenizer.json');
  assertFails(() => Tokenizer.load(dir.path), 'checkpoint_not_found', path);
  const good = JSON.parse(readFileSync(join(TINY, 'tokenizer.json'), 'utf8')) as Record<string, unknown>;
  const model = good['model'] as Record<string, unknown>;
  const damaged: [value: unknown, ...parts: string[]][] = [
    [[], 'expected a JSON object'],
    [{ ...good, decoder: { type: 'WordPiece' } }, 'decoder', 'ByteLevel'],
    [{ ...good, decoder: null }, 'decoder', 'null'],
    [{ ...good, model: null }, 'model.vocab'],
    [{ ...good, model: { ...model, vocab: { a: -1 } } }, '"a"', '-1'],
    [{ ...good, model: { ...model, vocab: { a: 1e12 } } }, '1000000000000'],
    [{ ...good, added_tokens: {} }, 'added_tokens'],
    [{ ...good, added_tokens: [{ id: 1 }] }, 'content and id'],
    [{ ...good, model: { ...model, type: 'Unknown' } }],
    [{ ...good, model: { ...model, merges: [['no', 'such']] } }],
  ];
  for (const [value, ...parts] of damaged) {
    writeFileSync(path, JSON.stringify(value));
    assertFails(() => Tokenizer.load(dir.path), 'checkpoint_invalid', path, ...parts);
  }
  writeFileSync(path, readFileSync(join(TINY, 'tokenizer.json')).subarray(0, 5000));
  assertFails(() => Tokenizer.load(dir.path), 'checkpoint_invalid', path, 'JSON');
});
