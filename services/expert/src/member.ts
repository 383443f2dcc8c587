import { control } from '@guildhall/proto';
import type { WorkerIdentity } from './identity.ts';
import type { LayerExperts } from './shard.ts';

/** What a worker writes about itself. */
export interface WorkerState {
  identity: WorkerIdentity;
  address: string;
  admin: string;
  version: string;
  capacityBytes: number;
  expertBytes: number;
  failureDomain: string;
  acked: number;
  draining: boolean;
  held: LayerExperts[];
  /** Experts whose files are on this machine; null where all are. */
  loadable: LayerExperts[] | null;
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
      numLayers: identity.numLayers,
      numExperts: identity.numExperts,
      adminAddress: state.admin,
      failureDomain: state.failureDomain,
      holdings: state.held,
      partialCheckpoint: state.loadable !== null,
      loadable: state.loadable ?? [],
    }),
  ).finish();
}
