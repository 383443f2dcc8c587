import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isGuildhallError } from '@guildhall/common';
import { assertFails } from '../../testing/errors.ts';
import { temporaryDirectory } from '../../testing/random-checkpoint.ts';
import { encodeSafetensors, safetensorsBytes } from '../../testing/safetensors-writer.ts';
import { SafetensorsFile } from './file.ts';

const GOOD = encodeSafetensors([
  { name: 'a', dtype: 'F32', shape: [2, 3], data: Uint8Array.from({ length: 24 }, (_, i) => i) },
  { name: 'empty', dtype: 'BF16', shape: [0, 4], data: new Uint8Array(0) },
  { name: 'é"\n', dtype: 'U8', shape: [], data: Uint8Array.of(7) },
]);

function openBytes(bytes: Uint8Array): SafetensorsFile {
  using dir = temporaryDirectory();
  const path = join(dir.path, 'model.safetensors');
  writeFileSync(path, bytes);
  return SafetensorsFile.open(path, null);
}

test('a well-formed file gives its tensors in the order of their data', () => {
  using dir = temporaryDirectory();
  const path = join(dir.path, 'model.safetensors');
  writeFileSync(path, GOOD);
  const file = SafetensorsFile.open(path, null);
  assert.deepEqual(
    file.entries
      .map(({ name, dtype, shape, begin, end }) => [name, dtype, shape, end - begin])
      .map((row) => JSON.stringify(row)),
    ['["a","F32",[2,3],24]', '["empty","BF16",[0,4],0]', '["é\\"\\n","U8",[],1]'],
  );
  const [first] = file.entries;
  assert.deepEqual(file.bytes((first?.begin ?? 0) + 4, (first?.begin ?? 0) + 8), Uint8Array.of(4, 5, 6, 7));
  assert.equal(file.size, GOOD.length);
});

test('spaces after the header and between its parts are accepted', () => {
  const header = ' { "a" : { "dtype":"U8", "data_offsets":[ 0 , 1 ] ,"shape":[1] } }   ';
  // The first byte must open the object.
  assert.equal(openBytes(safetensorsBytes(header.trimStart(), Uint8Array.of(1))).entries.length, 1);
});

const entry = (dtype: string, shape: string, offsets: string): string =>
  `{"dtype":${JSON.stringify(dtype)},"shape":${shape},"data_offsets":${offsets}}`;
const one = (dtype: string, shape: string, offsets: string): string => `{"t":${entry(dtype, shape, offsets)}}`;

