import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LlamaBench } from './llama-bench.ts';

test('llama-bench is asked for one test and its average is taken; it cannot run many sequences', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-bench-'));
  try {
    const path = join(dir, 'llama-bench');
    const asked = join(dir, 'asked');
    const result = JSON.stringify([{ build_commit: 'abc', avg_ns: 1_500_000_000 }]);
    writeFileSync(path, `#!/bin/sh\necho "$@" >> '${asked}'\necho '${result}'\n`);
    chmodSync(path, 0o755);
    const bench = new LlamaBench(path, 'model.gguf', 2);
    assert.deepEqual(await bench.run({ kind: 'prefill', tokens: 512 }), { seconds: 1.5 });
    await bench.run({ kind: 'decode', depth: 8192, steps: 24 });
    assert.equal(await bench.prepare({ kind: 'batch', sequences: 16, depth: 64, steps: 8 }), 'unable');
    const [prompt = '', decode = ''] = readFileSync(asked, 'utf8').split('\n');
    assert.match(prompt, /^-m model\.gguf -t 2 .*-mmp 0 -o json -p 512 -n 0$/);
    assert.match(decode, /-p 0 -n 24 -d 8192$/);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
