import type { Shrink, Workload, WorkloadPod } from '../../k8s/types.ts';
import type { Step } from '../plan.ts';
import type { AutoscalerPolicy } from '../policy.ts';
import type { Signals, WorkerSignal } from '../signals.ts';
import type { Block, Memory, PodCounts, View, Victim, WorkloadView } from '../view.ts';
import { DemandTracker } from './demand.ts';
import { ForeignWriters } from './foreign-writers.ts';
import { GroupTracker } from './group-tracker.ts';
import { ANY, pairsOf, Reaches } from './reach.ts';
import { RouterTracker } from './router-tracker.ts';
import { expertVictim, routerVictim } from './victims.ts';

/** What one evaluation looks at. */
export interface Observation {
  /** Milliseconds since the Unix epoch. */
  atMs: number;
  workloads: readonly Workload[];
  shrinks: readonly Shrink[];
  signals: Signals;
}

/** Members report every two seconds means of ten: counters that were zero for so long say that measures are zero too. */
const NO_LOAD_MS = 15_000;

/** What is remembered of one Deployment. */
class Memo {
  readonly group = new GroupTracker();
  readonly router = new RouterTracker();
  memory: Memory | null = null;
  replicas: number | null = null;
  raisedAtMs: number | null = null;
  loweredAtMs: number | null = null;
  yieldsUntilMs = 0;
}

/** Turns observations into views: follows loads, what changed when, and who may go. */
export class Tracker {
  readonly #memos = new Map<string, Memo>();
  readonly #demand = new DemandTracker();
  readonly #foreign = new ForeignWriters();
  readonly #reaches = new Reaches();

  /** The view of one evaluation; workloads that the policy does not name are left out. */
  observe(observation: Observation, policy: AutoscalerPolicy): View {
    const { atMs, workloads, signals } = observation;
    this.#reaches.keep(signals.workers);
    const demand = this.#demand.observe(signals, atMs);
    const deployments = new Set(workloads.map(({ deployment }) => deployment));
    for (const known of this.#memos.keys()) if (!deployments.has(known)) this.#memos.delete(known);
    const managed = workloads.filter(({ deployment }) => isManaged(deployment, policy));
    return { atMs, demand, workloads: managed.map((workload) => this.#view(workload, observation, policy)) };
  }

  /** A step was carried out. */
  noteStep(step: Step, atMs: number, policy: AutoscalerPolicy): void {
    const memo = this.#memos.get(step.deployment);
    if (memo === undefined || step.kind !== 'scale') return;
    // The next look at the API server may still show the number before.
    if (step.to > step.from) memo.raisedAtMs = atMs;
    else memo.loweredAtMs = atMs;
    if (step.reason === 'unschedulable') memo.yieldsUntilMs = atMs + policy.pendingTimeoutMs;
  }

  #view(workload: Workload, observation: Observation, policy: AutoscalerPolicy): WorkloadView {
    const { atMs, signals, shrinks } = observation;
    const memo = this.#memos.get(workload.deployment) ?? new Memo();
    this.#memos.set(workload.deployment, memo);
    this.#noteReplicas(memo, workload.replicas, atMs);
    const shrink = shrinks.find(({ deployment }) => deployment === workload.deployment) ?? null;
    const leaving = new Set(shrink?.pods);
    const ready = workload.pods.filter(({ name, phase }) => phase === 'ready' && !leaving.has(name));
    const { missing, stuck } = this.#observeLoad(memo, workload, ready, observation, policy);
    const ofGroup = signals.workers.filter((worker) => workload.pods.some(({ name }) => name === worker.id));
    memo.memory = this.#memoryOf(ofGroup) ?? memo.memory;
    const since = (at: number | null): number | null => (at === null ? null : atMs - at);
    const experts = workload.kind === 'experts';
    return {
      kind: workload.kind,
      name: workload.name,
      deployment: workload.deployment,
      replicas: workload.replicas,
      pods: countPods(
        workload.pods.filter(({ name, phase }) => phase !== 'ready' || !leaving.has(name)),
        atMs,
      ),
      group: experts ? memo.group.load : null,
      router: experts ? null : memo.router.load,
      memory: experts ? memo.memory : null,
      missing,
      stuck,
      blocks: this.#blocks(workload, atMs, policy),
      rolling: workload.rolling,
      shrinking:
        shrink === null ? null : { pods: shrink.pods, committed: shrink.state === 'deleting', why: shrink.why },
      victim: this.#victim(workload, ready, signals),
      raisedMs: since(memo.raisedAtMs),
      loweredMs: since(memo.loweredAtMs),
      youngestMs: ready.length === 0 ? null : Math.min(...ready.map(({ readyMs }) => atMs - (readyMs ?? atMs))),
      watchedMs: experts ? memo.group.watchedMs : memo.router.watchedMs,
      yieldsMs: Math.max(0, memo.yieldsUntilMs - atMs),
    };
  }

  #noteReplicas(memo: Memo, replicas: number, atMs: number): void {
    if (memo.replicas !== null && replicas > memo.replicas) memo.raisedAtMs = atMs;
    if (memo.replicas !== null && replicas < memo.replicas) memo.loweredAtMs = atMs;
    memo.replicas = replicas;
  }

  #observeLoad(
    memo: Memo,
    { kind }: Workload,
    pods: readonly WorkloadPod[],
    { atMs, signals }: Observation,
    policy: AutoscalerPolicy,
  ): { missing: string[]; stuck: string[] } {
    const facts = {
      atMs,
      pods,
      warmUpMs: policy.warmUpMs,
      windowMs: Math.max(policy.scaleDownAfterMs, policy.evaluateMs),
    };
    if (kind === 'routers') {
      const routers = new Map(signals.routers.map((router) => [router.id, router]));
      return memo.router.observe({ ...facts, routers });
    }
    const workers = new Map(signals.workers.map((worker) => [worker.id, worker]));
    const noLoad = this.#demand.zeroMs(atMs) >= NO_LOAD_MS;
    return { missing: memo.group.observe({ ...facts, workers, noLoad }), stuck: [] };
  }

