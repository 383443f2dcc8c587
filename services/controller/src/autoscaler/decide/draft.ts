import type { Alarm } from '../plan.ts';
import type { Reason } from '../reasons.ts';
import type { Block, View } from '../view.ts';
import type { Counts, Member, Unit } from './units.ts';

interface Because {
  reason: Reason;
  message: string;
}

/** A plan in the making: how many replicas each workload is to have, why, and what holds it back. */
export class Draft {
  readonly counts: Counts = new Map();
  readonly because = new Map<string, Because>();
  readonly alarms: Alarm[] = [];
  readonly #holds = new Map<string, Block[]>();

  constructor(units: readonly Unit[]) {
    for (const { members } of units) for (const { view, staying } of members) this.counts.set(view.name, staying);
  }

  count(member: Member): number {
    return this.counts.get(member.view.name) ?? 0;
  }

  set({ view }: Member, count: number, reason: Reason, message: string): void {
    this.counts.set(view.name, count);
    this.because.set(view.name, { reason, message });
  }

  hold({ view }: Member, reason: Reason, message: string): void {
    const holds = this.#holds.get(view.name) ?? [];
    if (!holds.some((hold) => hold.reason === reason)) holds.push({ reason, message });
    this.#holds.set(view.name, holds);
  }

  holds(name: string): readonly Block[] {
    return this.#holds.get(name) ?? [];
  }

  alarm({ view }: Member, reason: Reason, message: string): void {
    if (this.alarms.some((alarm) => alarm.workload === view.name && alarm.reason === reason)) return;
    this.alarms.push({ workload: view.name, reason, message });
  }
}

/** Whether nothing may be written to a workload. */
export function isBlocked({ view }: Member): boolean {
  return view.blocks.length > 0;
}

/** Units beside the members that belong to them. */
export function eachMember(units: readonly Unit[], fn: (member: Member, unit: Unit) => void): void {
  for (const unit of units) for (const member of unit.members) fn(member, unit);
}

/** Whether the whole model is at zero. */
export function allAtZero({ workloads }: View): boolean {
  return workloads.length > 0 && workloads.every(({ replicas }) => replicas === 0);
}
