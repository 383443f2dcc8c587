import { existsSync, globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Fault } from '../fault.ts';
import type { Lab } from '../lab.ts';

const LIBRARIES = '/usr/lib/{*/,}faketime/libfaketimeMT.so.1';

function library(): string | null {
  return globSync(LIBRARIES)[0] ?? null;
}

function unavailable(): string | null {
  return library() === null ? 'libfaketime is not installed (Debian: faketime)' : null;
}

function offsetFile(lab: Lab): string {
  return join(lab.network.dir, 'clock-offset');
}

/** The wall clock of the processes that were started with it, in seconds from the true one. */
function setOffset(lab: Lab, seconds: number): void {
  writeFileSync(offsetFile(lab), `${seconds < 0 ? '' : '+'}${seconds}\n`);
}

/** Starts processes again with a wall clock that can be set. Monotonic time stays what it is. */
async function withClock(lab: Lab, names: readonly string[]): Promise<void> {
  setOffset(lab, 0);
  const env = {
    LD_PRELOAD: library() ?? '',
    FAKETIME_TIMESTAMP_FILE: offsetFile(lab),
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
  for (const name of names) {
    await lab.get(name).stop(lab.clock);
    lab.get(name).start({ env });
  }
}

async function withoutClock(lab: Lab, names: readonly string[]): Promise<void> {
  if (existsSync(offsetFile(lab))) setOffset(lab, 0);
  for (const name of names) await lab.get(name).stop(lab.clock);
}

/** Seconds from our wall clock to that of a process, as it dates its answers. */
async function offsetOf(lab: Lab, name: string): Promise<number> {
  const { headers } = await fetch(`${lab.adminUrl(name)}/metrics`);
  return (Date.parse(headers.get('date') ?? '') - lab.clock.nowMs()) / 1000;
}

function jump(name: string, seconds: number, about: string, names: readonly string[]): Fault {
  return {
    name,
    about,
    expected: 'nothing but logs and certificates goes by the wall clock',
    unavailable,
    lasting: true,
    lost: [],
    prepare: async (lab) => await withClock(lab, names),
    strike: async (lab) => setOffset(lab, seconds),
    felt: async (lab) => {
      const offsets = await Promise.all(names.map(async (process) => await offsetOf(lab, process)));
      return offsets.every((offset) => Math.abs(offset - seconds) < 60);
    },
    heal: async (lab) => setOffset(lab, 0),
    cleanUp: async (lab) => await withoutClock(lab, names),
  };
}

/** Faults of the wall clock. */
export const CLOCK_FAULTS: Fault[] = [
  jump(
    'clock-forward',
    3600,
    'the wall clock of the router, a worker and the controller jumps an hour ahead, and back',
    ['router-1', 'expert-2', 'controller-1'],
  ),
  jump('clock-back', -3600, 'the wall clock of the router, a worker and the controller jumps an hour back, and ahead', [
    'router-1',
    'expert-2',
    'controller-1',
  ]),
  {
    name: 'redis-clock',
    about: 'every lease in Redis ends at once, as when its clock jumps ahead',
    expected: 'members register again; nothing is dropped meanwhile',
    lost: [],
    strike: async (lab) => await lab.probe.endLeases(),
  },
];