  /** Of workers with different reaches in one group the first counts: a group is meant to be of one kind. */
  #memoryOf(workers: readonly WorkerSignal[]): Memory | null {
    const [first] = workers;
    if (first === undefined || first.slots === 0) return null;
    const slots = Math.min(...workers.map((worker) => worker.slots));
    return { reach: this.#reaches.of(first), pairs: pairsOf(first), slots };
  }

  #blocks(workload: Workload, atMs: number, policy: AutoscalerPolicy): Block[] {
    const blocks: Block[] = [];
    if (workload.otherScaler !== null)
      blocks.push({ reason: 'other_scaler', message: `${workload.otherScaler} scales ${workload.deployment}` });
    if (workload.paused)
      blocks.push({ reason: 'paused', message: 'the annotation guildhall.dev/autoscale is "paused"' });
    const foreign = this.#foreign.check(workload, atMs, policy.foreignHoldMs);
    if (foreign !== null) blocks.push(foreign);
    return blocks;
  }

  #victim(workload: Workload, ready: readonly WorkloadPod[], { workers, routers }: Signals): Victim | null {
    return workload.kind === 'routers' ? routerVictim(ready, routers) : expertVictim(ready, workers, this.#reaches);
  }
}

function isManaged(deployment: string, { groups, routers }: AutoscalerPolicy): boolean {
  return routers?.deployment === deployment || groups.some((group) => group.deployment === deployment);
}

function countPods(pods: readonly WorkloadPod[], atMs: number): PodCounts {
  const of = (phase: WorkloadPod['phase']): number => pods.filter((pod) => pod.phase === phase).length;
  const unschedulableMs = pods
    .filter(({ phase }) => phase === 'unschedulable')
    .map(({ createdMs }) => atMs - createdMs);
  return {
    ready: of('ready'),
    loading: of('loading'),
    pending: of('pending'),
    failed: of('failed'),
    terminating: pods.filter(({ phase, node }) => phase === 'terminating' && node !== null).length,
    unschedulableMs: unschedulableMs.sort((a, b) => b - a),
  };
}

export { ANY };
