import type { AutoscalerPolicy } from '../policy.ts';
import { type Draft, eachMember, isBlocked } from './draft.ts';
import { tryToGo } from './reductions.ts';
import { badness, capacity, type Member, type Unit, utilisation } from './units.ts';

/** A group gives a GPU up for another one only where that one's steps stay so much later. */
const REBALANCE_GAIN = 1.25;

/** GPUs that a workload takes: also of pods that are not there yet, and of those that have not gone yet. */
function taken({ view: { replicas, pods }, policy }: Member): number {
  const live = pods.ready + pods.loading + pods.pending + pods.failed + pods.unschedulableMs.length;
  return policy.gpusPerReplica * (Math.max(replicas, live) + pods.terminating);
}

interface Want {
  member: Member;
  unit: Unit;
}

/**
 * Fits what is wanted into the budget of GPUs: the next ones go to the unit whose steps are latest, not to the one with the
 * largest load, since a layer waits for its slowest group. GPUs that are to come free are not given away before they are.
 */
export function fitBudget(units: readonly Unit[], policy: AutoscalerPolicy, draft: Draft): void {
  const budget = policy.gpuBudget;
  if (budget === null) return;
  const wants = new Map<Member, number>();
  eachMember(units, (member) => {
    // Replicas that are called back from a drain are there already.
    const over = draft.count(member) - Math.max(member.view.replicas, member.staying);
    if (over > 0 && member.policy.gpusPerReplica > 0) wants.set(member, draft.count(member));
  });
  let used = 0;
  eachMember(units, (member) => (used += taken(member)));
  let free = budget - used;
  const assigned = new Map([...wants.keys()].map((member) => [member, member.view.replicas]));
  const count = (member: Member): number => assigned.get(member) ?? draft.count(member);
  for (;;) {
    const next = latest(units, policy, count, (member) => {
      const open = (wants.get(member) ?? 0) > count(member);
      return open && member.policy.gpusPerReplica <= free;
    });
    if (next === null) break;
    assigned.set(next.member, count(next.member) + 1);
    free -= next.member.policy.gpusPerReplica;
  }
  const left = latest(units, policy, count, (member) => (wants.get(member) ?? 0) > count(member));
  settle(wants, assigned, policy, draft, free);
  if (free < 0) giveBack(units, policy, draft, budget - free);
  else if (left !== null && !yieldUnschedulable(units, policy, draft, left.member))
    rebalance(units, policy, draft, left);
}

/** Of the workloads that qualify the one of the unit whose steps are latest; of equal ones the cheaper. */
function latest(
  units: readonly Unit[],
  policy: AutoscalerPolicy,
  count: (member: Member) => number,
  qualifies: (member: Member) => boolean,
): Want | null {
  const open: (Want & { late: number })[] = [];
  eachMember(units, (member, unit) => {
    if (!qualifies(member)) return;
    const below = count(member) < member.floor;
    open.push({ member, unit, late: below ? Number.POSITIVE_INFINITY : badness(unit, policy, capacity(unit, count)) });
  });
  const price = ({ member }: Want): number => member.policy.pricePerHour || member.policy.gpusPerReplica;
  return open.sort((a, b) => (a.late === b.late ? price(a) - price(b) : b.late - a.late))[0] ?? null;
}

function settle(
  wants: ReadonlyMap<Member, number>,
  assigned: ReadonlyMap<Member, number>,
  policy: AutoscalerPolicy,
  draft: Draft,
  free: number,
): void {
  for (const [member, wanted] of wants) {
    const got = assigned.get(member) ?? 0;
    if (got >= wanted) continue;
    const message = `${wanted} replicas are wanted; ${Math.max(0, free)} of ${policy.gpuBudget} GPUs are free`;
    draft.hold(member, 'budget', message);
    const because = draft.because.get(member.view.name);
    draft.set(member, got, because?.reason ?? 'load', because?.message ?? message);
    draft.alarm(member, 'budget', message);
  }
}

/** Replicas that have waited for a machine for too long leave their part of the budget to others. */
function yieldUnschedulable(units: readonly Unit[], policy: AutoscalerPolicy, draft: Draft, to: Member): boolean {
  let yielded = false;
  eachMember(units, (member) => {
    const late = member.view.pods.unschedulableMs.filter((ms) => ms >= policy.pendingTimeoutMs).length;
    if (late === 0 || member === to || member.policy.gpusPerReplica === 0 || isBlocked(member)) return;
    const message = `${late} replicas that cannot be scheduled leave their GPUs to ${to.view.name}`;
    draft.set(member, member.view.replicas - late, 'unschedulable', message);
    yielded = true;
  });
  return yielded;
}

/** Takes one replica from the unit that misses it least, where the one that gets it stays later even so. */
function rebalance(units: readonly Unit[], policy: AutoscalerPolicy, draft: Draft, to: Want): void {
  const gpus = to.member.policy.gpusPerReplica;
  const now = badness(
    to.unit,
    policy,
    capacity(to.unit, (member) => draft.count(member)),
  );
  const donors: { member: Member; unit: Unit; after: number }[] = [];
  eachMember(units, (member, unit) => {
    const { view } = member;
    const young = Math.min(view.raisedMs ?? Number.POSITIVE_INFINITY, view.loweredMs ?? Number.POSITIVE_INFINITY);
    if (unit === to.unit || unit.missing.length > 0 || unit.shared === null || view.shrinking !== null) return;
    if (draft.count(member) !== member.staying || draft.count(member) <= member.floor) return;
    if (member.policy.gpusPerReplica < gpus || young < policy.scaleDownAfterMs) return;
    const left = capacity(unit, (one) => draft.count(one)) - member.weight;
    if (utilisation(unit, unit.shared.high, left) > policy.targetUtilisation) return;
    donors.push({ member, unit, after: badness(unit, policy, left) });
  });
  const [donor] = donors.filter(({ after }) => after * REBALANCE_GAIN < now).sort((a, b) => a.after - b.after);
  if (donor !== undefined)
    tryToGo(donor.member, donor.unit, policy, draft, 'rebalance', `its GPUs go to ${to.member.view.name}`);
}

/** The budget has become smaller than what is in use: whoever misses a replica least gives one up. */
function giveBack(units: readonly Unit[], policy: AutoscalerPolicy, draft: Draft, used: number): void {
  const donors: { member: Member; unit: Unit; after: number }[] = [];
  let leaving = false;
  eachMember(units, (member, unit) => {
    if (member.view.shrinking !== null || member.view.pods.terminating > 0 || draft.count(member) < member.staying)
      leaving = true;
    if (member.policy.gpusPerReplica === 0 || draft.count(member) <= member.floor) return;
    const left = capacity(unit, (one) => draft.count(one)) - member.weight;
    donors.push({ member, unit, after: badness(unit, policy, left) });
  });
  const [donor] = donors.sort((a, b) => a.after - b.after);
  if (leaving) return;
  const message = `${used} GPUs are in use, the budget is ${policy.gpuBudget}`;
  if (donor !== undefined) return tryToGo(donor.member, donor.unit, policy, draft, 'over_budget', message);
  const [first] = units[0]?.members ?? [];
  if (first !== undefined) draft.alarm(first, 'over_budget', `${message}, and nothing may go`);
}
