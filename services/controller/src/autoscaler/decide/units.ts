import type { AutoscalerPolicy, GroupPolicy, RouterPolicy } from '../policy.ts';
import type { Reason } from '../reasons.ts';
import type { Level, View, WorkloadView } from '../view.ts';
import { stepTime } from './queueing.ts';

/** A workload with what the policy says of it. */
export interface Member {
  view: WorkloadView;
  policy: GroupPolicy | RouterPolicy;
  /** Capacity of a replica, in those of the unit's mean replica. */
  weight: number;
  /** Replicas below which it does not go while the model is awake. */
  floor: number;
  /** Replicas that stay: those that are being drained do not count. */
  staying: number;
}

/** Number of replicas of each workload, by its name. */
export type Counts = Map<string, number>;

/**
 * Workloads that share a load: groups whose workers take the same experts, or the routers. What one of them lacks another may
 * have.
 */
export interface Unit {
  kind: 'experts' | 'routers';
  members: readonly Member[];
  /** Work that more replicas would share, in mean replicas that compute all the time; null where it is not known. */
  shared: Level | null;
  /** Share of its time that each replica needs whatever their number. */
  fixed: number;
  /** What makes the work, and figures for people. */
  cause: { reason: Reason; message: string };
  /** Routers only: the work if the experts held nothing up; null where that is not known. */
  whenFree: number | null;
  /** Ready pods that do not tell their load. */
  missing: readonly string[];
}

/** The units of a view. */
export function unitsOf(view: View, policy: AutoscalerPolicy): Unit[] {
  const pools = new Map<string, { view: WorkloadView; policy: GroupPolicy }[]>();
  const units: Unit[] = [];
  for (const workload of view.workloads) {
    if (workload.kind === 'routers') {
      if (policy.routers !== null) units.push(routerUnit(workload, policy, policy.routers));
      continue;
    }
    const group = policy.groups.find(({ deployment }) => deployment === workload.deployment);
    if (group === undefined) continue;
    const key = workload.memory?.reach ?? `unknown ${workload.name}`;
    pools.set(key, [...(pools.get(key) ?? []), { view: workload, policy: group }]);
  }
  return [...[...pools].map(([reach, groups]) => expertUnit(groups, reach === 'any')), ...units];
}

function stayingOf({ replicas, shrinking }: WorkloadView): number {
  return replicas - (shrinking === null || shrinking.committed ? 0 : shrinking.pods.length);
}

function expertUnit(groups: readonly { view: WorkloadView; policy: GroupPolicy }[], any: boolean): Unit {
  const rates = groups.flatMap(({ view }) => view.group?.rowsPerReplica ?? []);
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / Math.max(1, rates.length);
  const members = groups.map(({ view, policy }): Member => {
    const least = groups.length === 1 ? Math.max(1, policy.min) : policy.min;
    return {
      view,
      policy,
      weight: mean > 0 ? (view.group?.rowsPerReplica ?? mean) / mean : 1,
      floor: Math.min(policy.max, any ? least : Math.max(least, policy.redundancy)),
      staying: stayingOf(view),
    };
  });
  const known = members.filter(({ view }) => view.group !== null);
  const sum = (of: (member: Member) => number): number => known.reduce((total, member) => total + of(member), 0);
  const level = (of: keyof Level): number => sum(({ view, weight }) => (view.group?.shared[of] ?? 0) * weight);
  const ready = sum(({ view }) => view.pods.ready);
  const fixed = ready > 0 ? sum(({ view }) => (view.group?.fixed ?? 0) * view.pods.ready) / ready : 0;
  const rows = Math.round(sum(({ view }) => view.group?.rows.now ?? 0));
  const shared = known.length === 0 ? null : { now: level('now'), high: level('high') };
  return {
    kind: 'experts',
    members,
    shared,
    fixed,
    whenFree: null,
    cause: { reason: 'load', message: `${rows} rows/s are the work of ${(shared?.now ?? 0).toFixed(2)} replicas` },
    missing: groups.flatMap(({ view }) => view.missing),
  };
}

