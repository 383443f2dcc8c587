import type { SimResult } from './simulate.ts';
import type { Scenario } from './scenario.ts';

const WINDOW_MS = 600_000;

/** Changes of direction of a workload within ten minutes of each other: the most of any window. */
export function reversals({ changes }: SimResult): number {
  const byWorkload = new Map<string, { atMs: number; up: boolean }[]>();
  for (const { workload, atMs, from, to } of changes)
    byWorkload.set(workload, [...(byWorkload.get(workload) ?? []), { atMs, up: to > from }]);
  let most = 0;
  for (const list of byWorkload.values()) {
    const turns = list.filter(({ up }, at) => at > 0 && list[at - 1]?.up !== up).map(({ atMs }) => atMs);
    for (const [at, first] of turns.entries())
      most = Math.max(most, turns.slice(at).filter((one) => one - first < WINDOW_MS).length);
  }
  return most;
}

/** From a time until everything that is wanted is computed and nothing waits, and stays so for a minute, ms; null for never. */
export function convergedAfter({ samples }: SimResult, fromMs: number): number | null {
  let goodSince: number | null = null;
  for (const { atMs, share, waiting, held } of samples) {
    if (atMs < fromMs) continue;
    if (share < 0.999 || waiting > 0.5 || held > 0.5) goodSince = null;
    else goodSince ??= atMs;
    if (goodSince !== null && atMs - goodSince >= 60_000) return goodSince - fromMs;
  }
  return null;
}

/** One line of figures for people. */
export function reportLine({ name, policy }: Scenario, result: SimResult): string {
  const { changes, mostGpus, uncoveredMs, dropped, served, alarms } = result;
  const budget = policy.gpuBudget === null ? '' : ` of ${policy.gpuBudget}`;
  const most = (workload: string): number => Math.max(...result.samples.map(({ replicas }) => replicas[workload] ?? 0));
  const workloads = Object.keys(result.samples[0]?.replicas ?? {})
    .map((workload) => `${workload} ≤ ${most(workload)}`)
    .join(', ');
  return [
    name.padEnd(14),
    `${Math.round(served)} served`,
    `${Math.round(dropped)} dropped`,
    `${changes.length} changes`,
    `${reversals(result)} reversals`,
    `${mostGpus}${budget} GPUs`,
    `uncovered ${uncoveredMs} ms`,
    workloads,
    alarms.size === 0 ? 'no alarm' : `alarms: ${[...alarms].join(', ')}`,
  ].join(' · ');
}
