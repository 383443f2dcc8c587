import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { checksums, temporaryFolder, testBlob, testName } from '../../testing/store-rig.ts';
import { fileBytes, type PageFileInfo, type Parsed, readPageFile, readPageHeader, writePageFile } from './page-file.ts';

const { path: folder, remove } = temporaryFolder();
after(remove);
const SPACE = '0123456789abcdef';
const OTHER = 'fedcba9876543210';
const path = join(folder, 'file');

async function write(blob = testBlob('a', 3000), space = SPACE): Promise<void> {
  const file = await open(path, 'w');
  await writePageFile(file, { info: blob, data: blob.data }, space, checksums);
  await file.close();
}

async function read<T>(how: (file: Awaited<ReturnType<typeof open>>) => Promise<Parsed<T>>): Promise<Parsed<T>> {
  const file = await open(path, 'r');
  try {
    return await how(file);
  } finally {
    await file.close();
  }
}

const readAll = (space = SPACE): Promise<Parsed<PageFileInfo & { data: Uint8Array }>> =>
  read((file) => readPageFile(file, space, checksums));
const readHeader = (space = SPACE): Promise<Parsed<PageFileInfo>> =>
  read((file) => readPageHeader(file, space, checksums));

test('what is written is read, whatever its size', async () => {
  const blob = fc.record({ size: fc.nat(5000), tokens: fc.nat(3000), value: fc.double({ noNaN: true, min: 0 }) });
  await fc.assert(
    fc.asyncProperty(blob, async ({ size, tokens, value }) => {
      const info = { ...testBlob('a', size, value), tokens: Int32Array.from({ length: tokens }, (_, i) => i - 5) };
      await write(info);
      const result = await readAll();
      assert.ok('value' in result);
      const { data, ...header } = result.value;
      const { data: expected, ...rest } = info;
      assert.deepEqual(header, rest);
      assert.equal(Buffer.compare(data, expected), 0);
      assert.deepEqual(await readHeader(), { value: header });
    }),
    { numRuns: 50 },
  );
});

test('a flipped bit anywhere is found', async () => {
  const size = 300;
  const length = fileBytes(64, size);
  await write(testBlob('a', size));
  const good = readFileSync(path);
  for (let at = 0; at < length; at += at < length - size ? 1 : 23) {
    const bytes = Buffer.from(good);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
    writeFileSync(path, bytes);
    assert.ok('fault' in (await readAll()), `byte ${at}`);
    // The data is none of the header's business.
    if (at % 16 === 0 || at >= length - size)
      assert.equal('fault' in (await readHeader()), at < length - size, `header with byte ${at}`);
  }
});

test('a file that ends anywhere before its end is truncated, one that goes on is corrupt', async () => {
  const length = fileBytes(64, 3000);
  for (const end of [0, 1, 50, 71, 72, 100, 327, 328, 332, 2000, length - 1]) {
    await write();
    await truncate(path, end);
    for (const result of [await readAll(), await readHeader()]) {
      assert.equal('fault' in result && result.fault, 'truncated', `${end} bytes`);
    }
  }
  await write();
  await truncate(path, length + 1);
  const result = await readAll();
  assert.equal('fault' in result && result.fault, 'corrupt');
});

test('files of others are refused: another model, another program', async () => {
  await write();
  for (const result of [await readAll(OTHER), await readHeader(OTHER)]) {
    assert.deepEqual(result, { fault: 'corrupt', detail: 'written by another model' });
  }
  await writeFile(path, Buffer.alloc(5000, 7));
  assert.deepEqual(await readAll(), { fault: 'corrupt', detail: 'not a file of the page cache' });
});

test('held bytes have a kind of their own', async () => {
  const data = new Uint8Array(10);
  const [checksum = 0] = await checksums([data]);
  const info = { kind: 'held', name: testName('x'), tokens: new Int32Array(0), size: 10, value: 0, checksum } as const;
  const file = await open(path, 'w');
  await writePageFile(file, { info, data }, SPACE, checksums);
  await file.close();
  const result = await readAll();
  assert.equal('value' in result && result.value.kind, 'held');
});
