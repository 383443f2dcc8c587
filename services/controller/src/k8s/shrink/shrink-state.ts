import { type DrainRequest, shrinkOf } from '@guildhall/common';
import type { Workload, WorkloadPod } from '../types.ts';

/** A pod that is to go, and its request in Redis. */
export interface Victim {
  request: DrainRequest;
  id: string;
  kind: 'expert' | 'router';
  /** Null when Kubernetes has no such pod any more. */
  pod: WorkloadPod | null;
}

/** A shrink as Redis and the API server have it: everything that is needed to go on with it. */
export interface ShrinkView {
  deployment: string;
  /** Replicas when it was begun. */
  from: number;
  sinceMs: number;
  /** Null when the Deployment is gone, or of another generation. */
  workload: Workload | null;
  victims: Victim[];
}

/** The shrinks that the requests in Redis speak of. */
export function shrinksIn(requests: Iterable<DrainRequest>, workloads: readonly Workload[]): ShrinkView[] {
  const views = new Map<string, ShrinkView>();
  for (const request of requests) {
    const shrink = shrinkOf(request);
    const slash = request.tag.indexOf('/');
    const [kind, id] = [request.tag.slice(0, slash), request.tag.slice(slash + 1)];
    if (shrink === null || (kind !== 'expert' && kind !== 'router')) continue;
    const { deployment, from } = shrink;
    const workload = workloads.find((one) => one.deployment === deployment) ?? null;
    const view = views.get(deployment) ?? { deployment, from, sinceMs: request.atMs, workload, victims: [] };
    view.victims.push({ request, id, kind, pod: workload?.pods.find(({ name }) => name === id) ?? null });
    views.set(deployment, view);
  }
  return [...views.values()].sort((a, b) => (a.deployment < b.deployment ? -1 : 1));
}

/** What is to be done next for a shrink. */
export type ShrinkStep =
  /** Requests of pods that are gone are taken back. */
  | { do: 'forget'; victims: Victim[] }
  /** Somebody wants more pods, or nothing is left to do it to: the rest gets work again. */
  | { do: 'abort'; why: string }
  | { do: 'drain'; waiting: Victim[]; why: string }
  | { do: 'lower'; victims: Victim[]; to: number }
  | { do: 'wait'; why: string };

export interface StepFacts {
  /** How far a victim is: empty when it may go, else what is waited for. */
  waitsFor: (victim: Victim) => string;
  /** Since when replicas are below `from` and no pod has been on its way out, ms; null otherwise. */
  settledForMs: number | null;
}

/** The ReplicaSet controller deletes within a second; after so long without it another pod was deleted instead. */
const SETTLED_MS = 10_000;

/** Decides from what is there alone, so that a controller that takes over at any point goes on. */
export function nextStep(view: ShrinkView, facts: StepFacts): ShrinkStep {
  const { workload, victims, from } = view;
  const gone = victims.filter(({ pod }) => pod === null);
  if (workload === null || gone.length > 0) return { do: 'forget', victims: workload === null ? victims : gone };
  const left = victims.filter(({ pod }) => pod?.phase !== 'terminating');
  if (left.length === 0) return { do: 'wait', why: 'its pods end' };
  if (workload.replicas > from)
    return { do: 'abort', why: `replicas were raised from ${from} to ${workload.replicas}` };
  if (workload.replicas < from) {
    if ((facts.settledForMs ?? 0) < SETTLED_MS) return { do: 'wait', why: 'Kubernetes deletes the pods' };
    return { do: 'abort', why: 'other pods were deleted instead' };
  }
  const waiting = left.filter((victim) => facts.waitsFor(victim) !== '');
  if (waiting.length > 0)
    return { do: 'drain', waiting, why: waiting.map((one) => `${one.id}: ${facts.waitsFor(one)}`).join('; ') };
  if (workload.rolling) return { do: 'wait', why: 'the pods of the Deployment are being replaced' };
  return { do: 'lower', victims: left, to: workload.replicas - left.length };
}
