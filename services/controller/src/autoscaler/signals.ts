import type { MemberEntry } from '@guildhall/common';
import { control } from '@guildhall/proto';

/** Experts by layer. */
export type Holdings = ReadonlyMap<number, readonly number[]>;

/** What a worker tells of itself. Null: it does not tell, which is not zero. */
export interface WorkerSignal {
  id: string;
  incarnation: bigint;
  group: string;
  node: string;
  /** Holds what it was given, and takes work. */
  ready: boolean;
  draining: boolean;
  busy: number | null;
  rowsPerSecond: number | null;
  /** 0 before it was measured. */
  usPerRow: number;
  /** Experts that it has memory for. */
  slots: number;
  numLayers: number;
  numExperts: number;
  holdings: Holdings;
  /** Null where it takes every expert. */
  loadable: Holdings | null;
}

export interface RouterSignal {
  id: string;
  ready: boolean;
  running: number;
  waiting: number;
  pendingPrefillTokens: number;
  /** 0 before they were measured, ms. */
  prefillMsPerToken: number;
  decodeStepMs: number;
  busy: number | null;
  kvUsage: number | null;
  ttftP95Ms: number | null;
  itlP95Ms: number | null;
  /** Tokens a second that the requests of late will need, and that were computed. */
  offeredTokensPerSecond: number | null;
  computedTokensPerSecond: number | null;
}

export interface GatewaySignal {
  id: string;
  /** Requests in flight, with those that are held. */
  running: number;
  held: number;
}

/** What all members tell. */
export interface Signals {
  workers: WorkerSignal[];
  routers: RouterSignal[];
  gateways: GatewaySignal[];
}

/** Reads the members' entries; those that cannot be read are as good as absent. */
export function readSignals(entries: readonly MemberEntry[]): Signals {
  const signals: Signals = { workers: [], routers: [], gateways: [] };
  for (const { kind, id, incarnation, value } of entries) {
    const member = decoded(value);
    if (member === null) continue;
    if (kind === 'expert') signals.workers.push(workerSignal(id, incarnation, member));
    else if (kind === 'router') signals.routers.push(routerSignal(id, member));
    else if (kind === 'gateway') signals.gateways.push({ id, running: member.running, held: member.heldRequests });
  }
  return signals;
}

function decoded(value: Uint8Array): control.Member | null {
  try {
    return control.Member.decode(value);
  } catch {
    return null;
  }
}

function workerSignal(id: string, incarnation: bigint, member: control.Member): WorkerSignal {
  const expertBytes = Number(member.expertBytes);
  return {
    id,
    incarnation,
    group: member.group,
    node: member.node,
    ready: member.ready && !member.draining,
    draining: member.draining,
    busy: share(member.busy),
    rowsPerSecond: measured(member.rowsPerSecond),
    usPerRow: measured(member.usPerRow) ?? 0,
    slots: expertBytes > 0 ? Math.floor(Number(member.weightCapacityBytes) / expertBytes) : 0,
    numLayers: member.numLayers,
    numExperts: member.numExperts,
    holdings: byLayer(member.holdings),
    loadable: member.partialCheckpoint ? byLayer(member.loadable) : null,
  };
}

function routerSignal(id: string, member: control.Member): RouterSignal {
  return {
    id,
    ready: member.ready && !member.draining,
    running: member.running,
    waiting: member.waiting,
    pendingPrefillTokens: Number(member.pendingPrefillTokens),
    prefillMsPerToken: measured(member.prefillMsPerToken) ?? 0,
    decodeStepMs: measured(member.decodeStepMs) ?? 0,
    busy: share(member.busy),
    kvUsage: share(member.kvUsage),
    ttftP95Ms: measured(member.ttftP95Ms),
    itlP95Ms: measured(member.itlP95Ms),
    offeredTokensPerSecond: measured(member.offeredTokensPerSecond),
    computedTokensPerSecond: measured(member.computedTokensPerSecond),
  };
}

function byLayer(holdings: readonly control.LayerHoldings[]): Holdings {
  return new Map(holdings.map(({ layer, experts }) => [layer, experts]));
}

/** A figure that somebody measured; null for absent, negative, infinite and NaN. */
function measured(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) && value >= 0 ? value : null;
}

function share(value: number | undefined): number | null {
  const known = measured(value);
  return known === null ? null : Math.min(1, known);
}
