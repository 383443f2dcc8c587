/**
 * The official Python clients: `node test/compat/python.ts` makes a virtual environment for them, outside the checkout, once for each set of
 * versions. Where Python cannot make one it says so and their checks are skipped; with `GUILDHALL_REQUIRE_PYTHON=1`, as in CI, it fails.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { ConformanceRow } from '../../scripts/conformance.ts';
import type { Conformance } from './conformance.ts';
import { KEY, MODEL, type World } from './world.ts';

export const PYTHON_CLIENTS = ['openai (Python)', 'anthropic (Python)'];

const FOLDER = join(import.meta.dirname, 'python');
const REQUIREMENTS = join(FOLDER, 'requirements.txt');

/** Where the environment is; its name follows from the versions, so that other versions have another one. */
function environment(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const digest = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 12);
  return join(cache, 'guildhall', `compat-python-${digest}`);
}

function hasEnvironment(): boolean {
  return existsSync(join(environment(), 'complete'));
}

/** Makes the environment; false where Python is missing or has no module `venv`. Throws when the packages cannot be had. */
function prepare(): boolean {
  if (hasEnvironment()) return true;
  const folder = environment();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, '..'), { recursive: true });
  const made = spawnSync('python3', ['-m', 'venv', folder], { encoding: 'utf8' });
  if (made.status !== 0) {
    process.stdout.write(`python3 -m venv failed: ${made.error?.message ?? made.stderr}\n`);
    return false;
  }
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '-r', REQUIREMENTS];
  execFileSync(join(folder, 'bin', 'python'), pip, { stdio: 'inherit' });
  mkdirSync(join(folder, 'making'), { recursive: true });
  renameSync(join(folder, 'making'), join(folder, 'complete'));
  return true;
}

type Line = ConformanceRow & { error: string | null };

/** One row for each check of `python/checks.py`, which holds every answer to the Pydantic types of the clients. */
export function pythonClients(suite: Conformance, world: () => World): void {
  const skip = hasEnvironment()
    ? false
    : 'no Python environment; install python3-venv and run node test/compat/python.ts';
  test('the official Python clients', { skip }, async (t) => {
    const args = [join(FOLDER, 'checks.py'), world().cluster.url, KEY, MODEL];
    const { stdout } = await promisify(execFile)(join(environment(), 'bin', 'python'), args, { maxBuffer: 16 << 20 });
    const lines = stdout.trim().split('\n');
    for (const line of lines.map((text) => JSON.parse(text) as Line)) {
      const { client, feature, checked, error } = line;
      await t.test(`${client}: ${feature}: ${checked}`, () => {
        assert.equal(error, null, error ?? '');
        suite.pass({ client, feature, checked });
      });
    }
  });
}

/** Clients whose checks were skipped. */
export function skippedClients(): string[] {
  return hasEnvironment() ? [] : PYTHON_CLIENTS;
}

if (import.meta.main && !prepare()) {
  process.stdout.write('checks with Python clients are skipped; install python3-venv to have them\n');
  if (process.env['GUILDHALL_REQUIRE_PYTHON'] === '1') process.exitCode = 1;
}
