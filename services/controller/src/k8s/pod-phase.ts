import { isEnding, type PodObject, timeMs } from './api/objects.ts';
import type { PodPhase, WorkloadPod } from './types.ts';

/** Why a container waits that does not end by itself. */
const STUCK = new Set([
  'CrashLoopBackOff',
  'ImagePullBackOff',
  'ErrImagePull',
  'InvalidImageName',
  'CreateContainerConfigError',
  'CreateContainerError',
  'RunContainerError',
]);

/** How far a pod is. */
export function podPhase({ metadata, status }: PodObject): PodPhase {
  if (isEnding(metadata)) return 'terminating';
  if (status.phase === 'Failed' || status.phase === 'Succeeded') return 'failed';
  const containers = [...status.initContainerStatuses, ...status.containerStatuses];
  if (containers.some(({ state }) => STUCK.has(state?.waiting?.reason ?? ''))) return 'failed';
  const scheduled = status.conditions.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False' && scheduled.reason === 'Unschedulable') return 'unschedulable';
  if (status.phase === 'Pending') return 'pending';
  return readyCondition(status)?.status === 'True' ? 'ready' : 'loading';
}

function readyCondition(status: PodObject['status']): PodObject['status']['conditions'][number] | undefined {
  return status.conditions.find(({ type }) => type === 'Ready');
}

/** A pod as the rest of the controller sees it. */
export function workloadPod(pod: PodObject): WorkloadPod {
  const phase = podPhase(pod);
  return {
    name: pod.metadata.name,
    node: pod.spec.nodeName ?? null,
    phase,
    createdMs: timeMs(pod.metadata.creationTimestamp) ?? 0,
    readyMs: phase === 'ready' ? timeMs(readyCondition(pod.status)?.lastTransitionTime) : null,
    restarts: pod.status.containerStatuses.reduce((sum, { restartCount }) => sum + restartCount, 0),
  };
}
