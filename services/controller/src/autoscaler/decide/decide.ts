import type { Decision, Plan } from '../plan.ts';
import type { AutoscalerPolicy } from '../policy.ts';
import { REASONS } from '../reasons.ts';
import type { View } from '../view.ts';
import { fitBudget } from './budget.ts';
import { allAtZero, Draft, eachMember, isBlocked } from './draft.ts';
import { raiseForLoad, raiseForMemory, raiseToFloor } from './growth.ts';
import { raiseForFirstTokens, raiseForTokens, tokenTime, type TokenTime } from './objectives.ts';
import { giveUp, reduce, seconds } from './reductions.ts';
import { stepsOf } from './steps.ts';
import { capacity, expertsAreBusy, type Member, type Unit, unitsOf, utilisation } from './units.ts';

/**
 * Decides how many replicas each workload is to have and what to do for it now. A pure function: the same view and policy give
 * the same plan. The rules are told in docs/autoscaling.md.
 */
export function decide(view: View, policy: AutoscalerPolicy): Plan {
  const units = unitsOf(view, policy);
  const draft = new Draft(units);
  const state = stateOf(view, policy);
  const time = tokenTime(view, units);
  if (state === 'asleep') eachMember(units, (member) => draft.set(member, 0, 'asleep', REASONS.asleep));
  else if (state === 'falling_asleep') fallAsleep(view, units, draft);
  else if (state === 'waking') wake(view, units, draft);
  else stayAwake(view, units, policy, draft, time);
  if (state === 'waking' || state === 'awake') fitBudget(units, policy, draft);
  tell(units, draft);
  const decisions: Decision[] = [];
  eachMember(units, (member, unit) => decisions.push(decisionOf(member, unit, draft)));
  return {
    atMs: view.atMs,
    state,
    decisions,
    steps: stepsOf(units, draft, state),
    alarms: draft.alarms,
    itlMs:
      time === null
        ? null
        : { now: time.measuredMs, desired: time.predict((one) => draft.count(one), 'now') ?? time.measuredMs },
  };
}

function stateOf(view: View, { scaleToZero, routers }: AutoscalerPolicy): Plan['state'] {
  const { held, inGateways, inRouters, idleMs } = view.demand;
  const wanted = held > 0 || inGateways > 0 || inRouters > 0;
  if (allAtZero(view)) return wanted || !scaleToZero.enabled ? 'waking' : 'asleep';
  const sleepy = scaleToZero.enabled && routers !== null && idleMs !== null && idleMs >= scaleToZero.idleMs;
  return sleepy && !wanted ? 'falling_asleep' : 'awake';
}

/** The whole model goes at once, or nothing does: any token may need any expert. */
function fallAsleep(view: View, units: readonly Unit[], draft: Draft): void {
  const message = `no request for ${seconds(view.demand.idleMs ?? 0)}`;
  const barred: string[] = [];
  eachMember(units, (member) => {
    if (isBlocked(member)) barred.push(member.view.name);
  });
  eachMember(units, (member) => {
    if (barred.length === 0) return draft.set(member, 0, 'idle', message);
    for (const { reason, message: why } of member.view.blocks) draft.hold(member, reason, why);
    if (!isBlocked(member))
      draft.hold(member, 'paused', `${barred.join(', ')} cannot go, and the model only goes whole`);
  });
}

function wake(view: View, units: readonly Unit[], draft: Draft): void {
  const { held, inGateways } = view.demand;
  eachMember(units, (member) => {
    for (const { reason, message } of member.view.blocks) draft.hold(member, reason, message);
    if (!isBlocked(member))
      draft.set(member, Math.max(1, member.floor), 'wake', `${Math.max(held, inGateways)} requests wait`);
    else
      draft.alarm(
        member,
        member.view.blocks[0]?.reason ?? 'paused',
        'the model is to wake up and this must not be changed',
      );
  });
  for (const unit of units) raiseForMemory(unit, draft);
}

function stayAwake(
  view: View,
  units: readonly Unit[],
  policy: AutoscalerPolicy,
  draft: Draft,
  time: TokenTime | null,
): void {
  const load = view.workloads.find(({ router }) => router !== null)?.router ?? null;
  const pressure = load?.pressure ?? 1;
  // A backlog that is being worked off is no load that stays.
  const held = expertsAreBusy(units, policy) || load?.drains === true;
  for (const unit of units) {
    raiseToFloor(unit, draft);
    raiseForMemory(unit, draft);
    raiseForLoad(unit, policy, draft, pressure, held);
  }
  raiseForTokens(view, units, policy, draft);
  raiseForFirstTokens(view, units, policy, draft);
  for (const unit of units) {
    giveUp(unit, policy, draft);
    if (unit.members.every((member) => draft.count(member) >= member.staying)) reduce(unit, policy, draft, time);
  }
}

/** Tells of what keeps the autoscaler from knowing or doing anything. */
function tell(units: readonly Unit[], draft: Draft): void {
  eachMember(units, (member) => {
    const { view } = member;
    for (const { reason, message } of view.blocks) {
      draft.hold(member, reason, message);
      if (reason !== 'paused') draft.alarm(member, reason, message);
    }
    if (view.missing.length > 0) draft.alarm(member, 'no_metrics', `${view.missing.join(', ')} tell no load`);
    if (view.stuck.length > 0)
      draft.alarm(
        member,
        'queue',
        `requests wait in ${view.stuck.join(', ')}, which compute nothing; they do not count as load`,
      );
    if (view.pods.failed > 0) draft.alarm(member, 'unschedulable', `${view.pods.failed} replicas fail over and over`);
  });
}

function decisionOf(member: Member, unit: Unit, draft: Draft): Decision {
  const { view } = member;
  const because = draft.because.get(view.name) ?? { reason: 'steady' as const, message: unit.cause.message };
  const at = (count: (one: Member) => number): number | null => {
    if (unit.shared === null) return null;
    const share = utilisation(unit, unit.shared.now, capacity(unit, count));
    return Number.isFinite(share) ? share : null;
  };
  return {
    workload: view.name,
    deployment: view.deployment,
    kind: view.kind,
    actual: view.replicas,
    desired: draft.count(member),
    utilisation: at(({ view: { pods } }) => pods.ready),
    predicted: at((one) => draft.count(one)),
    ...because,
    holds: draft.holds(view.name),
  };
}
