import {
  type Clock,
  type DrainRequest,
  type DrainStore,
  errorMessage,
  type LeaderElection,
  type Logger,
  type MemberEntry,
} from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { Emit } from '../../events.ts';
import type { KubeWorkloads } from '../workloads.ts';
import type { Shrink, ShrinkGuard, Shrinks, Workload, WriteOutcome } from '../types.ts';
import type { RouterDrains } from './router-drains.ts';
import { nextStep, type ShrinkStep, type ShrinkView, shrinksIn, type Victim } from './shrink-state.ts';

export interface ShrinkerOptions {
  drains: Pick<DrainStore, 'beginShrink' | 'endShrink' | 'mark'>;
  workloads: Pick<
    KubeWorkloads,
    'current' | 'scale' | 'setDeletionCost' | 'clearDeletionCost' | 'event' | 'deletionCosts'
  >;
  leader: Pick<LeaderElection, 'fence' | 'check'>;
  /** Live routers and workers as Redis has them. */
  members: () => readonly MemberEntry[];
  routers: Pick<RouterDrains, 'ensure' | 'describe' | 'keep' | 'told'>;
  guard?: ShrinkGuard;
  clock: Clock;
  logger: Logger;
  emit: Emit;
}

/** Of several pods the one with the least cost is deleted first; no other writer goes so low. */
export const VICTIM_COST = -1_000_000;
/** A worker that must keep experts for so long, because the others have no room, ends the shrink, in ms. */
const KEPT_MS = 60_000;

/**
 * Takes pods away without loss, in steps of which each can be repeated: ask them to drain (Redis), mark them as the ones to delete,
 * wait until nobody needs them, lower replicas, forget them. What to do next is read from Redis and the API server each time.
 */
export class Shrinker implements Shrinks {
  readonly #o: ShrinkerOptions;
  readonly #settled = new Map<string, number>();
  readonly #kept = new Map<string, number>();
  /** Why drained pods may not go, as told last, by Deployment. */
  readonly #barred = new Map<string, string>();
  #guard: ShrinkGuard;
  #views: ShrinkView[] = [];
  #current: Shrink[] = [];

  constructor(options: ShrinkerOptions) {
    this.#o = options;
    this.#guard = options.guard ?? (() => null);
  }

  get current(): readonly Shrink[] {
    return this.#current;
  }

  /** What is asked right before replicas are lowered. */
  set guard(guard: ShrinkGuard) {
    this.#guard = guard;
  }

  async shrink(deployment: string, pods: readonly string[]): Promise<WriteOutcome> {
    const { drains, leader, workloads, clock, emit, logger } = this.#o;
    const workload = workloads.current?.find((one) => one.deployment === deployment);
    const { fence } = leader;
    if (fence === null || workload === undefined || pods.length === 0 || !mayShrink(workload, pods)) return 'refused';
    const kind = workload.kind === 'routers' ? 'router' : 'expert';
    const tags = [...new Set(pods)].map((pod) => `${kind}/${pod}`);
    try {
      const begun = await drains.beginShrink({ deployment, from: workload.replicas }, tags, clock.nowMs(), fence);
      if (begun === 'not_leader') leader.check();
      if (begun !== 'begun') return begun === 'busy' ? 'conflict' : 'refused';
    } catch (err) {
      logger.warn({ deployment, reason: errorMessage(err) }, 'a shrink was not begun');
      return 'refused';
    }
    const message = `${deployment} is to shrink by ${tags.length}: ${pods.join(', ')} drain first`;
    emit('shrink_started', message, { deployment, pods, from: workload.replicas });
    workloads.event(deployment, 'Normal', 'ShrinkStarted', message);
    return 'done';
  }

