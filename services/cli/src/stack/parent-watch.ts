import { readFileSync } from 'node:fs';
import type { Clock, Timer } from '@guildhall/common';
import { parentPid, startTicks } from './processes.ts';

/** The process that a person would see as "the command": npm if it is above us, else our parent. */
interface Ancestor {
  pid: number;
  ticks: string;
}

function isNpm(pid: number): boolean {
  try {
    const [title = '', script = ''] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return title.startsWith('npm') || /\bnpm(-cli)?(\.js)?$/.test(script) || /\bnpm-cli\.js$/.test(title);
  } catch {
    return false;
  }
}

/** Every ancestor up to and including npm, or only the parent where npm did not start us. */
function ancestors(): Ancestor[] {
  const chain: Ancestor[] = [];
  let pid = process.ppid;
  for (let depth = 0; depth < 8 && pid > 1; depth++) {
    const ticks = startTicks(pid);
    if (ticks === null) break;
    chain.push({ pid, ticks });
    if (isNpm(pid)) return chain;
    pid = parentPid(pid) ?? 0;
  }
  return chain.slice(0, 1);
}

/**
 * Calls `onDeath` once when the process that started us ends in any way. A SIGKILL of npm reaches nobody else: its
 * shell and this process would live on, so the chain is polled.
 */
export function watchParents(clock: Clock, onDeath: (pid: number) => void): Timer {
  const watched = ancestors();
  const timer = clock.setInterval(250, () => {
    const dead = watched.find((ancestor) => startTicks(ancestor.pid) !== ancestor.ticks);
    if (dead === undefined) return;
    timer.cancel();
    onDeath(dead.pid);
  });
  return timer;
}
