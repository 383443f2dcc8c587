import { readFileSync } from 'node:fs';

/**
 * Start time of a process in clock ticks since boot, or null when there is no such process (or it is a zombie).
 * Field 22 of `/proc/PID/stat`; the command name before it may hold spaces and brackets.
 */
export function startTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
