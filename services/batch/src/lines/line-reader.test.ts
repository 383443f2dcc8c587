import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Line, readLines } from './line-reader.ts';

async function* inChunks(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function linesOf(text: string, size: number, maxLineBytes = 1000): Promise<Line[]> {
  return (await Readable.from(readLines(inChunks(Buffer.from(text), size), maxLineBytes)).toArray()) as Line[];
}

test('lines do not depend on how the bytes come', async () => {
  const lines = fc.array(fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => text.replaceAll('\n', '')));
  await fc.assert(
    fc.asyncProperty(lines, fc.integer({ min: 1, max: 9 }), fc.boolean(), async (texts, size, ended) => {
      const whole = texts.join('\n') + (ended ? '\n' : '');
      const wanted = texts.flatMap((text, i) => (text.trim() === '' ? [] : [{ place: i + 1, text }]));
      const found = await linesOf(whole, size);
      assert.deepEqual(
        found,
        wanted.map((line, number) => ({ number, ...line })),
      );
    }),
  );
});

test('a line that is too long is told and not kept', async () => {
  const found = await linesOf(`short\n${'x'.repeat(50)}\nend`, 7, 10);
  assert.deepEqual(
    found.map(({ place, text }) => [place, text]),
    [
      [1, 'short'],
      [2, null],
      [3, 'end'],
    ],
  );
});

test('what is not UTF-8 is refused with the line', async () => {
  const bytes = Buffer.concat([Buffer.from('fine\n'), Buffer.from([0xff, 0xfe])]);
  await assert.rejects(Readable.from(readLines(inChunks(bytes, 3), 100)).toArray(), /line 2 is not UTF-8/);
});
