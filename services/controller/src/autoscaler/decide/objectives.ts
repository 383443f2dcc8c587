import type { AutoscalerPolicy } from '../policy.ts';
import type { View } from '../view.ts';
import type { Draft } from './draft.ts';
import { bestToAdd } from './growth.ts';
import { stepTime } from './queueing.ts';
import { capacity, expertsAreBusy, type Member, type Unit, utilisation } from './units.ts';

/** A replica that makes steps shorter by less than this is not added for their sake. */
const LEAST_GAIN = 0.02;
/** Routers are not multiplied by more than this at a time: what helped shows first. */
const MOST_STEP = 2;
/** Work on prompts over the objective above which the first token is late because it waits. */
const WAITS_SHARE = 0.25;

/** Predicts the time between two tokens from the routers' measurement and the utilisation of the workers. */
export interface TokenTime {
  /** ms; null where it is not known. */
  predict(count: (member: Member) => number, level: 'now' | 'high'): number | null;
  /** The part of it that workers make now, ms. */
  expertMs: number;
  measuredMs: number;
}

/**
 * A step waits in each layer for the slowest group, so the experts' part is that of the group with the longest steps; what is
 * measured beyond it is the routers' own and stays. Null where routers have not measured.
 */
export function tokenTime(view: View, units: readonly Unit[]): TokenTime | null {
  const load = view.workloads.find(({ router }) => router !== null)?.router ?? null;
  if (load === null || load.itlMs === null || load.stepsPerSecond === null || load.stepsPerSecond <= 0) return null;
  const betweenMs = 1000 / load.stepsPerSecond;
  const pools = units.filter(({ kind, shared }) => kind === 'experts' && shared !== null);
  const expertMs = (count: (member: Member) => number, level: 'now' | 'high'): number =>
    Math.max(
      0,
      ...pools.map((unit) => {
        const at = utilisation(unit, unit.shared?.[level] ?? 0, capacity(unit, count));
        return Number.isFinite(at) ? stepTime(at) * betweenMs : Number.POSITIVE_INFINITY;
      }),
    );
  const measuredMs = load.itlMs.now;
  const now = Math.min(
    measuredMs,
    expertMs(({ view: { pods } }) => pods.ready, 'now'),
  );
  return {
    measuredMs,
    expertMs: now,
    predict(count, level) {
      const predicted = measuredMs - now + expertMs(count, level);
      return Number.isFinite(predicted) ? predicted : null;
    },
  };
}

/** Raises whoever makes tokens late: the group with the longest steps, or the routers where most of the time is their own. */
export function raiseForTokens(view: View, units: readonly Unit[], policy: AutoscalerPolicy, draft: Draft): void {
  const limit = policy.slo.itlP95Ms;
  const time = tokenTime(view, units);
  if (limit === null || time === null || time.measuredMs <= limit) return;
  const message = `${time.measuredMs.toFixed(1)} ms between tokens, of which ${time.expertMs.toFixed(1)} in the experts; ${limit} are to be met`;
  if (time.expertMs < time.measuredMs / 2) return raiseRouters(units, draft, 'itl', time.measuredMs / limit, message);
  for (;;) {
    const before = time.predict((member) => draft.count(member), 'now');
    if (before !== null && before <= limit) return;
    const worst = worstPool(units, draft);
    const member = worst === null ? null : bestToAdd(worst, draft);
    if (member === null) return;
    const count = draft.count(member) + 1;
    const after = time.predict((one) => (one === member ? count : draft.count(one)), 'now');
    if (before !== null && after !== null && after > before * (1 - LEAST_GAIN)) {
      draft.alarm(member, 'objective', `${message}; more replicas would not meet them`);
      return draft.hold(member, 'objective', message);
    }
    draft.set(member, count, 'itl', message);
  }
}

function worstPool(units: readonly Unit[], draft: Draft): Unit | null {
  const at = (unit: Unit): number =>
    utilisation(
      unit,
      unit.shared?.now ?? 0,
      capacity(unit, (member) => draft.count(member)),
    );
  const pools = units.filter(({ kind, shared }) => kind === 'experts' && shared !== null);
  return pools.sort((a, b) => at(b) - at(a))[0] ?? null;
}

/** Raises the routers where first tokens are late because prompts wait for them, and not for the experts. */
export function raiseForFirstTokens(view: View, units: readonly Unit[], policy: AutoscalerPolicy, draft: Draft): void {
  const limit = policy.slo.ttftP95Ms;
  const routers = view.workloads.find(({ kind }) => kind === 'routers');
  const load = routers?.router ?? null;
  if (limit === null || routers === undefined || load?.ttftMs === undefined || load.ttftMs === null) return;
  if (load.ttftMs.now <= limit) return;
  const unit = units.find(({ kind }) => kind === 'routers');
  const [member] = unit?.members ?? [];
  if (member === undefined) return;
  const message = `${load.ttftMs.now.toFixed(0)} ms to the first token; ${limit} are to be met`;
  // Prompts go through the experts too: more routers would only wait for them.
  if (expertsAreBusy(units, policy))
    return draft.hold(member, 'objective', `${message}; the experts are the bottleneck`);
  const waitsMs = load.prefillMs.now / Math.max(1, routers.pods.ready);
  if (load.waiting.now < 1 && waitsMs < WAITS_SHARE * limit) {
    draft.alarm(member, 'objective', `${message}; nothing waits, so more routers would not meet them`);
    return draft.hold(member, 'objective', message);
  }
  raiseRouters(units, draft, 'ttft', load.ttftMs.now / limit, message);
}

function raiseRouters(
  units: readonly Unit[],
  draft: Draft,
  reason: 'ttft' | 'itl',
  excess: number,
  message: string,
): void {
  const unit = units.find(({ kind }) => kind === 'routers');
  const [member] = unit?.members ?? [];
  if (unit === undefined || member === undefined) return;
  // Those that are on their way have not helped yet.
  const wanted = Math.ceil(member.view.pods.ready * Math.min(MOST_STEP, excess));
  while (draft.count(member) < wanted) {
    if (bestToAdd(unit, draft) === null) return draft.hold(member, 'maximum', `max is ${member.policy.max}`);
    draft.set(member, draft.count(member) + 1, reason, message);
  }
}