function routerUnit(view: WorkloadView, policy: AutoscalerPolicy, router: RouterPolicy): Unit {
  const { targetUtilisation, headroom } = policy;
  const load = view.router;
  const kv = scaled(load?.kv ?? null, targetUtilisation / router.kvTarget);
  const prefill = scaled(load?.prefillMs ?? null, targetUtilisation / headroom / router.prefillBacklogMs);
  const byKv = (kv?.now ?? 0) >= (prefill?.now ?? 0);
  const waiting = Math.round(load?.waiting.now ?? 0);
  const kvText = `sequences need the KV pages of ${(load?.kv.now ?? 0).toFixed(2)} routers, ${waiting} wait`;
  const prefillText = `${Math.round(load?.prefillMs.now ?? 0)} ms of prompt work wait`;
  return {
    kind: 'routers',
    members: [
      {
        view,
        policy: router,
        weight: 1,
        floor: Math.min(router.max, Math.max(1, router.min)),
        staying: stayingOf(view),
      },
    ],
    shared:
      kv === null || prefill === null
        ? null
        : { now: Math.max(kv.now, prefill.now), high: Math.max(kv.high, prefill.high) },
    fixed: 0,
    whenFree:
      load === null || load.kvWhenFree === null ? null : load.kvWhenFree * (targetUtilisation / router.kvTarget),
    cause: byKv
      ? { reason: waiting > 0 ? 'queue' : 'kv', message: kvText }
      : { reason: 'prefill', message: prefillText },
    missing: view.missing,
  };
}

function scaled(level: Level | null, factor: number): Level | null {
  return level === null ? null : { now: level.now * factor, high: level.high * factor };
}

/** Capacity in mean replicas. */
export function capacity({ members }: Unit, count: (member: Member) => number): number {
  return members.reduce((sum, member) => sum + member.weight * count(member), 0);
}

/** Share of its time that each replica computes when there are so many; infinite where there is work and nobody to do it. */
export function utilisation(unit: Unit, work: number, replicas: number): number {
  if (replicas <= 0) return work > 0 ? Number.POSITIVE_INFINITY : 0;
  return unit.fixed + work / replicas;
}

/**
 * Share of a replica's time that shared work is to take. Where the fixed part alone is about the target, more replicas cannot
 * reach it; then a small share keeps the growth bounded.
 */
export function room(unit: Unit, policy: AutoscalerPolicy): number {
  return Math.max(policy.targetUtilisation - unit.fixed, 0.1 * policy.targetUtilisation);
}

/** How late steps are in a unit, over how late they are at the target. Work of routers waits in line like that of workers. */
export function badness(unit: Unit, policy: AutoscalerPolicy, replicas: number): number {
  if (unit.shared === null) return 0;
  const at = utilisation(unit, unit.shared.now * policy.headroom, replicas);
  return Number.isFinite(at) ? stepTime(at) / stepTime(policy.targetUtilisation) : Number.POSITIVE_INFINITY;
}

/** Before a worker has been ready for so long its means of ten seconds say nothing of it. */
const UNKNOWN_MS = 30_000;

/**
 * Whether everything waits for the experts: some group is busier than it is to be, or a worker of it is, for which each layer
 * waits, or a worker has just come and what it brings shows later.
 */
export function expertsAreBusy(units: readonly Unit[], { targetUtilisation }: AutoscalerPolicy): boolean {
  return units.some((unit) => {
    if (unit.kind !== 'experts') return false;
    const mean = utilisation(
      unit,
      unit.shared?.now ?? 0,
      capacity(unit, ({ view }) => view.pods.ready),
    );
    const busiest = Math.max(0, ...unit.members.map(({ view }) => view.group?.busiest ?? 0));
    const fresh = unit.members.some(({ view }) => view.youngestMs !== null && view.youngestMs < UNKNOWN_MS);
    return mean > targetUtilisation || busiest > (1 + targetUtilisation) / 2 || fresh;
  });
}

/** What a replica brings for its price; for its GPUs where prices are not given. */
export function worth({ weight, policy }: Member): number {
  return weight / (policy.pricePerHour || policy.gpusPerReplica || 1);
}
