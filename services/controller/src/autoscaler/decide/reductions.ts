import type { AutoscalerPolicy } from '../policy.ts';
import type { Reason } from '../reasons.ts';
import { type Draft, isBlocked } from './draft.ts';
import type { TokenTime } from './objectives.ts';
import { capacity, type Member, room, type Unit, worth } from './units.ts';

/** Share of the objective that must be left after a replica has gone. */
const OBJECTIVE_MARGIN = 0.9;
/** Evaluations, and time, between two changes of one unit: measures are means of ten seconds. */
const SETTLE_EVALUATIONS = 3;
const SETTLE_MS = 30_000;

interface Hold {
  reason: Reason;
  message: string;
}

/** Pods that take no requests: Kubernetes deletes those first. */
export function idlePods({ view: { pods } }: Member): number {
  return pods.loading + pods.pending + pods.failed + pods.unschedulableMs.length;
}

/** Replicas that the load needs at least, given those of the unit's other workloads. */
export function leastFor(member: Member, unit: Unit, policy: AutoscalerPolicy, draft: Draft): number {
  if (unit.shared === null) return member.floor;
  const others = capacity(unit, (other) => (other === member ? 0 : draft.count(other)));
  const needed = (unit.shared.now * policy.headroom) / room(unit, policy) - others;
  return Math.max(member.floor, Math.ceil(needed / member.weight - 1e-9));
}

/** Lowers a workload above its maximum, or one of a unit whose other replicas carry the load; one replica at a time. */
export function reduce(unit: Unit, policy: AutoscalerPolicy, draft: Draft, time: TokenTime | null): void {
  for (const member of unit.members) {
    const { view, policy: bounds } = member;
    if (draft.count(member) > bounds.max)
      return tryToGo(member, unit, policy, draft, 'maximum', `max is ${bounds.max}`);
    if (view.shrinking !== null)
      return draft.hold(member, 'shrinking', `${view.shrinking.pods.join(', ')}: ${view.shrinking.why}`);
  }
  // Nobody else in the unit is asked to grow.
  if (unit.members.some((member) => draft.count(member) > member.staying)) return;
  const member = cheapestToMiss(unit, draft);
  if (member === null || unit.shared === null) return;
  const hold = whyNeeded(member, unit, policy, draft);
  if (hold === 'needed') return;
  const waits = hold ?? whyNotYet(member, unit, policy, draft, time);
  if (waits !== null) return draft.hold(member, waits.reason, waits.message);
  const rest = draft.count(member) - 1;
  tryToGo(
    member,
    unit,
    policy,
    draft,
    'superfluous',
    `the other ${rest} would be at ${percent(loadAfter(member, unit, draft, 'high'))}`,
  );
}

/** The workload that costs most for what it brings, of those that may shrink. */
function cheapestToMiss(unit: Unit, draft: Draft): Member | null {
  const open = unit.members.filter((member) => !isBlocked(member) && draft.count(member) > member.floor);
  return open.sort((a, b) => worth(a) - worth(b))[0] ?? null;
}

/** Shared work of each replica after one of `member` has gone. */
function loadAfter(member: Member, unit: Unit, draft: Draft, level: 'now' | 'high'): number {
  const left = capacity(unit, (other) => draft.count(other)) - member.weight;
  const work = unit.shared?.[level] ?? 0;
  return left > 1e-9 ? work / left : work > 0 ? Number.POSITIVE_INFINITY : 0;
}

function downLimit(unit: Unit, policy: AutoscalerPolicy): number {
  return (room(unit, policy) * policy.scaleDownUtilisation) / policy.targetUtilisation;
}

/** `needed` where the load needs the replica; a hold where that cannot be told; null where it does not. */
function whyNeeded(member: Member, unit: Unit, policy: AutoscalerPolicy, draft: Draft): Hold | 'needed' | null {
  const limit = downLimit(unit, policy);
  if (unit.missing.length > 0)
    return {
      reason: 'no_metrics',
      message: `${unit.missing.join(', ')} ${unit.missing.length > 1 ? 'do' : 'does'} not tell`,
    };
  if (loadAfter(member, unit, draft, 'now') >= limit) return 'needed';
  const memory = unit.members.reduce((sum, one) => {
    const count = draft.count(one) - (one === member ? 1 : 0);
    return sum + count * (one.view.memory?.slots ?? 0);
  }, 0);
  return memory < Math.max(0, ...unit.members.map(({ view }) => view.memory?.pairs ?? 0)) ? 'needed' : null;
}

