import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parse } from 'yaml';

const MAIN = join(import.meta.dirname, '../main.ts');

interface Ran {
  code: number;
  out: string;
  err: string;
}

function plan(...args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, 'plan', ...args], (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

describe('guildhall plan', () => {
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-plan-'));
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('prints a table for people, and the formulas when asked', async () => {
    const { code, out } = await plan('--model', 'tiny', '--machine', 'kind=laptop', '--explain');
    assert.equal(code, 0);
    for (const part of ['What runs where', 'Memory', 'Predicted', 'between tokens', 'step = 8 layers']) {
      assert.ok(out.includes(part), part);
    }
    assert.doesNotMatch(out, /NaN|Infinity|undefined/);
  });

  it('prints one object for programs, and writes the values of the chart beside it', async () => {
    const values = join(dir, 'values.yaml');
    const machines = join(dir, 'machines.yaml');
    writeFileSync(machines, 'machines:\n  - { kind: cpu-12ch, count: 4, price: 2 }\n');
    const flags = ['--model', 'qwen3.5-35b-a3b', '--machines', machines, '--weights', 'q8', '--experts', 'remote'];
    const { code, out } = await plan(...flags, '--json', '--values', values);
    assert.equal(code, 0);
    const report = JSON.parse(out) as {
      meets: boolean;
      model: { expertBytes: number };
      chosen: { routers: { count: number }; cost: { perHour: number } };
      values: string;
    };
    assert.equal(report.meets, true);
    assert.equal(report.model.expertBytes, 3_244_032);
    const written = parse(readFileSync(values, 'utf8')) as { router: { replicas: number } };
    assert.equal(written.router.replicas, report.chosen.routers.count);
    assert.equal(readFileSync(values, 'utf8'), report.values);
  });

  it('ends with 1 where nothing does what was asked, and says what is missing', async () => {
    const { code, out } = await plan('--model', 'qwen3.5-397b-a17b', '--machine', 'kind=l4,count=2');
    assert.equal(code, 1);
    assert.match(out, /DOES NOT DO/);
    assert.match(out, /fatal: .*\n\s+-> /);
  });

  it('names the flag that it cannot read', async () => {
    const { code, err } = await plan('--machine', 'kind=nothing');
    assert.notEqual(code, 0);
    assert.match(err, /kind nothing is none of h100/);
  });

  it('lists shapes and machines without planning', async () => {
    const { code, out } = await plan('--list', '--json');
    assert.equal(code, 0);
    const { models, machines } = JSON.parse(out) as { models: { name: string }[]; machines: { source: string }[] };
    assert.ok(models.some(({ name }) => name === 'qwen3.5-397b-a17b'));
    assert.ok(machines.every(({ source }) => source.length > 10));
  });
});
