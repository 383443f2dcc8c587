import type { Plan, Step } from '../plan.ts';
import { type Draft, eachMember, isBlocked } from './draft.ts';
import { idlePods } from './reductions.ts';
import type { Member, Unit } from './units.ts';

/**
 * What to do now, in order: what frees machines before what takes them, so that a plan that breaks off in the middle never asks
 * for more than the budget.
 */
export function stepsOf(units: readonly Unit[], draft: Draft, state: Plan['state']): Step[] {
  const down: Step[] = [];
  const back: Step[] = [];
  const up: Step[] = [];
  eachMember(units, (member) => {
    const step = isBlocked(member) ? null : stepOf(member, draft, state);
    if (step === null) return;
    if (step.kind === 'abort') back.push(step);
    else if (step.kind === 'scale' && step.to > step.from) up.push(step);
    else down.push(step);
  });
  return [...down, ...back, ...up];
}

function stepOf(member: Member, draft: Draft, state: Plan['state']): Step | null {
  const { view, staying } = member;
  const count = draft.count(member);
  const because = draft.because.get(view.name) ?? { reason: 'steady' as const, message: '' };
  const about = { workload: view.name, deployment: view.deployment };
  const draining = view.shrinking !== null && !view.shrinking.committed;
  if (state === 'falling_asleep' || state === 'asleep') {
    if (count >= view.replicas) return null;
    return { ...about, ...because, kind: 'scale', from: view.replicas, to: count };
  }
  // A replica that drains is the fastest one to get.
  if (draining && count > staying) {
    const message = `${because.message}; ${view.shrinking?.pods.join(', ')} stays`;
    return { ...about, kind: 'abort', reason: 'taken_back', message };
  }
  if (count > view.replicas) return { ...about, ...because, kind: 'scale', from: view.replicas, to: count };
  if (count >= staying || draining) return null;
  if (because.reason === 'unschedulable' || idlePods(member) > 0)
    return { ...about, ...because, kind: 'scale', from: view.replicas, to: count };
  const pod = view.victim?.pod;
  return pod === undefined ? null : { ...about, ...because, kind: 'shrink', pods: [pod] };
}
