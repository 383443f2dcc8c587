import { fail } from '@guildhall/common';
import type { Shrink, Shrinks, Workload, WorkloadPod, Workloads, WriteOutcome } from '../../k8s/types.ts';
import type { Scenario } from './scenario.ts';
import type { SimClock } from './sim-clock.ts';

/** From lowering replicas until a pod has left its machine. */
const TERMINATES_MS = 5000;
/** From the wish to drain a worker until others hold what it held. */
const DRAINS_MS = 8000;
/** From a pod's creation until the scheduler has said where it goes. */
const SCHEDULES_MS = 1000;

export interface SimPod {
  name: string;
  createdMs: number;
  boundMs: number | null;
  readyMs: number | null;
  endsMs: number | null;
  unschedulable: boolean;
}

export interface SimDeployment {
  name: string;
  kind: 'experts' | 'routers';
  replicas: number;
  gpus: number;
  pods: SimPod[];
  foreignWriter: string | null;
}

/**
 * Deployments, a scheduler and machines with GPUs, as the API server shows them; also who implements the drain before a deletion.
 * Pods are chosen for deletion as the ReplicaSet controller does: unbound ones, then those that are not ready, then by cost.
 */
export class SimCluster {
  readonly deployments: SimDeployment[];
  /** Pods that were deleted without having been drained while they were ready. */
  undrained: string[] = [];
  /** What a write comes to, if it fails. */
  failing: (deployment: string) => WriteOutcome | null = () => null;
  /** The watches are old. */
  blind = false;
  /** No machine takes new pods. */
  noNodes = false;
  readonly events: { deployment: string; type: string; message: string }[] = [];
  readonly #scenario: Scenario;
  readonly #clock: SimClock;
  #shrinks: (Shrink & { untilMs: number })[] = [];
  #serial = 0;

