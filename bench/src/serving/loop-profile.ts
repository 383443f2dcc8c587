import { readFileSync } from 'node:fs';

/** V8's format, as far as it is read here. Times in microseconds of the system's monotonic clock. */
interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  startTime: number;
  samples: number[];
  timeDeltas: number[];
}

/** What a process's main thread did within a window. */
export interface LoopUse {
  /** Share of the window in which it was not waiting: JavaScript, collector, and native code that it called. */
  share: number;
  /** The functions that took most, with their share of the window. */
  top: string[];
}

const TOP = 6;

/** Reads a `.cpuprofile` between two times of the monotonic clock, in milliseconds. */
export function loopUse(file: string, window: { fromMs: number; toMs: number }): LoopUse {
  const profile = JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
  const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
  const self = new Map<string, number>();
  let at = profile.startTime;
  let idle = 0;
  let total = 0;
  for (const [i, id] of profile.samples.entries()) {
    const delta = profile.timeDeltas[i] ?? 0;
    at += delta;
    if (at < window.fromMs * 1000 || at > window.toMs * 1000) continue;
    total += delta;
    const { functionName = '', url = '', lineNumber = 0 } = frames.get(id) ?? {};
    if (functionName === '(idle)') idle += delta;
    else {
      const name =
        url === '' ? functionName : `${functionName} ${url.split('/').slice(-2).join('/')}:${lineNumber + 1}`;
      self.set(name, (self.get(name) ?? 0) + delta);
    }
  }
  const top = [...self].sort(([, a], [, b]) => b - a).slice(0, TOP);
  return {
    share: total === 0 ? NaN : (total - idle) / total,
    top: top.map(([name, time]) => `${name} ${((100 * time) / total).toFixed(2)} %`),
  };
}