const HOSTILE: [title: string, bytes: Uint8Array, ...parts: string[]][] = [
  ['empty file', Buffer.alloc(0), 'found 0 bytes'],
  ['seven bytes', Buffer.alloc(7), 'found 7 bytes'],
  ['huge header length', Buffer.alloc(16, 0xff), 'header length is 18446744073709551615'],
  ['zero header length', Buffer.alloc(16), 'header length is 0'],
  ['header longer than the file', GOOD.subarray(0, 40), 'truncated'],
  ['data cut in half', GOOD.subarray(0, GOOD.length - 10), 'tensor a', 'truncated'],
  [
    'a byte too much',
    Buffer.concat([GOOD, Buffer.alloc(1)]),
    `found ${GOOD.length + 1} bytes, expected ${GOOD.length}`,
  ],
  ['no JSON', safetensorsBytes('hello'), 'expected "{"'],
  ['a list', safetensorsBytes('[]'), 'expected "{"'],
  [
    'invalid UTF-8',
    safetensorsBytes('') && Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from([0x7b, 0xff])]),
    'UTF-8',
  ],
  ['text after the header', safetensorsBytes('{} x'), 'the end of the header'],
  ['deep nesting', safetensorsBytes(`{"t":${'['.repeat(100_000)}`), 'header'],
  [
    'name twice',
    safetensorsBytes(`{"t":${entry('U8', '[0]', '[0,0]')},"t":${entry('U8', '[0]', '[0,0]')}}`),
    'tensor t',
    'twice',
  ],
  [
    'key twice',
    safetensorsBytes('{"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    'tensor t',
    '"dtype"',
  ],
  ['unknown key', safetensorsBytes('{"t":{"dtype":"U8","evil":1}}'), 'tensor t', '"evil"'],
  ['missing offsets', safetensorsBytes('{"t":{"dtype":"U8","shape":[0]}}'), 'tensor t', 'data_offsets'],
  ['__proto__ as a tensor without parts', safetensorsBytes('{"__proto__":{}}'), 'tensor __proto__'],
  ['unknown dtype', safetensorsBytes(one('F99', '[0]', '[0,0]')), 'tensor t', 'unknown dtype "F99"'],
  ['dtype from the prototype', safetensorsBytes(one('constructor', '[0]', '[0,0]')), 'tensor t', 'unknown dtype'],
  ['negative size', safetensorsBytes(one('U8', '[-1]', '[0,0]')), 'expected an integer'],
  ['fractional size', safetensorsBytes(one('U8', '[1.5]', '[0,0]')), 'expected an integer'],
  ['exponent', safetensorsBytes(one('U8', '[1e3]', '[0,0]')), 'expected an integer'],
  ['size beyond exact integers', safetensorsBytes(one('U8', '[99999999999999999999]', '[0,0]')), 'expected an integer'],
  [
    'product beyond exact integers',
    safetensorsBytes(one('F32', '[9007199254740991,9007199254740991]', '[0,0]')),
    'tensor t',
    'whole bytes',
  ],
  ['product that wraps to the size', safetensorsBytes(one('U8', '[4294967296,4294967296]', '[0,0]')), 'tensor t'],
  ['rank 17', safetensorsBytes(one('U8', `[${'1,'.repeat(16)}1]`, '[0,1]'), Uint8Array.of(1)), 'at most 16'],
  ['three offsets', safetensorsBytes(one('U8', '[0]', '[0,0,0]')), 'at most 2'],
  ['one offset', safetensorsBytes(one('U8', '[0]', '[0]')), 'tensor t', '[begin, end]'],
  ['end before begin', safetensorsBytes(one('U8', '[1]', '[1,0]'), Uint8Array.of(1)), 'tensor t', 'begin <= end'],
  [
    'size against shape',
    safetensorsBytes(one('F32', '[2]', '[0,4]'), new Uint8Array(4)),
    'tensor t',
    'found 4 bytes',
    'expected 8',
  ],
  ['half a byte', safetensorsBytes(one('F4', '[1]', '[0,1]'), new Uint8Array(1)), 'tensor t', 'whole bytes'],
  ['data past the end', safetensorsBytes(one('U8', '[9]', '[0,9]'), new Uint8Array(4)), 'tensor t', 'truncated'],
  ['gap', safetensorsBytes(one('U8', '[1]', '[3,4]'), new Uint8Array(4)), 'tensor t', '3 unused bytes'],
  [
    'overlap',
    safetensorsBytes(`{"t":${entry('U8', '[4]', '[0,4]')},"u":${entry('U8', '[2]', '[2,4]')}}`, new Uint8Array(4)),
    'tensor u',
    'overlaps',
  ],
  ['metadata that is no text', safetensorsBytes('{"__metadata__":{"a":1}}'), 'a string'],
  ['endless string', safetensorsBytes(`{"${'a'.repeat(1_000_000)}`), 'a string'],
  ['control character', safetensorsBytes('{"a\nb":{}}'), 'a string'],
  ['bad escape', safetensorsBytes('{"a\\q":{}}'), 'a string'],
];

for (const [title, bytes, ...parts] of HOSTILE) {
  test(`refused: ${title}`, () =>
    assertFails(() => openBytes(bytes), 'checkpoint_invalid', 'model.safetensors', ...parts));
}

test('what is no file is refused', () => {
  using dir = temporaryDirectory();
  assertFails(() => SafetensorsFile.open(join(dir.path, 'x'), null), 'checkpoint_not_found', 'x: no such file');
  mkdirSync(join(dir.path, 'd'));
  assertFails(() => SafetensorsFile.open(join(dir.path, 'd'), null), 'checkpoint_invalid', 'no regular file');
});

test('a file that changed its size since it was opened is refused', () => {
  using dir = temporaryDirectory();
  const path = join(dir.path, 'model.safetensors');
  writeFileSync(path, GOOD);
  const file = SafetensorsFile.open(path, null);
  writeFileSync(path, GOOD.subarray(0, 100));
  assertFails(() => file.bytes(0, 4), 'checkpoint_invalid', 'had');
});

test('mutated files open or fail with a GuildhallError, and what opens stays inside the file', () => {
  const change = fc.record({ at: fc.nat(GOOD.length - 1), value: fc.nat(255) });
  const mutation = fc.tuple(
    fc.array(change, { maxLength: 6 }),
    fc.option(fc.nat(GOOD.length)),
    fc.uint8Array({ maxLength: 20 }),
  );
  fc.assert(
    fc.property(mutation, ([changes, cut, tail]) => {
      const bytes = Buffer.from(GOOD);
      for (const { at, value } of changes) bytes[at] = value;
      const mutated = Buffer.concat([cut === null ? bytes : bytes.subarray(0, cut), tail]);
      try {
        for (const { begin, end } of openBytes(mutated).entries) {
          assert.ok(begin >= 8 && begin <= end && end <= mutated.length);
        }
      } catch (err) {
        assert.ok(isGuildhallError(err), String(err));
        assert.equal(err.code, 'checkpoint_invalid');
      }
    }),
    { numRuns: 2000 },
  );
});
