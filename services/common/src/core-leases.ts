import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, ftruncateSync, linkSync, mkdirSync, openSync, readFileSync, unlinkSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { errorMessage } from './errors.ts';
import type { Logger } from './logger.ts';

/** Option of every process that computes. */
export const coreLeasesField = z
  .enum(['on', 'off'])
  .default('off')
  .describe('on: share the cores of this machine with other processes of this user by leases.');

/** The native side of the table, see CoreLeasesClass of the native package. */
export interface CoreLeaseBinding<T> {
  readonly tableBytes: number;
  format(fd: number): void;
  new (fd: number, most: number): T;
}

export interface CoreLeaseOptions<T> {
  mode: 'on' | 'off';
  native: CoreLeaseBinding<T>;
  logger: Pick<Logger, 'warn'>;
  /** Folder of the table; by default one of this user in shared memory. */
  dir?: string;
}

/** Changes when the layout of the table does: processes of two releases then do without each other. */
const FILE_NAME = 'cores-1';

/** Folder of this user's table: shared memory where there is some. */
function defaultDir(): string {
  const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  return join(base, `guildhall-${userInfo().uid}`);
}

/**
 * Opens this user's table of core leases, made by whoever comes first. Null when leases are off or cannot be had, which
 * is logged: computing goes on without them.
 */
export function openCoreLeases<T>(options: CoreLeaseOptions<T>): T | null {
  const { mode, native, logger, dir = defaultDir() } = options;
  if (mode === 'off') return null;
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const path = join(dir, FILE_NAME);
    if (!existsSync(path)) create(path, native);
    const fd = openSync(path, 'r+');
    try {
      return new native(fd, quotaCores());
    } finally {
      closeSync(fd);
    }
  } catch (err) {
    logger.warn({ dir, reason: errorMessage(err) }, 'no core leases; remove the folder if its file is damaged');
    return null;
  }
}

/** Appears whole or not at all: a process that dies here leaves nothing that others would take for a table. */
function create<T>(path: string, native: CoreLeaseBinding<T>): void {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const fd = openSync(temporary, 'wx+', 0o600);
  try {
    ftruncateSync(fd, native.tableBytes);
    native.format(fd);
    linkSync(temporary, path);
  } catch (err) {
    // Another process was faster: its table is the one.
    if ((err as NodeJS.ErrnoException).code !== 'EEXIST') throw err;
  } finally {
    closeSync(fd);
    unlinkSync(temporary);
  }
}

/** Cores that a cgroup v2 quota allows, rounded up; 0 without a quota. */
export function quotaCores(file = '/sys/fs/cgroup/cpu.max'): number {
  if (!existsSync(file)) return 0;
  const [quota, period] = readFileSync(file, 'utf8').trim().split(' ').map(Number);
  return quota !== undefined && period !== undefined && quota > 0 && period > 0 ? Math.ceil(quota / period) : 0;
}
