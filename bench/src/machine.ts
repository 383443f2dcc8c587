import { execFileSync } from 'node:child_process';
import { cpus, release, totalmem } from 'node:os';
import type { Machine } from './report.ts';

/** This machine, as figures are labelled. */
export function machineOf(threads: number): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown CPU',
    cores: cpus().length,
    threads,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
  };
}

/** Commit of the sources, with `+changes` where files differ from it. */
export function commitOf(root: string): string {
  try {
    const git = (args: string[]): string => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
    return `${git(['rev-parse', '--short', 'HEAD'])}${git(['status', '--porcelain']) === '' ? '' : '+changes'}`;
  } catch {
    return 'unknown';
  }
}
