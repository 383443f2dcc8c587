import { type Clock, type Cluster, fail, type Logger, type Metrics } from '@guildhall/common';
import type { Emit } from '../events.ts';
import type { Kubernetes } from '../k8s/kubernetes.ts';
import { coverageGuard } from './guard.ts';
import { Autoscaler, type AutoscalerDeps } from './loop.ts';
import { PolicyFile } from './policy-file.ts';
import { AUTOSCALER_STATUS } from './status.ts';

export interface OpenDeps {
  id: string;
  cluster: Pick<Cluster, 'members' | 'redis' | 'keys'>;
  /** Null outside Kubernetes. */
  kubernetes: Kubernetes | null;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  emit: Emit;
  traces?: AutoscalerDeps['traces'];
}

/** A status that was not renewed for so many evaluations is of a controller that is gone. */
const STATUS_EVALUATIONS = 6;
const STATUS_LEAST_MS = 30_000;

/**
 * The autoscaler of a controller; null where no policy is given. Whatever shrinks, coverage is checked right before.
 * Throws `config_invalid` for a policy that is wrong from the beginning, and outside Kubernetes.
 */
export function openAutoscaler(
  { autoscalerPolicy }: { autoscalerPolicy: string | null },
  deps: OpenDeps,
): Autoscaler | null {
  const { id, cluster, kubernetes, clock, logger, metrics, emit, traces } = deps;
  if (kubernetes !== null) kubernetes.shrinks.guard = coverageGuard(cluster.members);
  if (autoscalerPolicy === null) return null;
  if (kubernetes === null)
    throw fail('config_invalid', 'autoscaler_policy: there is nothing to scale outside Kubernetes; see --kubernetes', {
      field: 'autoscaler_policy',
    });
  const { workloads, shrinks, leader } = kubernetes;
  const file = new PolicyFile(autoscalerPolicy, logger);
  const { redis, keys, members } = cluster;
  return new Autoscaler({
    id,
    policy: () => file.get(),
    workloads,
    shrinks,
    members,
    leader,
    clock,
    logger,
    metrics,
    emit,
    ...(traces === undefined ? {} : { traces }),
    async publish(status) {
      const expiryMs = Math.max(STATUS_LEAST_MS, STATUS_EVALUATIONS * status.policy.evaluateMs);
      await redis.set(keys.status(AUTOSCALER_STATUS), JSON.stringify(status), 'PX', expiryMs);
    },
  });
}