  async abort(deployment: string): Promise<WriteOutcome> {
    const shrink = this.#views.find((one) => one.deployment === deployment);
    if (shrink === undefined) return 'refused';
    const { workload, from, victims } = shrink;
    if (workload !== null && workload.replicas < from) return 'refused';
    const { routers } = this.#o;
    const told = ({ kind, id, request }: Victim): boolean =>
      kind === 'router' && (request.state !== 'asked' || routers.told(id));
    if (victims.some(told)) return 'refused';
    return (await this.#abort(shrink, 'the autoscaler wants its pods back')) ? 'done' : 'refused';
  }

  /** Takes every shrink on by a step, given the requests in Redis; nothing happens unless this process leads. */
  async reconcile(requests: ReadonlyMap<string, DrainRequest>): Promise<void> {
    const { workloads, leader, routers } = this.#o;
    const { current } = workloads;
    if (current === null) return;
    this.#views = shrinksIn(requests.values(), current);
    this.#current = this.#views.map((view) => describe(view, this.#stepOf(view)));
    if (leader.fence === null) return;
    const ids = new Set(this.#views.flatMap(({ victims }) => victims.map(({ id }) => id)));
    routers.keep(ids);
    await this.#clearCosts(current, ids);
    for (const view of this.#views) await this.#advance(view);
  }

  async #advance(view: ShrinkView): Promise<void> {
    const { workload, victims } = view;
    if (workload !== null) await this.#mark(victims);
    const step = this.#stepOf(view);
    if (step.do === 'forget') await this.#forget(view, step.victims);
    if (step.do === 'abort') await this.#abort(view, step.why);
    if (step.do === 'drain') await this.#drain(view, step.waiting);
    if (step.do === 'lower' && workload !== null) await this.#lower(workload, step);
  }

  #stepOf(view: ShrinkView): ShrinkStep {
    return nextStep(view, { waitsFor: (victim) => this.#waitsFor(victim), settledForMs: this.#settledFor(view) });
  }

  /** Since when nothing has moved although replicas are lower: the deletion has been done. */
  #settledFor({ deployment, workload, from }: ShrinkView): number | null {
    const nowMs = this.#o.clock.monotonicMs();
    const quiet =
      workload !== null &&
      workload.replicas < from &&
      !workload.rolling &&
      !workload.pods.some(({ phase }) => phase === 'terminating');
    if (!quiet) this.#settled.delete(deployment);
    else if (!this.#settled.has(deployment)) this.#settled.set(deployment, nowMs);
    const sinceMs = this.#settled.get(deployment);
    return sinceMs === undefined ? null : nowMs - sinceMs;
  }

  /** What a victim waits for; empty when it may go. */
  #waitsFor({ id, kind, pod, request }: Victim): string {
    const member = this.#memberOf(kind, id);
    // Nobody is there who could be needed: it was never ready, or it has ended.
    if (member === null && pod?.phase !== 'ready') return '';
    if (request.state === 'done') return kind === 'router' && member?.draining === false ? 'it was started again' : '';
    if (kind === 'router') return this.#o.routers.describe(id);
    return request.why === '' ? request.state : request.why;
  }

  #memberOf(kind: string, id: string): (control.Member & { incarnation: bigint }) | null {
    const entry = this.#o.members().find((one) => one.kind === kind && one.id === id);
    if (entry === undefined) return null;
    return { ...control.Member.decode(entry.value), incarnation: entry.incarnation };
  }

  /** Marks the victims as the pods to delete first, whoever lowers replicas. */
  async #mark(victims: readonly Victim[]): Promise<void> {
    const { workloads } = this.#o;
    const costs = workloads.deletionCosts();
    for (const { id, pod } of victims) {
      if (pod === null || pod.phase === 'terminating' || costs.get(id) === VICTIM_COST) continue;
      await workloads.setDeletionCost(id, VICTIM_COST);
    }
  }

