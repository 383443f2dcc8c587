import { control } from '@guildhall/proto';
import type { WorkerIdentity } from './identity.ts';
import type { LoadProblem } from './load-problems.ts';
import type { LayerExperts } from './shard.ts';
import type { Speed } from './speed.ts';
import type { Work } from './work-meter.ts';

/** What a worker writes about itself. */
export interface WorkerState {
  identity: WorkerIdentity;
  address: string;
  admin: string;
  version: string;
  capacityBytes: number;
  expertBytes: number;
  failureDomain: string;
  group: string;
  node: string;
  acked: number;
  draining: boolean;
  /** Measured by itself. */
  speed: Speed;
  work: Work;
  held: LayerExperts[];
  /** Experts that it can load; null for all. */
  loadable: LayerExperts[] | null;
  /** Experts whose weights it can give others; null for all that it can load. */
  stored: LayerExperts[] | null;
  servesWeights: boolean;
  /** Why experts could not be loaded; null when nothing is wrong. */
  loadProblem: LoadProblem | null;
}

/** The worker's entry in Redis. */
export function encodeMember(state: WorkerState): Uint8Array {
  const { identity } = state;
  return control.Member.encode(
    control.Member.fromPartial({
      kind: control.MemberKind.MEMBER_KIND_EXPERT,
      id: identity.id,
      incarnation: identity.incarnation,
      address: state.address,
      modelFingerprint: identity.fingerprint,
      numericsId: identity.numericsId,
      version: state.version,
      weightCapacityBytes: BigInt(state.capacityBytes),
      expertBytes: BigInt(state.expertBytes),
      ackedEpoch: BigInt(state.acked),
      ready: state.acked > 0,
      draining: state.draining,
      usPerRow: state.speed.usPerRow,
      usPerMessage: state.speed.usPerMessage,
      ...state.work,
      numLayers: identity.numLayers,
      numExperts: identity.numExperts,
      adminAddress: state.admin,
      failureDomain: state.failureDomain,
      group: state.group,
      node: state.node,
      holdings: state.held,
      partialCheckpoint: state.loadable !== null,
      loadable: state.loadable ?? [],
      servesWeights: state.servesWeights,
      stored: state.stored ?? [],
      loadProblemCode: state.loadProblem?.code ?? '',
      loadProblem: state.loadProblem?.message ?? '',
    }),
  ).finish();
}
