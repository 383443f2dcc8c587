/**
 * Runs suites of `suites.ts` one after the other and closes with `N passed, N failed`.
 *
 *   node scripts/run-suites.ts SET_OR_SUITE... [-- EXTRA TEST RUNNER FLAGS]
 */
import { spawn } from 'node:child_process';
import { appendFileSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SETS, SUITES, type Suite } from './suites.ts';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const extra = process.argv.includes('--') ? process.argv.slice(process.argv.indexOf('--') + 1) : [];
const names = process.argv.slice(2, process.argv.includes('--') ? process.argv.indexOf('--') : undefined);
const scratch = mkdtempSync(join(tmpdir(), 'guildhall-suites-'));

/** Exit code of a command; its output is passed through, and kept for counting where asked. */
function command(argv: string[], limitSeconds: number, keep = false): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const [program = '', ...args] = argv;
    const child = spawn(program, args, { stdio: ['ignore', keep ? 'pipe' : 'inherit', 'inherit'] });
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      process.stdout.write(chunk);
    });
    const timer = setTimeout(() => {
      process.stdout.write(`over its limit of ${limitSeconds} s: ended\n`);
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), 10_000).unref();
    }, limitSeconds * 1000);
    child.once('error', (error) => {
      process.stdout.write(`${program}: ${error.message}\n`);
      resolve({ code: 127, output });
    });
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 1, output });
    });
  });
}

async function runNode(suite: Suite, limit: number): Promise<Counts> {
  const left = new Set((suite.except ?? []).flatMap((pattern) => globSync(pattern)));
  const files = suite.run
    .flatMap((pattern) => globSync(pattern))
    .filter((file) => !left.has(file))
    .sort();
  if (files.length === 0) {
    process.stdout.write(`no test file matches ${suite.run.join(' ')}\n`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const countFile = join(scratch, `${suite.name}.json`);
  const { code } = await command(
    [
      ...(suite.within ?? []),
      process.execPath,
      '--test',
      `--test-concurrency=${suite.concurrency ?? 2}`,
      `--test-timeout=${(suite.testSeconds ?? 300) * 1000}`,
      '--test-reporter=spec',
      '--test-reporter-destination=stdout',
      '--test-reporter=./scripts/count-reporter.ts',
      `--test-reporter-destination=${countFile}`,
      ...extra,
      ...files,
    ],
    limit,
  );
  let counts: Counts;
  try {
    counts = JSON.parse(readFileSync(countFile, 'utf8')) as Counts;
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
  // A run that ended badly without naming a failed test must not look like a success.
  if (code !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

async function runCtest(suite: Suite, limit: number): Promise<Counts> {
  const { code, output } = await command(
    ['ctest', '--test-dir', suite.run[0] ?? '', '--output-on-failure', '-j', '2'],
    limit,
    true,
  );
  const match = /(\d+) tests failed out of (\d+)/.exec(output);
  if (match === null) return { passed: 0, failed: 1, skipped: 0 };
  const failed = Number(match[1]);
  return { passed: Number(match[2]) - failed, failed: code !== 0 && failed === 0 ? 1 : failed, skipped: 0 };
}

async function runSuite(suite: Suite): Promise<Counts> {
  const limit = suite.budgetSeconds * 3;
  for (const argv of suite.before ?? []) {
    const { code } = await command(argv, limit);
    if (code !== 0) return { passed: 0, failed: 1, skipped: 0 };
  }
  if (suite.kind === 'node') return runNode(suite, limit);
  if (suite.kind === 'ctest') return runCtest(suite, limit);
  const { code } = await command(suite.run, limit);
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
}

const wanted = names.flatMap((name) => SETS[name] ?? [name]);
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const summary: string[] = [];
for (const name of wanted) {
  const suite = SUITES.find((candidate) => candidate.name === name);
  if (suite === undefined) {
    process.stderr.write(`no suite or set named '${name}'; sets: ${Object.keys(SETS).join(' ')}\n`);
    process.exit(2);
  }
  process.stdout.write(`\n── ${suite.name}: ${suite.about} (budget ${suite.budgetSeconds} s)\n`);
  const started = process.hrtime.bigint();
  const counts = await runSuite(suite);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  const skipped = counts.skipped === 0 ? '' : `, ${counts.skipped} skipped`;
  summary.push(
    `${counts.failed === 0 ? '✓' : '✗'} ${suite.name.padEnd(14)} ${counts.passed} passed, ${counts.failed} failed${skipped}; ${seconds.toFixed(1)} s of ${suite.budgetSeconds} s`,
  );
}
rmSync(scratch, { recursive: true, force: true });
process.stdout.write(`\n${summary.join('\n')}\n\n`);
const resultsFile = process.env['GUILDHALL_RESULTS_FILE'];
if (resultsFile !== undefined) appendFileSync(resultsFile, `${JSON.stringify(total)}\n`);
const skipped = total.skipped === 0 ? '' : `, ${total.skipped} skipped`;
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
process.exitCode = total.failed === 0 ? 0 : 1;