  /** Takes our marks from pods that are to stay. */
  async #clearCosts(all: readonly Workload[], victims: ReadonlySet<string>): Promise<void> {
    const { workloads } = this.#o;
    for (const [pod, cost] of workloads.deletionCosts()) {
      const workload = all.find(({ pods }) => pods.some(({ name, phase }) => name === pod && phase !== 'terminating'));
      if (cost !== VICTIM_COST || victims.has(pod) || workload === undefined || workload.rolling) continue;
      await workloads.clearDeletionCost(pod);
    }
  }

  /** Workers drain by their request in Redis; routers are told, and the state of that is noted in theirs. */
  async #drain(view: ShrinkView, waiting: readonly Victim[]): Promise<void> {
    for (const victim of waiting) {
      if (victim.kind === 'router') await this.#drainRouter(victim);
      else if (this.#keptTooLong(victim)) return void (await this.#abort(view, `${victim.id}: ${victim.request.why}`));
    }
  }

  async #drainRouter({ id, request }: Victim): Promise<void> {
    const member = this.#memberOf('router', id);
    if (member === null) return;
    const state = this.#o.routers.ensure(member) === 'done' ? 'done' : 'moving';
    if (request.state === state) return;
    try {
      await this.#o.drains.mark(request, { state, keeps: 0, why: '' });
    } catch (err) {
      this.#o.logger.debug({ router: id, reason: errorMessage(err) }, 'the drain of a router could not be noted');
    }
  }

  #keptTooLong({ id, request }: Victim): boolean {
    const nowMs = this.#o.clock.monotonicMs();
    if (request.state !== 'kept') this.#kept.delete(id);
    else if (!this.#kept.has(id)) this.#kept.set(id, nowMs);
    return nowMs - (this.#kept.get(id) ?? nowMs) >= KEPT_MS;
  }

  async #lower(workload: Workload, { victims, to }: ShrinkStep & { do: 'lower' }): Promise<void> {
    const { workloads, emit } = this.#o;
    const { deployment, replicas } = workload;
    const pods = victims.map(({ id }) => id);
    const why = this.#guard(deployment, pods);
    if (why !== null) {
      if (this.#barred.get(deployment) !== why)
        this.#o.logger.warn({ deployment, pods, why }, 'drained pods may not go yet');
      this.#barred.set(deployment, why);
      return;
    }
    this.#barred.delete(deployment);
    if ((await workloads.scale(deployment, replicas, to)) !== 'done') return;
    const message = `${deployment} goes from ${replicas} to ${to}: ${pods.join(', ')} are drained`;
    emit('shrink_done', message, { deployment, pods, from: replicas, to });
    workloads.event(deployment, 'Normal', 'Shrunk', message);
  }

  async #forget(view: ShrinkView, victims: readonly Victim[]): Promise<void> {
    await this.#end(view, victims);
    for (const { id } of victims) this.#kept.delete(id);
  }

  async #abort(view: ShrinkView, why: string): Promise<boolean> {
    const { workloads, emit } = this.#o;
    const { deployment, victims } = view;
    if (!(await this.#end(view, victims))) return false;
    for (const { id, pod } of victims) if (pod !== null) await workloads.clearDeletionCost(id);
    const message = `${deployment} keeps ${victims.map(({ id }) => id).join(', ')}: ${why}`;
    emit('shrink_aborted', message, { deployment, why });
    workloads.event(deployment, 'Warning', 'ShrinkAborted', message);
    return true;
  }

  /** Takes requests back; false when that was not possible. */
  async #end({ deployment, from }: ShrinkView, victims: readonly Victim[]): Promise<boolean> {
    const { drains, leader, logger } = this.#o;
    const { fence } = leader;
    if (fence === null) return false;
    const tags = victims.map(({ request }) => request.tag);
    try {
      const ended = await drains.endShrink({ deployment, from }, tags, fence);
      if (!ended) leader.check();
      return ended;
    } catch (err) {
      logger.debug({ deployment, reason: errorMessage(err) }, 'requests of a shrink could not be taken back');
      return false;
    }
  }
}

/** The pods are of it and stay recognisable, and routers have somebody to move their streams to. */
function mayShrink({ kind, pods: there, rolling }: Workload, pods: readonly string[]): boolean {
  const known = pods.every((name) => there.some((pod) => pod.name === name && pod.phase !== 'terminating'));
  const stays = there.some(({ name, phase }) => phase === 'ready' && !pods.includes(name));
  return known && !rolling && (kind === 'experts' || stays);
}

function describe({ deployment, workload, from, victims, sinceMs }: ShrinkView, step: ShrinkStep): Shrink {
  const lowered = workload === null || workload.replicas < from;
  const state = lowered ? 'deleting' : step.do === 'drain' ? 'draining' : 'drained';
  const why = 'why' in step ? step.why : '';
  return { deployment, pods: victims.map(({ id }) => id), state, sinceMs, why };
}
