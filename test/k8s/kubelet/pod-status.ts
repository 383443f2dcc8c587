import type { V1ContainerStatus, V1Pod, V1PodCondition, V1PodStatus } from '@kubernetes/client-node';

/** What is known of a pod's parts. */
export interface PodView {
  pod: V1Pod;
  podIP: string | null;
  hostIP: string;
  startedAt: Date;
  initialized: boolean;
  /** All containers ended and none is started again. */
  finished: boolean;
  /** It was ended because it took longer than activeDeadlineSeconds. */
  overdue: boolean;
  init: readonly V1ContainerStatus[];
  main: readonly V1ContainerStatus[];
  /** Why no container could be started yet. */
  problem: { reason: string; message: string } | null;
  now: Date;
}

function phaseOf({ pod, finished, overdue, initialized, main, init }: PodView): string {
  if (finished && overdue) return 'Failed';
  if (finished) {
    // Those that ran beside the others are ended by us: how says nothing of the pod.
    const beside = (pod.spec?.initContainers ?? []).filter((one) => one.restartPolicy === 'Always');
    const steps = init.filter(({ name }) => !beside.some((one) => one.name === name));
    const codes = [...main, ...steps].map(({ state }) => state?.terminated?.exitCode ?? 0);
    return codes.every((code) => code === 0) ? 'Succeeded' : 'Failed';
  }
  const neverRan = main.some(
    ({ state, lastState }) => state?.waiting !== undefined && lastState?.terminated === undefined,
  );
  return !initialized || neverRan ? 'Pending' : 'Running';
}

function condition(type: string, holds: boolean, reason: string, names: readonly string[] = []): V1PodCondition {
  if (holds) return { type, status: 'True' };
  const message = names.length === 0 ? {} : { message: `containers with unready status: [${names.join(' ')}]` };
  return { type, status: 'False', reason, ...message };
}

function conditionsOf(view: PodView): V1PodCondition[] {
  const { pod, main, initialized, finished, podIP } = view;
  const unready = main.filter(({ ready }) => !ready).map(({ name }) => name);
  const containersReady = initialized && unready.length === 0;
  const gates = (pod.spec?.readinessGates ?? []).map(({ conditionType }) => conditionType);
  const open = gates.every((gate) =>
    pod.status?.conditions?.some(({ type, status }) => type === gate && status === 'True'),
  );
  const reason = finished ? 'PodCompleted' : 'ContainersNotReady';
  return [
    condition('PodReadyToStartContainers', podIP !== null, 'PodSandboxMissing'),
    condition('Initialized', initialized, 'ContainersNotInitialized'),
    condition('ContainersReady', containersReady, reason, unready),
    condition('Ready', containersReady && open, containersReady ? 'ReadinessGatesNotReady' : reason, unready),
  ];
}

/** Conditions with the time of their last change, which stays while they do not change. */
function dated(conditions: readonly V1PodCondition[], before: readonly V1PodCondition[], now: Date): V1PodCondition[] {
  return conditions.map(({ type, status, reason, message }) => {
    const old = before.find((one) => one.type === type);
    const same = old !== undefined && old.status === status;
    return {
      type,
      status,
      lastTransitionTime: (same ? old.lastTransitionTime : undefined) ?? now,
      ...(reason === undefined ? {} : { reason }),
      ...(message === undefined ? {} : { message }),
    };
  });
}

/** The status of a pod as its kubelet reports it. `before` are the conditions that were reported last. */
export function podStatus(view: PodView, before: readonly V1PodCondition[]): V1PodStatus {
  const { podIP, hostIP, startedAt, init, main, problem, now } = view;
  return {
    phase: phaseOf(view),
    hostIP,
    hostIPs: [{ ip: hostIP }],
    startTime: startedAt,
    conditions: dated(conditionsOf(view), before, now),
    containerStatuses: [...main],
    ...(init.length === 0 ? {} : { initContainerStatuses: [...init] }),
    ...(podIP === null ? {} : { podIP, podIPs: [{ ip: podIP }] }),
    ...(problem === null ? {} : problem),
  };
}
