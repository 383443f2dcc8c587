import type { EventKind } from '@guildhall/common';

/**
 * Events of the cluster's log that are also told as Kubernetes Events, with their reason. What is not here is either told by
 * whoever decides it (shrinks), or too frequent to be of use there.
 */
export const EVENT_REASONS: Partial<Record<EventKind, { type: 'Normal' | 'Warning'; reason: string }>> = {
  placement: { type: 'Normal', reason: 'PlacementPublished' },
  placement_short: { type: 'Warning', reason: 'ExpertsDoNotFit' },
  leader: { type: 'Normal', reason: 'LeaderElected' },
  worker_joined: { type: 'Normal', reason: 'WorkerJoined' },
  worker_left: { type: 'Warning', reason: 'WorkerLost' },
  worker_expected: { type: 'Warning', reason: 'WorkerNotRegistered' },
  worker_refused: { type: 'Warning', reason: 'WorkerRefused' },
  drain_started: { type: 'Normal', reason: 'DrainStarted' },
  drain_done: { type: 'Normal', reason: 'Drained' },
  drain_cancelled: { type: 'Normal', reason: 'DrainCancelled' },
  load_failed: { type: 'Warning', reason: 'LoadFailed' },
  experts_lost: { type: 'Warning', reason: 'ExpertsLost' },
  experts_recovered: { type: 'Normal', reason: 'ExpertsRecovered' },
};
