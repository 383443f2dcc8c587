import { readFileSync } from 'node:fs';
import { startTicks, type Clock } from '@guildhall/common';
import type { RunProcess } from './state-dir.ts';

export { startTicks };

/** Parent of a process, or null. */
export function parentPid(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return null;
  }
}

/** True while the very process that was recorded is running. */
export function isRunning(record: RunProcess): boolean {
  return startTicks(record.pid) === record.startTicks;
}

function signal(record: RunProcess, name: NodeJS.Signals): void {
  if (!isRunning(record)) return;
  try {
    process.kill(record.pid, name);
  } catch {
    // It ended between the check and the signal.
  }
}

/**
 * Ends recorded processes: SIGTERM, then SIGKILL for those that are left after `graceMs`. Processes whose start time
 * differs are somebody else's and are left alone.
 */
export async function endProcesses(records: RunProcess[], graceMs: number, clock: Clock): Promise<void> {
  for (const record of records) signal(record, 'SIGTERM');
  const deadline = clock.monotonicMs() + graceMs;
  while (records.some(isRunning) && clock.monotonicMs() < deadline) await clock.sleep(50);
  for (const record of records) signal(record, 'SIGKILL');
  while (records.some(isRunning) && clock.monotonicMs() < deadline + 5000) await clock.sleep(20);
}
