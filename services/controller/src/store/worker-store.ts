import type { MemberEntry } from '@guildhall/common';
import { control } from '@guildhall/proto';

/** A live expert worker. */
export interface WorkerInfo {
  id: string;
  incarnation: bigint;
  address: string;
  fingerprint: string;
  numericsId: string;
  capacityBytes: number;
  expertBytes: number;
  numLayers: number;
  numExperts: number;
  ackedEpoch: number;
  /** It says so itself, because it was asked to end. */
  draining: boolean;
  failureDomain: string;
  /** Machine as Kubernetes names it, and the group that is scaled together; empty outside Kubernetes. */
  node: string;
  group: string;
  /** Measured by the worker; 0 before it has measured enough. */
  usPerRow: number;
  usPerMessage: number;
  /** Why the last expert could not be loaded; null when nothing is wrong. */
  loadProblem: { code: string; text: string } | null;
  /** Experts held now, by layer. */
  holdings: Map<number, ReadonlySet<number>>;
  /** Experts whose files the worker has, by layer; null where it has all. */
  loadable: Map<number, ReadonlySet<number>> | null;
}

/** What else the placement depends on: the epochs and models of the live members. */
export interface RouterInfo {
  id: string;
  fingerprint: string;
  numericsId: string;
  ackedEpoch: number;
  node: string;
}

export interface MemberInfos {
  workers: WorkerInfo[];
  routers: RouterInfo[];
  /** `kind/id` of members whose entry cannot be read. */
  unreadable: string[];
}

/** Reads the entries of workers and routers; other kinds are passed over. */
export function readMembers(entries: readonly MemberEntry[]): MemberInfos {
  const infos: MemberInfos = { workers: [], routers: [], unreadable: [] };
  for (const entry of entries) {
    if (entry.kind !== 'expert' && entry.kind !== 'router') continue;
    try {
      const member = control.Member.decode(entry.value);
      if (entry.kind === 'expert') infos.workers.push(workerOf(entry, member));
      else
        infos.routers.push({
          id: entry.id,
          fingerprint: member.modelFingerprint,
          numericsId: member.numericsId,
          ackedEpoch: Number(member.ackedEpoch),
          node: member.node,
        });
    } catch {
      infos.unreadable.push(`${entry.kind}/${entry.id}`);
    }
  }
  return infos;
}

function workerOf(entry: MemberEntry, member: control.Member): WorkerInfo {
  return {
    id: entry.id,
    incarnation: entry.incarnation,
    address: member.address,
    fingerprint: member.modelFingerprint,
    numericsId: member.numericsId,
    capacityBytes: Number(member.weightCapacityBytes),
    expertBytes: Number(member.expertBytes),
    numLayers: member.numLayers,
    numExperts: member.numExperts,
    ackedEpoch: Number(member.ackedEpoch),
    draining: member.draining,
    failureDomain: member.failureDomain,
    node: member.node,
    group: member.group,
    usPerRow: member.usPerRow,
    usPerMessage: member.usPerMessage,
    loadProblem: member.loadProblemCode === '' ? null : { code: member.loadProblemCode, text: member.loadProblem },
    holdings: byLayer(member.holdings),
    loadable: member.partialCheckpoint ? byLayer(member.loadable) : null,
  };
}

function byLayer(holdings: readonly control.LayerHoldings[]): Map<number, ReadonlySet<number>> {
  return new Map(holdings.map(({ layer, experts }) => [layer, new Set(experts)]));
}
