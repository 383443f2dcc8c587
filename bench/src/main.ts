/**
 * The developers' bench harness: `npm run bench -- SUITE [options]`, described in docs/bench.md. Progress goes to
 * stderr; with `--json` stdout is one object `{schema, suite, machine, commit, rows}` and nothing else.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArguments, usage } from './arguments.ts';
import { Bandwidth } from './bandwidth.ts';
import { commitOf, machineOf } from './machine.ts';
import { ensureModels } from './models/ensure.ts';
import { SCHEMA, save, text, type Report } from './output.ts';
import { Progress } from './progress.ts';
import { Recorder } from './recorder.ts';
import type { BenchRow } from './report.ts';
import type { Suite } from './suite.ts';
import { SUITES } from './suites.ts';

const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));

async function runSuite(
  suite: Suite,
  parsed: Exclude<ReturnType<typeof parseArguments>, string>,
  attached: Map<string, Buffer>,
): Promise<Report> {
  const { options } = parsed;
  const progress = new Progress();
  const machine = machineOf(options.threads);
  const commit = commitOf(ROOT);
  const recorder = new Recorder({ suite: suite.name, commit, options, only: parsed.only, resume: parsed.resume });
  const { wants, add } = recorder;
  const rows = (): BenchRow[] => recorder.rows();
  const attach = (name: string, data: Buffer): void => {
    attached.set(name, data);
    mkdirSync(resolve(ROOT, '.guildhall'), { recursive: true });
    writeFileSync(resolve(ROOT, '.guildhall', `bench-${suite.name}-${name}`), data);
  };
  await suite.run({ options, machine, progress, bandwidth: new Bandwidth(), wants, add, rows, attach });
  return { schema: SCHEMA, suite: suite.name, machine, commit, rows: recorder.rows() };
}

async function main(): Promise<number> {
  const parsed = parseArguments(process.argv.slice(2), ROOT);
  if (typeof parsed === 'string') {
    process.stderr.write(`${parsed}\n${usage()}`);
    return 2;
  }
  if (parsed.suite === 'models') {
    ensureModels(parsed.options, new Progress());
    return 0;
  }
  const suite = SUITES.find(({ name }) => name === parsed.suite) as Suite;
  const attached = new Map<string, Buffer>();
  const report = await runSuite(suite, parsed, attached);
  process.stdout.write(parsed.json ? `${JSON.stringify(report)}\n` : text(report));
  if (parsed.save) {
    const date = new Date().toISOString().slice(0, 10);
    const path = save(report, resolve(ROOT, 'bench', 'results'), date);
    for (const [name, data] of attached) writeFileSync(`${path}-${name}`, data);
    process.stderr.write(
      `kept ${path}${['.{json,md}', ...[...attached.keys()].map((name) => `-${name}`)].join(', ')}\n`,
    );
  }
  return 0;
}

process.exitCode = await main();