  constructor(scenario: Scenario, clock: SimClock) {
    this.#scenario = scenario;
    this.#clock = clock;
    const { groups, routers } = scenario;
    this.deployments = [
      ...groups.map(({ name, replicas, gpus }) => deployment(name, 'experts', replicas, gpus)),
      deployment('router', 'routers', routers.replicas, routers.gpus),
    ];
    for (const one of this.deployments)
      for (let at = 0; at < one.replicas; at += 1) one.pods.push(this.#pod(one, clock.nowMs() - 3_600_000, true));
  }

  /** As the autoscaler sees it. */
  get workloads(): Workloads {
    const list = (): readonly Workload[] | null =>
      this.blind ? null : this.deployments.map((one) => this.#workload(one));
    return {
      get current() {
        return list();
      },
      onChange: () => () => {},
      scale: (name, from, to) => this.#scale(name, from, to),
      setDeletionCost: async () => 'done',
      event: (name, type, _reason, message) => void this.events.push({ deployment: name, type, message }),
    };
  }

  get shrinks(): Shrinks {
    const list = (): readonly Shrink[] => this.#shrinks;
    return {
      get current() {
        return list();
      },
      shrink: (name, pods) => this.#shrink(name, pods),
      abort: (name) => this.#abort(name),
    };
  }

  find(name: string): SimDeployment {
    const found = this.deployments.find((one) => one.name === name);
    if (found === undefined) throw fail('internal', `no deployment ${name}`);
    return found;
  }

  async #scale(name: string, from: number, to: number): Promise<WriteOutcome> {
    const failed = this.failing(name);
    if (failed !== null) return failed;
    const one = this.find(name);
    if (one.replicas !== from) return 'conflict';
    one.replicas = to;
    one.foreignWriter = null;
    return 'done';
  }

  async #shrink(name: string, pods: readonly string[]): Promise<WriteOutcome> {
    const failed = this.failing(name);
    if (failed !== null) return failed;
    if (this.#shrinks.some((one) => one.deployment === name)) return 'refused';
    const nowMs = this.#clock.nowMs();
    this.#shrinks.push({
      deployment: name,
      pods,
      state: 'draining',
      sinceMs: nowMs,
      why: 'drains',
      untilMs: nowMs + DRAINS_MS,
    });
    return 'done';
  }

  async #abort(name: string): Promise<WriteOutcome> {
    const failed = this.failing(name);
    if (failed !== null) return failed;
    const found = this.#shrinks.find((one) => one.deployment === name);
    if (found === undefined || found.state === 'deleting') return 'refused';
    this.#shrinks = this.#shrinks.filter((one) => one !== found);
    return 'done';
  }

  /** Ids of pods that are asked to drain. */
  get draining(): ReadonlySet<string> {
    return new Set(this.#shrinks.flatMap(({ pods }) => pods));
  }

  /** Ready pods that take work. */
  serving(name: string): SimPod[] {
    const { draining } = this;
    return this.find(name).pods.filter((pod) => pod.readyMs !== null && pod.endsMs === null && !draining.has(pod.name));
  }

  /** GPUs that pods ask for, with those that have not left yet. */
  get gpusAsked(): number {
    return this.deployments.reduce((sum, { gpus, pods, replicas }) => {
      const live = pods.filter(({ endsMs }) => endsMs === null).length;
      return sum + gpus * (Math.max(live, replicas) + pods.filter(({ endsMs }) => endsMs !== null).length);
    }, 0);
  }

  /** Moves everything on to now. `covered` tells whether all experts are held without a pod. */
  tick(mayDelete: (pods: readonly string[]) => boolean): void {
    const nowMs = this.#clock.nowMs();
    for (const one of this.deployments) {
      one.pods = one.pods.filter(({ endsMs }) => endsMs === null || endsMs > nowMs);
      this.#start(one, nowMs);
    }
    for (const one of this.#shrinks) this.#advance(one, nowMs, mayDelete);
    this.#shrinks = this.#shrinks.filter(({ deployment: name, pods }) =>
      this.find(name).pods.some((pod) => pods.includes(pod.name) && pod.endsMs === null),
    );
    for (const one of this.deployments) this.#reconcile(one, nowMs);
  }

  #advance(one: Shrink & { untilMs: number }, nowMs: number, mayDelete: (pods: readonly string[]) => boolean): void {
    if (one.state === 'deleting' || nowMs < one.untilMs || !mayDelete(one.pods)) return;
    const target = this.find(one.deployment);
    if (this.failing(one.deployment) !== null) return;
    one.state = 'deleting';
    target.replicas -= one.pods.length;
  }

  #start(one: SimDeployment, nowMs: number): void {
    for (const pod of one.pods) {
      if (pod.endsMs !== null) continue;
      if (pod.boundMs === null && nowMs - pod.createdMs >= SCHEDULES_MS) {
        const free = this.#scenario.gpus - this.#gpusBound();
        pod.unschedulable = this.noNodes || (one.gpus > 0 && free < one.gpus);
        if (!pod.unschedulable) pod.boundMs = nowMs;
      }
      if (pod.boundMs !== null && nowMs - pod.boundMs >= this.#scenario.coldStartMs) pod.readyMs ??= nowMs;
    }
  }

  #gpusBound(): number {
    return this.deployments.reduce(
      (sum, { gpus, pods }) => sum + gpus * pods.filter(({ boundMs }) => boundMs !== null).length,
      0,
    );
  }

  #reconcile(one: SimDeployment, nowMs: number): void {
    const live = one.pods.filter(({ endsMs }) => endsMs === null);
    for (let at = live.length; at < one.replicas; at += 1) one.pods.push(this.#pod(one, nowMs, false));
    const { draining } = this;
    const rank = (pod: SimPod): number =>
      pod.boundMs === null ? 0 : pod.readyMs === null ? 1 : draining.has(pod.name) ? 2 : 3;
    const order = live.sort((a, b) => rank(a) - rank(b) || b.createdMs - a.createdMs);
    for (const pod of order.slice(0, Math.max(0, live.length - one.replicas))) {
      if (pod.readyMs !== null && !draining.has(pod.name) && one.replicas > 0) this.undrained.push(pod.name);
      pod.endsMs = nowMs + (pod.boundMs === null ? 0 : TERMINATES_MS);
    }
    one.pods = one.pods.filter(({ endsMs }) => endsMs === null || endsMs > nowMs);
  }

  #pod(one: SimDeployment, nowMs: number, ready: boolean): SimPod {
    this.#serial += 1;
    const at = ready ? nowMs : null;
    return {
      name: `${one.name}-${this.#serial}`,
      createdMs: nowMs,
      boundMs: at,
      readyMs: at,
      endsMs: null,
      unschedulable: false,
    };
  }

  #workload(one: SimDeployment): Workload {
    return {
      kind: one.kind,
      name: one.name,
      deployment: one.name,
      replicas: one.replicas,
      foreignWriter: one.foreignWriter,
      otherScaler: null,
      paused: false,
      rolling: false,
      pods: one.pods.map((pod) => podOf(pod)),
    };
  }
}

function deployment(name: string, kind: SimDeployment['kind'], replicas: number, gpus: number): SimDeployment {
  return { name, kind, replicas, gpus, pods: [], foreignWriter: null };
}

function podOf({ name, createdMs, boundMs, readyMs, endsMs, unschedulable }: SimPod): WorkloadPod {
  const phase =
    endsMs !== null
      ? 'terminating'
      : readyMs !== null
        ? 'ready'
        : boundMs !== null
          ? 'loading'
          : unschedulable
            ? 'unschedulable'
            : 'pending';
  return { name, node: boundMs === null ? null : 'node', phase, createdMs, readyMs, restarts: 0 };
}
