import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Progress } from '../progress.ts';

/**
 * Installs the peer from its own lockfile into a folder of its own, if it is not there: no other install ever brings it.
 * Its GPU builds, which are optional packages of half a gigabyte, are left out.
 * @param source folder with the peer's package.json and package-lock.json.
 * @returns the folder it is installed in.
 * @throws Error that says what to run by hand.
 */
export function ensurePeer(source: string, home: string, progress: Progress): string {
  const lock = 'package-lock.json';
  const same = (file: string): boolean =>
    existsSync(join(home, file)) && readFileSync(join(home, file)).equals(readFileSync(join(source, file)));
  if (same(lock) && existsSync(join(home, 'node_modules', 'node-llama-cpp', 'package.json'))) return home;
  mkdirSync(home, { recursive: true });
  copyFileSync(join(source, 'package.json'), join(home, 'package.json'));
  progress.update('installing the peer (npm ci)', 0);
  const args = ['ci', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  try {
    copyFileSync(join(source, lock), join(home, lock));
    execFileSync('npm', args, { cwd: home, stdio: ['ignore', 2, 2], timeout: 600_000 });
  } catch (cause) {
    throw new Error(`the peer cannot be installed; run it by hand in ${home}: npm ${args.join(' ')}`, { cause });
  }
  progress.done('installed the peer');
  return home;
}

/**
 * Compiles the shim that pins the peer's threads, beside the peer. Without a compiler the peer runs unpinned, which makes
 * its decoding slower on small machines.
 * @returns the shim's path, or null.
 */
export function ensurePinning(source: string, home: string, progress: Progress): string | null {
  const code = readFileSync(join(source, 'pin-threads.c'));
  const name = `pin-threads-${createHash('sha256').update(code).digest('hex').slice(0, 12)}.so`;
  const path = join(home, name);
  if (existsSync(path)) return path;
  const args = ['-O2', '-shared', '-fPIC', '-x', 'c', '-o', path, join(source, 'pin-threads.c'), '-ldl', '-pthread'];
  try {
    execFileSync('g++', args, { stdio: ['ignore', 'ignore', 2] });
    return path;
  } catch {
    progress.done('the peer runs without pinned threads: its shim cannot be compiled (g++)');
    return null;
  }
}
