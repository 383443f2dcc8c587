import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { Bandwidth } from '../bandwidth.ts';
import { machineOf } from '../machine.ts';
import { Progress } from '../progress.ts';
import type { BenchRow } from '../report.ts';
import { randomBf16 } from '../subjects/random-pages.ts';
import { depthName, depthsOf } from './depths.ts';
import { longcontextSuite } from './suite.ts';

test('random K and V are seeded, finite, of either sign and near one', () => {
  const bytes = randomBf16(4096, 3);
  assert.deepEqual(randomBf16(4096, 3), bytes);
  assert.notDeepEqual(randomBf16(4096, 4), bytes);
  const wide = Uint32Array.from(new Uint16Array(bytes.buffer), (half) => half << 16);
  const values = [...new Float32Array(wide.buffer)];
  assert.ok(values.every((value) => Math.abs(value) >= 0.25 && Math.abs(value) < 1));
  assert.ok(values.some((value) => value < 0) && values.some((value) => value > 0));
});

test('small models: a rate for each depth up to 32K, the ratio of the two, and two pictures', async () => {
  const modelsDir = mkdtempSync(join(tmpdir(), 'guildhall-longcontext-'));
  const rows: BenchRow[] = [];
  const pictures = new Map<string, Buffer>();
  try {
    const root = resolve(import.meta.dirname, '../../..');
    await longcontextSuite.run({
      options: {
        root,
        modelsDir,
        size: 'small',
        models: ['qwen35moe', 'qwen3moe'],
        threads: 1,
        runs: 1,
        weights: null,
        peer: false,
        llamaBench: null,
      },
      machine: machineOf(1),
      progress: new Progress(),
      bandwidth: new Bandwidth(),
      wants: (name) => !name.includes('/tiny/'),
      add: (row) => rows.push(row),
      rows: () => [],
      attach: (name, data) => pictures.set(name, data),
    });
  } finally {
    rmSync(modelsDir, { recursive: true, force: true });
  }
  const depths = depthsOf('small');
  assert.equal(depths.at(-1), 32_768);
  const expected = ['qwen35moe', 'qwen3moe'].flatMap((model) =>
    depths.map((depth) => `longcontext/bf16/${model}/decode-${depthName(depth)}`),
  );
  assert.deepEqual(
    rows.map(({ name }) => name),
    [...expected, 'longcontext/bf16/hybrid-over-twin-32K'],
  );
  for (const { name, value, ratio } of rows)
    assert.ok(value !== null && value > 0 && ratio !== null && ratio > 0, name);
  assert.deepEqual([...pictures.keys()], ['bf16-rate.png', 'bf16-relative.png']);
  for (const png of pictures.values()) assert.equal(png.subarray(1, 4).toString(), 'PNG');
});
