import type { AutoscalerPolicy } from '../policy.ts';
import { type Draft, isBlocked } from './draft.ts';
import { capacity, type Member, room, type Unit, utilisation, worth } from './units.ts';

/** Raises each workload to its least number of replicas. */
export function raiseToFloor(unit: Unit, draft: Draft): void {
  for (const member of unit.members) {
    const { floor, policy, view } = member;
    if (isBlocked(member) || draft.count(member) >= floor) continue;
    const redundant = floor > Math.max(1, policy.min);
    draft.set(member, floor, 'minimum', redundant ? `${floor} copies of its experts are asked for` : `min is ${floor}`);
    if (policy.max < policy.min) draft.alarm(member, 'minimum', `${view.name}: max is below min`);
  }
}

/** Raises a unit until its workers have memory for all experts in their reach. */
export function raiseForMemory(unit: Unit, draft: Draft): void {
  const pairs = Math.max(0, ...unit.members.map(({ view }) => view.memory?.pairs ?? 0));
  const slots = (): number =>
    unit.members.reduce((sum, member) => sum + draft.count(member) * (member.view.memory?.slots ?? 0), 0);
  while (pairs > 0 && slots() < pairs) {
    const member = bestToAdd(unit, draft);
    if (member === null) {
      const [first] = unit.members;
      if (first !== undefined)
        draft.alarm(first, 'memory', `room for ${slots()} of ${pairs} experts, and no replica may be added`);
      return;
    }
    draft.set(member, draft.count(member) + 1, 'memory', `${pairs} experts, and room for ${slots()}`);
  }
}

/**
 * How much more is asked for than is done: only where work is in fact held up, since requests that have just begun are offered
 * before they are computed.
 */
export function pressureOn(unit: Unit, policy: AutoscalerPolicy, pressure: number): number {
  if (unit.shared === null) return 1;
  const ready = capacity(unit, ({ view }) => view.pods.ready);
  return utilisation(unit, unit.shared.now, ready) >= policy.targetUtilisation ? pressure : 1;
}

/**
 * Raises a unit until the load, with headroom, leaves each replica at its target. `held`: the experts hold everything up, or
 * did: sequences have piled up in the routers, and more routers would hold more of them and compute no more.
 */
export function raiseForLoad(
  unit: Unit,
  policy: AutoscalerPolicy,
  draft: Draft,
  pressure: number,
  held: boolean,
): void {
  if (unit.shared === null) return;
  const heldUp = held && unit.kind === 'routers';
  const now = heldUp ? Math.min(unit.shared.now, unit.whenFree ?? unit.shared.now) : unit.shared.now;
  const work = now * policy.headroom * (unit.kind === 'experts' ? pressureOn(unit, policy, pressure) : 1);
  const limit = room(unit, policy);
  while (
    work /
      Math.max(
        1e-9,
        capacity(unit, (member) => draft.count(member)),
      ) >
    limit
  ) {
    const member = bestToAdd(unit, draft);
    if (member === null) return holdAtMax(unit, draft);
    draft.set(member, draft.count(member) + 1, unit.cause.reason, unit.cause.message);
  }
  const [member] = unit.members;
  if (heldUp && member !== undefined && unit.shared.now > now)
    draft.hold(member, 'objective', 'sequences pile up because the experts are the bottleneck');
  if (unit.fixed >= 0.9 * policy.targetUtilisation) tellOfFixed(unit, draft);
}

function tellOfFixed(unit: Unit, draft: Draft): void {
  const share = (unit.fixed * 100).toFixed(0);
  for (const member of unit.members)
    draft.alarm(
      member,
      'objective',
      `${share} % of each replica's time goes into messages, which more replicas would not share`,
    );
}

function holdAtMax({ members }: Unit, draft: Draft): void {
  for (const member of members) {
    if (draft.count(member) >= member.policy.max) draft.hold(member, 'maximum', `max is ${member.policy.max}`);
    for (const { reason, message } of member.view.blocks) draft.hold(member, reason, message);
    if (member.view.yieldsMs > 0)
      draft.hold(
        member,
        'unschedulable',
        `a replica could not be scheduled; tried again in ${Math.ceil(member.view.yieldsMs / 1000)} s`,
      );
  }
}

/** The workload whose next replica brings most for its price; null where none may grow. */
export function bestToAdd(unit: Unit, draft: Draft): Member | null {
  const open = unit.members.filter(
    (member) =>
      !isBlocked(member) &&
      draft.count(member) < member.policy.max &&
      (member.view.yieldsMs === 0 || draft.count(member) < member.view.replicas),
  );
  return open.sort((a, b) => worth(b) - worth(a))[0] ?? null;
}
