import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT } from '../harness/service-process.ts';

interface Row {
  name: string;
  value: number | null;
  note: string | null;
}

/** Rows of the smallest run of the suite, on real processes; the figures themselves mean nothing. */
async function smallRun(): Promise<Map<string, Row>> {
  const args = ['prefix', '--size', 'small', '--runs', '1', '--models', 'qwen3moe', '--json'];
  const main = join(ROOT, 'bench', 'src', 'main.ts');
  const env = { ...process.env, NODE_NO_WARNINGS: '1' };
  const { stdout } = await promisify(execFile)(process.execPath, [main, ...args], { env, maxBuffer: 1 << 24 });
  const { rows } = JSON.parse(stdout) as { rows: Row[] };
  return new Map(rows.map((row) => [row.name, row]));
}

test('the bench of prefixes runs: every way to a first token hits what it should, and every set-up serves the trace', async () => {
  const rows = await smallRun();
  const value = (name: string): number => {
    const row = rows.get(`prefix/tiny/bf16/${name}`);
    assert.ok(row !== undefined, name);
    assert.ok(row.value !== null, `${name}: ${row.note}`);
    return row.value;
  };
  // A row has a value only where the router said that exactly the shared prefix came from a cache.
  for (const kind of ['cold', 'hit', 'http-hit', 'pull', 'host', 'disk']) assert.ok(value(`ttft/${kind}`) > 0, kind);
  for (const setup of ['off', 'one', 'round-robin', 'kv-aware']) {
    assert.ok(value(`trace/${setup}/output`) > 0);
    assert.equal(value(`trace/${setup}/hits`) > 0, setup !== 'off', setup);
  }
  assert.ok(value('trace/kv-aware/hits') >= value('trace/off/hits'));
});
