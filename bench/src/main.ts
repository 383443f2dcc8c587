/**
 * The developers' bench harness: `npm run bench -- SUITE [--json] [--model DIR] [--threads N]`.
 * Progress goes to stderr; with `--json` stdout is one object `{schema, machine, commit, rows}` and nothing else.
 */
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { WEIGHT_FORMATS } from '@guildhall/model/weights';
import { engineSuite } from './engine.ts';
import type { BenchOptions, BenchRow, Machine } from './report.ts';

const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));
const SUITES: Record<string, (options: BenchOptions) => Promise<BenchRow[]>> = { engine: engineSuite };

function machine(threads: number): Machine {
  const [first] = cpus();
  return { cpu: first?.model.trim() ?? 'unknown', cores: cpus().length, threads, node: process.version };
}

function commit(): string {
  try {
    const git = (args: string[]): string => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
    return `${git(['rev-parse', '--short', 'HEAD'])}${git(['status', '--porcelain']) === '' ? '' : '+changes'}`;
  } catch {
    return 'unknown';
  }
}

function printTable(rows: BenchRow[]): void {
  const width = Math.max(...rows.map(({ name }) => name.length));
  for (const { name, value, unit, spread } of rows) {
    process.stdout.write(
      `${name.padEnd(width)}  ${value.toFixed(1).padStart(10)} ${unit.padEnd(10)} ± ${(spread * 100).toFixed(0)} %\n`,
    );
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    model: { type: 'string', default: join(ROOT, 'models', 'tiny') },
    threads: { type: 'string', default: '2' },
    weights: { type: 'string', default: 'bf16' },
    runs: { type: 'string', default: '5' },
  },
});
const [name = ''] = positionals;
const suite = SUITES[name];
if (suite === undefined) {
  process.stderr.write(
    `usage: npm run bench -- SUITE [--json] [--model DIR] [--threads N]; suites: ${Object.keys(SUITES).join(' ')}\n`,
  );
  process.exit(2);
}
const options: BenchOptions = {
  model: resolve(values.model),
  threads: Number(values.threads),
  weights: WEIGHT_FORMATS.find((format) => format === values.weights) ?? 'bf16',
  runs: Number(values.runs),
};
const rows = await suite(options);
const about = machine(options.threads);
if (values.json) process.stdout.write(`${JSON.stringify({ schema: 1, machine: about, commit: commit(), rows })}\n`);
else {
  process.stdout.write(
    `${about.cpu}, ${about.cores} cores, ${about.threads} threads, ${about.node}, commit ${commit()}\n`,
  );
  printTable(rows);
}