function whyNotYet(
  member: Member,
  unit: Unit,
  policy: AutoscalerPolicy,
  draft: Draft,
  time: TokenTime | null,
): Hold | null {
  const { view } = member;
  const afterMs = policy.scaleDownAfterMs;
  const youngestMs = Math.min(
    view.watchedMs,
    ...unit.members.map((one) => one.view.raisedMs ?? Number.POSITIVE_INFINITY),
  );
  if (youngestMs < afterMs)
    return { reason: 'window', message: `superfluous for ${seconds(youngestMs)} of ${seconds(afterMs)}` };
  if (loadAfter(member, unit, draft, 'high') >= downLimit(unit, policy))
    return { reason: 'window', message: `the load was higher within the last ${seconds(afterMs)}` };
  const settleMs = Math.max(SETTLE_MS, SETTLE_EVALUATIONS * policy.evaluateMs);
  const lowered = Math.min(...unit.members.map((one) => one.view.loweredMs ?? Number.POSITIVE_INFINITY));
  if (lowered < settleMs) return { reason: 'settling', message: `the last replica went ${seconds(lowered)} ago` };
  const overloaded = idlePods(member) === 0 && whySurvivorsCannot(member, unit, downLimit(unit, policy));
  if (overloaded) return overloaded;
  const limit = policy.slo.itlP95Ms;
  const after = time?.predict((one) => draft.count(one) - (one === member ? 1 : 0), 'high') ?? null;
  if (limit !== null && after !== null && after > OBJECTIVE_MARGIN * limit)
    return { reason: 'objective', message: `tokens would come ${after.toFixed(1)} ms apart; ${limit} are to be met` };
  return latencyHold(member, unit, policy);
}

/** Those that are ready must carry the load, not those that are planned. */
function whySurvivorsCannot(member: Member, unit: Unit, limit: number): Hold | null {
  const ready = capacity(unit, ({ view }) => view.pods.ready) - member.weight;
  const work = unit.shared?.high ?? 0;
  const each = ready > 1e-9 ? work / ready : Number.POSITIVE_INFINITY;
  return each <= limit
    ? null
    : { reason: 'survivors', message: `the others that are ready would be at ${percent(each)}` };
}

/** First tokens become later as the replicas that prompts wait for become fewer. */
function latencyHold({ view }: Member, unit: Unit, policy: AutoscalerPolicy): Hold | null {
  const limit = policy.slo.ttftP95Ms;
  const ttftMs = view.router?.ttftMs?.high ?? null;
  if (unit.kind !== 'routers' || limit === null || ttftMs === null) return null;
  const after = (ttftMs * view.replicas) / Math.max(1, view.replicas - 1);
  return after <= limit
    ? null
    : { reason: 'objective', message: `first tokens could come after ${after.toFixed(0)} ms; ${limit} are to be met` };
}

/** Lowers by one where coverage and the other rules that no policy overrides allow it. */
export function tryToGo(
  member: Member,
  unit: Unit,
  policy: AutoscalerPolicy,
  draft: Draft,
  reason: Reason,
  message: string,
): void {
  const { view } = member;
  if (isBlocked(member)) return view.blocks.forEach((block) => draft.hold(member, block.reason, block.message));
  if (view.shrinking !== null)
    return draft.hold(member, 'shrinking', `${view.shrinking.pods.join(', ')}: ${view.shrinking.why}`);
  if (view.rolling) return draft.hold(member, 'settling', 'its pods are being replaced');
  // What takes no requests yet goes first and is missed by nobody.
  if (idlePods(member) > 0) return draft.set(member, draft.count(member) - 1, reason, message);
  if (view.victim === null) return draft.hold(member, 'coverage', 'no replica is ready');
  const { block } = view.victim;
  if (block !== null) return draft.hold(member, block.reason, block.message);
  const overloaded = whySurvivorsCannot(member, unit, Math.max(policy.targetUtilisation, room(unit, policy)));
  if (overloaded !== null) return draft.hold(member, overloaded.reason, overloaded.message);
  draft.set(member, draft.count(member) - 1, reason, message);
}

/** Gives up replicas that the scheduler has found no place for in too long, as far as they are not needed, and tells of the others. */
export function giveUp(unit: Unit, policy: AutoscalerPolicy, draft: Draft): void {
  for (const member of unit.members) {
    const late = member.view.pods.unschedulableMs.filter((ms) => ms >= policy.pendingTimeoutMs);
    if (late.length === 0) continue;
    const message = `${late.length} of ${member.view.replicas} replicas cannot be scheduled, for ${seconds(late[0] ?? 0)}`;
    draft.alarm(member, 'unschedulable', message);
    if (isBlocked(member) || draft.count(member) > member.staying) continue;
    const spare = Math.min(late.length, draft.count(member) - leastFor(member, unit, policy, draft));
    if (spare > 0) draft.set(member, draft.count(member) - spare, 'unschedulable', message);
    else draft.hold(member, 'unschedulable', message);
  }
}

export function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}

function percent(share: number): string {
  return Number.isFinite(share) ? `${(share * 100).toFixed(0)} %` : 'more than they can do';
}
