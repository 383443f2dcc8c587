import { linkSync, readFileSync, readlinkSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Clock } from './clock.ts';
import { startTicks } from './process-start.ts';

/** Who holds a lock file. */
export interface LockHolder {
  pid: number;
  /** Start time of that process: tells it from another one with its number. */
  startTicks: string;
  /** Host and process namespace in which the number means something. */
  host: string;
}

/** A lock that is held. Releasing twice does nothing. */
export interface FileLock {
  release(): void;
}

/** Whether it can be told at once that a holder is dead; of others it takes a minute. */
export function isLocalHolder(holder: LockHolder): boolean {
  return holder.host === hostId();
}

const TOUCH_EVERY_MS = 10_000;
const DEAD_AFTER_MS = 60_000;
const POLL_MS = 250;

/**
 * Takes an exclusive lock between processes that lives in a file, or says who has it. The lock of a process that died
 * is taken over: on this host it is known by number and start time, on others by a file that nobody touches any more.
 * The folder of `path` must exist.
 */
export function tryLockFile(path: string, clock: Clock): FileLock | LockHolder {
  const own: LockHolder = { pid: process.pid, startTicks: startTicks(process.pid) ?? '', host: hostId() };
  const draft = `${path}.${randomUUID()}`;
  writeFileSync(draft, JSON.stringify(own));
  try {
    for (;;) {
      if (linked(draft, path)) return heldLock(path, draft, clock);
      const holder = readHolder(path, clock);
      if (holder !== null) return holder;
      retire(path, draft, clock);
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/**
 * As tryLockFile, but waits until the lock is free.
 * @param options.onWait told once who has it.
 * @throws cancelled when the signal aborts.
 */
export async function lockFile(
  path: string,
  options: { clock: Clock; signal?: AbortSignal | null; onWait?: ((holder: LockHolder) => void) | null },
): Promise<FileLock> {
  const { clock, signal, onWait } = options;
  for (let first = true; ; first = false) {
    const result = tryLockFile(path, clock);
    if ('release' in result) return result;
    if (first) onWait?.(result);
    await clock.sleep(POLL_MS, signal ?? undefined);
  }
}

function linked(draft: string, path: string): boolean {
  try {
    // Unlike opening with O_EXCL this makes the file appear with its contents.
    linkSync(draft, path);
    return true;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw err;
  }
}

function heldLock(path: string, draft: string, clock: Clock): FileLock {
  rmSync(draft, { force: true });
  const { ino } = statSync(path);
  const touch = clock.setInterval(TOUCH_EVERY_MS, () => {
    const now = clock.nowMs() / 1000;
    try {
      if (isFile(path, ino)) utimesSync(path, now, now);
    } catch {
      // A disk that became read-only or went away must not end the process; on this host its number still holds the lock.
    }
  });
  let held = true;
  return {
    release: () => {
      touch.cancel();
      if (held && isFile(path, ino)) rmSync(path, { force: true });
      held = false;
    },
  };
}

function isFile(path: string, ino: number): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === ino;
}

/** The live holder, or null where the file is gone or its holder is. */
function readHolder(path: string, clock: Clock): LockHolder | null {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as LockHolder;
    if (holder.host === hostId()) return startTicks(holder.pid) === holder.startTicks ? holder : null;
    return clock.nowMs() - statSync(path).mtimeMs < DEAD_AFTER_MS ? holder : null;
  } catch {
    return null;
  }
}

/** Moves a dead lock away; a live one that another process put there in between goes back. */
function retire(path: string, draft: string, clock: Clock): void {
  const away = `${draft}.dead`;
  try {
    renameSync(path, away);
  } catch {
    return;
  }
  if (readHolder(away, clock) !== null) linked(away, path);
  rmSync(away, { force: true });
}

function hostId(): string {
  try {
    return `${hostname()} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return hostname();
  }
}
