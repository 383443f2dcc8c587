import type { Clock, Logger } from '@guildhall/common';
import type { LiveMembers, Liveness } from '../controllers/workers/liveness.ts';
import type { Emit } from '../events.ts';
import type { MemberInfos, RouterInfo, WorkerInfo } from '../store/worker-store.ts';
import type { Endpoints } from './types.ts';

/** A pod of this generation, as liveness needs it. */
export interface PodState {
  component: string;
  terminating: boolean;
}

export interface JoinedLivenessOptions {
  endpoints: Pick<Endpoints, 'current'>;
  /** Pods of the release and of this generation by name; null while they are not known. */
  pods: () => ReadonlyMap<string, PodState> | null;
  clock: Clock;
  logger: Logger;
  emit: Emit;
}

/** How long a worker that is ready by its EndpointSlice may be missing in Redis, in ms: an outage, and time to register again. */
export const EXPECT_MS = 30_000;
/** How long a new worker that no EndpointSlice names is kept waiting, in ms; then the registry alone decides. */
export const CONFIRM_MS = 30_000;

/**
 * Who lives by Redis and by Kubernetes together. Pods that are terminating count as draining at once, before they say so; those
 * that are gone count as lost at once, before their lease ends; a worker that is ready by its EndpointSlice but that Redis has
 * lost keeps its place for a bounded time; a new one gets work once both know it. Members outside Kubernetes, and all of them
 * while the API server is away, live by Redis alone.
 */
export class JoinedLiveness implements Liveness {
  readonly #o: JoinedLivenessOptions;
  /** Ids of members that had a pod. */
  readonly #hadPod = new Set<string>();
  /** Workers that both sides knew, as Redis had them last. */
  readonly #known = new Map<string, WorkerInfo>();
  /** Since when new workers wait to be named by a slice, on the monotonic clock. */
  readonly #unnamed = new Map<string, number>();
  /** Since when ready workers are missing in Redis. */
  readonly #missing = new Map<string, number>();

  constructor(options: JoinedLivenessOptions) {
    this.#o = options;
  }

  judge(infos: MemberInfos): LiveMembers {
    const endpoints = this.#o.endpoints.current;
    const pods = this.#o.pods();
    if (endpoints === null || pods === null) return { ...infos, gone: new Map(), expected: [] };
    for (const id of pods.keys()) this.#hadPod.add(id);
    const gone = new Map<string, string>();
    const isThere = (kind: string, { id }: { id: string }): boolean => {
      if (pods.has(id) || !this.#hadPod.has(id)) return true;
      gone.set(`${kind}/${id}`, 'its pod is gone');
      return false;
    };
    const routers = infos.routers.filter((router: RouterInfo) => isThere('router', router));
    const workers = infos.workers.filter((worker) => isThere('expert', worker));
    const confirmed = workers.filter((worker) => this.#isConfirmed(worker, pods, endpoints));
    const live = confirmed.map((worker) => ({
      ...worker,
      draining: worker.draining || isEnding(worker.id, pods, endpoints),
    }));
    for (const worker of live) if (pods.has(worker.id)) this.#known.set(worker.id, worker);
    const { held, expected } = this.#missingWorkers(infos, pods, endpoints);
    this.#forget(infos, pods);
    const all = [...live, ...held].sort((a, b) => (a.id < b.id ? -1 : 1));
    return { ...infos, workers: all, routers, gone, expected };
  }

  /** A worker that both know, or that is none of Kubernetes' business. */
  #isConfirmed(worker: WorkerInfo, pods: Pods, endpoints: EndpointMap): boolean {
    const { id, node } = worker;
    const inKubernetes = node !== '' || pods.has(id) || endpoints.has(id);
    if (!inKubernetes || this.#known.has(id) || (pods.has(id) && endpoints.has(id))) {
      this.#unnamed.delete(id);
      return true;
    }
    const { clock, logger } = this.#o;
    const nowMs = clock.monotonicMs();
    const sinceMs = this.#unnamed.get(id) ?? nowMs;
    if (!this.#unnamed.has(id)) this.#unnamed.set(id, nowMs);
    if (nowMs - sinceMs < CONFIRM_MS) return false;
    logger.warn(
      { event: 'worker_unnamed', worker: id },
      'no EndpointSlice names a worker: Redis alone decides about it',
    );
    this.#known.set(id, worker);
    return true;
  }

  /** Workers that Kubernetes calls ready and Redis does not know: those with a known past keep their place for a while. */
  #missingWorkers(infos: MemberInfos, pods: Pods, endpoints: EndpointMap): { held: WorkerInfo[]; expected: string[] } {
    const there = new Set(infos.workers.map(({ id }) => id));
    const held: WorkerInfo[] = [];
    const expected: string[] = [];
    for (const [id, { ready, terminating }] of endpoints) {
      const pod = pods.get(id);
      const isMissing = pod?.component === 'expert' && !pod.terminating && ready && !terminating && !there.has(id);
      if (!isMissing) {
        this.#missing.delete(id);
        continue;
      }
      const known = this.#known.get(id);
      if (!this.#waitsFor(id)) continue;
      if (known !== undefined) held.push(known);
      expected.push(id);
    }
    for (const id of this.#missing.keys()) if (!endpoints.has(id)) this.#missing.delete(id);
    return { held, expected };
  }

  #waitsFor(id: string): boolean {
    const { clock, logger, emit } = this.#o;
    const nowMs = clock.monotonicMs();
    const sinceMs = this.#missing.get(id);
    if (sinceMs === undefined) {
      this.#missing.set(id, nowMs);
      logger.warn({ event: 'worker_expected', worker: id }, 'a worker is ready by Kubernetes and unknown to Redis');
      emit('worker_expected', `${id} is ready by its EndpointSlice and unknown to Redis`, { worker: id });
      return true;
    }
    return nowMs - sinceMs < EXPECT_MS;
  }

  /** What is neither in Redis nor a pod is not remembered. */
  #forget(infos: MemberInfos, pods: Pods): void {
    const there = new Set([...infos.workers, ...infos.routers].map(({ id }) => id));
    for (const id of this.#hadPod) if (!pods.has(id) && !there.has(id)) this.#hadPod.delete(id);
    for (const id of this.#known.keys()) if (!pods.has(id) && !there.has(id)) this.#known.delete(id);
    for (const id of this.#unnamed.keys()) if (!there.has(id)) this.#unnamed.delete(id);
  }
}

type Pods = ReadonlyMap<string, PodState>;
type EndpointMap = NonNullable<Endpoints['current']>;

function isEnding(id: string, pods: Pods, endpoints: EndpointMap): boolean {
  return pods.get(id)?.terminating === true || endpoints.get(id)?.terminating === true;
}
