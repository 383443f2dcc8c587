import type { ElectionMode } from './lease/lease-election.ts';
import type { Shrink, Workload } from './types.ts';

/** What the controller says of Kubernetes; part of its status. */
export interface KubernetesStatus {
  namespace: string;
  release: string;
  lease: { name: string; holder: string | null; mode: ElectionMode };
  /** Age in s since the API server last said anything; null before it did. */
  watches: { kind: string; ageS: number | null; stale: boolean; problem: string }[];
  workloads: Workload[];
  shrinks: Shrink[];
}
