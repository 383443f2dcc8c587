import { readdirSync, readFileSync } from 'node:fs';

/** Milliseconds for which the threads of a process have run on a core; Linux only. */
export function cpuMsOf(pid: number): number {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
    } catch {
      // A thread that ended between the two looks.
    }
  }
  return ns / 1e6;
}
