/**
 * Runs suites of `suites.ts` and closes with `N passed, N failed`: one after the other, or with `--together` side by
 * side where they leave the processor idle, each line after the name of its suite.
 *
 *   node scripts/run-suites.ts [--together] SET_OR_SUITE... [-- EXTRA TEST RUNNER FLAGS]
 */
import { spawn } from 'node:child_process';
import { appendFileSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { sideBySide } from './side-by-side.ts';
import { MACHINE_CORES, SETS, SUITES, type Suite } from './suites.ts';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const split = process.argv.includes('--') ? process.argv.indexOf('--') : process.argv.length;
const extra = process.argv.slice(split + 1);
const together = process.argv.slice(2, split).includes('--together');
const names = process.argv.slice(2, split).filter((name) => name !== '--together');
const scratch = mkdtempSync(join(tmpdir(), 'guildhall-suites-'));

/** Writes a line for a suite; suites that run side by side are told apart by their names. */
function say(suite: Suite, line: string): void {
  process.stdout.write(together ? `${suite.name.padEnd(12)} │ ${line}\n` : `${line}\n`);
}

/** Exit code and output of a command; what it prints goes on as it comes. */
function command(suite: Suite, argv: string[], limitSeconds: number): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const [program = '', ...args] = argv;
    // A terminal is kept where nobody has to tell suites apart: colours and progress bars.
    const piped = together || suite.kind === 'ctest';
    const child = spawn(program, args, { stdio: ['ignore', piped ? 'pipe' : 'inherit', piped ? 'pipe' : 'inherit'] });
    const lines: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      if (stream !== null)
        createInterface({ input: stream, crlfDelay: Infinity }).on('line', (line) => {
          if (suite.kind === 'ctest') lines.push(line);
          say(suite, line);
        });
    const timer = setTimeout(() => {
      say(suite, `over its limit of ${limitSeconds} s: ended`);
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), 10_000).unref();
    }, limitSeconds * 1000);
    child.once('error', (error) => {
      say(suite, `${program}: ${error.message}`);
      resolve({ code: 127, output: '' });
    });
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 1, output: lines.join('\n') });
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
    say(suite, `no test file matches ${suite.run.join(' ')}`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const countFile = join(scratch, `${suite.name}.json`);
  const { code } = await command(
    suite,
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
  const argv = ['ctest', '--test-dir', suite.run[0] ?? '', '--output-on-failure', '-j', '2'];
  const { code, output } = await command(suite, argv, limit);
  const match = /(\d+) tests failed out of (\d+)/.exec(output);
  if (match === null) return { passed: 0, failed: 1, skipped: 0 };
  const failed = Number(match[1]);
  return { passed: Number(match[2]) - failed, failed: code !== 0 && failed === 0 ? 1 : failed, skipped: 0 };
}

async function runSuite(suite: Suite): Promise<Counts> {
  const limit = suite.budgetSeconds * 3;
  for (const argv of suite.before ?? []) {
    const { code } = await command(suite, argv, limit);
    if (code !== 0) return { passed: 0, failed: 1, skipped: 0 };
  }
  if (suite.kind === 'node') return runNode(suite, limit);
  if (suite.kind === 'ctest') return runCtest(suite, limit);
  const { code } = await command(suite, suite.run, limit);
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
}

const wanted = names
  .flatMap((name) => SETS[name] ?? [name])
  .map((name) => {
    const suite = SUITES.find((candidate) => candidate.name === name);
    if (suite !== undefined) return suite;
    process.stderr.write(`no suite or set named '${name}'; sets: ${Object.keys(SETS).join(' ')}\n`);
    process.exit(2);
  });

/** Runs one suite and tells how it went. */
async function timed(suite: Suite): Promise<{ counts: Counts; line: string }> {
  process.stdout.write(together ? '' : '\n');
  say(suite, `── ${suite.name}: ${suite.about} (budget ${suite.budgetSeconds} s)`);
  const started = process.hrtime.bigint();
  const counts = await runSuite(suite);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const skipped = counts.skipped === 0 ? '' : `, ${counts.skipped} skipped`;
  const line = `${counts.failed === 0 ? '✓' : '✗'} ${suite.name.padEnd(14)} ${counts.passed} passed, ${counts.failed} failed${skipped}; ${seconds.toFixed(1)} s of ${suite.budgetSeconds} s`;
  if (together) say(suite, line);
  return { counts, line };
}

// One at a time: each takes all that there is.
const cores = (suite: Suite): number => (together ? (suite.cores ?? MACHINE_CORES) : MACHINE_CORES);
const ran = await sideBySide(
  wanted.map((suite) => ({ cores: cores(suite), run: () => timed(suite) })),
  MACHINE_CORES,
);
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
for (const { counts } of ran) for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += counts[key];
const summary = ran.map(({ line }) => line);
rmSync(scratch, { recursive: true, force: true });
process.stdout.write(`\n${summary.join('\n')}\n\n`);
const resultsFile = process.env['GUILDHALL_RESULTS_FILE'];
if (resultsFile !== undefined) appendFileSync(resultsFile, `${JSON.stringify(total)}\n`);
const skipped = total.skipped === 0 ? '' : `, ${total.skipped} skipped`;
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
process.exitCode = total.failed === 0 ? 0 : 1;
