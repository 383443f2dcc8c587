import { readFileSync } from 'node:fs';

/** Clock ticks a second of /proc: fixed on Linux. */
const TICKS = 100;

interface Snapshot {
  time: number;
  /** Ticks that any process used, and ticks that ours did. */
  busy: number;
  ours: number;
}

/**
 * How much of the machine other processes used while something was timed. A peer whose threads spin at barriers loses
 * half its speed to a process that takes a tenth of a core.
 */
export class ForeignLoad {
  readonly #pids: () => readonly number[];
  #start: Snapshot;

  /** @param pids processes that belong to the measurement. */
  constructor(pids: () => readonly number[]) {
    this.#pids = pids;
    this.#start = this.#snapshot();
  }

  restart(): void {
    this.#start = this.#snapshot();
  }

  /** Cores that others used on average since the last restart: 0 when alone. 0 where /proc is not there. */
  cores(): number {
    const now = this.#snapshot();
    const seconds = (now.time - this.#start.time) / 1000;
    const ticks = now.busy - this.#start.busy - (now.ours - this.#start.ours);
    return seconds <= 0 ? 0 : Math.max(0, ticks / TICKS / seconds);
  }

  #snapshot(): Snapshot {
    const ours = this.#pids().reduce((sum, pid) => sum + processTicks(pid), 0);
    return { time: performance.now(), busy: busyTicks(), ours };
  }
}

function busyTicks(): number {
  try {
    const [first = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
    // cpu user nice system idle iowait irq softirq steal: what the host gave to other machines counts too.
    const fields = first.trim().split(/\s+/).slice(1).map(Number);
    return [0, 1, 2, 5, 6, 7].reduce((sum, i) => sum + (fields[i] ?? 0), 0);
  } catch {
    return 0;
  }
}

function processTicks(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold spaces.
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    return (fields[11] ?? 0) + (fields[12] ?? 0);
  } catch {
    return 0;
  }
}
