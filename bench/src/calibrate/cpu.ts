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

/** Milliseconds for which the cores of this machine were busy, all together, whoever used them; Linux only. */
export function machineCpuMs(): number {
  const [, ...ticks] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').split(/\s+/).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0] = ticks;
  return (user + nice + system + irq + softIrq) * TICK_MS;
}

/** Linux counts in hundredths of a second. */
const TICK_MS = 10;
