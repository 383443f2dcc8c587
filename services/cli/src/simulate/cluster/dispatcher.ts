import { createLogger } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import { DispatchPolicy } from '@guildhall/router/policy';
import { Calls, type DispatchObserver, ExpertLoads, ExpertViews, RemoteExperts } from '@guildhall/router/scheduling';
import type { SimThread } from '../kernel/host.ts';
import type { Nic } from '../kernel/nic.ts';
import type { SimClock } from '../kernel/sim-clock.ts';
import type { Transport } from '../model/machines.ts';
import type { ModelShape } from '../model/shape.ts';
import { SimPeer, Wire } from './peer.ts';
import type { RowCounts } from './step-buffers.ts';
import type { SimWorker } from './worker.ts';

export interface DispatcherOptions {
  index: number;
  clock: SimClock;
  shape: ModelShape;
  workers: readonly SimWorker[];
  loop: SimThread;
  nic: Nic;
  transport: Transport;
  combine: 'exact' | 'partial';
  maxMessageBytes: number;
  hedgeShare: number;
  replyLimitMs: number;
  expertWaitMs: number;
  seed: number;
}

/** What a router's dispatch has done since the counters were last cleared. */
export interface DispatchCounts extends RowCounts {
  calls: number;
  hedges: number;
  hedgesDenied: number;
  hedgesWon: number;
  /** Answers that nobody waited for any more. */
  unwanted: number;
  retries: Map<string, number>;
  /** Sum over tokens and layers of the workers that a token's row was sent to, and how many those were. */
  workersTouched: number;
  tokenLayers: number;
  /** From making the first call that failed or was late to the last row of its layer, milliseconds. */
  failoverMs: number[];
}

/** Prefill messages are larger and wait behind decode, as in the router itself. */
const PREFILL_REPLY_FACTOR = 3;

/** A router's own dispatch with its policy, over workers that are simulated. */
export class Dispatcher {
  readonly peers: readonly SimPeer[];
  readonly views: ExpertViews<SimPeer>;
  readonly experts: RemoteExperts;
  readonly policy: DispatchPolicy;
  readonly loads: ExpertLoads;
  readonly counts: DispatchCounts = noCounts();

  constructor(options: DispatcherOptions) {
    const { index, clock, shape, seed, hedgeShare, maxMessageBytes, combine, expertWaitMs } = options;
    const logger = createLogger({ service: 'simulation', id: null, level: 'silent' });
    const limitMs: Record<Lane, number> = {
      decode: options.replyLimitMs,
      prefill: options.replyLimitMs * PREFILL_REPLY_FACTOR,
    };
    const limits = { requestBytes: maxMessageBytes, replyBytes: maxMessageBytes };
    const wire = new Wire({ ...options, rowBytes: shape.rowBytes, limits });
    this.peers = options.workers.map((worker) => new SimPeer(worker, wire, () => this.views.rebuild()));
    this.views = new ExpertViews<SimPeer>({ shape, clock, workers: () => this.peers });
    this.policy = new DispatchPolicy({ clock, seed: seed + index, limitMs, hedgeShare });
    this.loads = new ExpertLoads(shape);
    this.experts = new RemoteExperts({
      views: this.views,
      clock,
      logger,
      loads: this.loads,
      observer: observerOf(this.counts),
      incarnation: BigInt(index + 1),
      topK: shape.topK,
      rowBytes: shape.rowBytes,
      combineMode: combine,
      policy: this.policy,
      calls: new Calls({ policy: this.policy, clock, logger, replyLimitMs: limitMs }),
      fallback: null,
      expertWaitMs,
    });
  }

  /** What a worker holds has changed. */
  setHeld(worker: SimWorker): void {
    const peer = this.#peerOf(worker);
    if (peer !== undefined) this.views.setHeld(peer, worker.held);
  }

  /** A worker's connections broke, or its membership has ended. */
  lost(worker: SimWorker, reason: string): void {
    const peer = this.#peerOf(worker);
    if (peer?.ready === true) peer.down(reason);
  }

  clearCounts(): void {
    Object.assign(this.counts, noCounts());
  }

  #peerOf(worker: SimWorker): SimPeer | undefined {
    return this.peers.find((peer) => peer.worker === worker);
  }
}

function noCounts(): DispatchCounts {
  return {
    wanted: 0,
    filled: 0,
    twice: 0,
    calls: 0,
    hedges: 0,
    hedgesDenied: 0,
    hedgesWon: 0,
    unwanted: 0,
    retries: new Map(),
    workersTouched: 0,
    tokenLayers: 0,
    failoverMs: [],
  };
}

function observerOf(counts: DispatchCounts): DispatchObserver {
  const nothing = (): void => undefined;
  return {
    message: nothing,
    bytes: (_worker, direction) => (counts.calls += direction === 'sent' ? 1 : 0),
    retry: (reason) => counts.retries.set(reason, (counts.retries.get(reason) ?? 0) + 1),
    rows: nothing,
    hedge: (outcome) => {
      if (outcome === 'sent') counts.hedges += 1;
      else if (outcome === 'denied') counts.hedgesDenied += 1;
      else if (outcome === 'won') counts.hedgesWon += 1;
    },
    late: () => (counts.unwanted += 1),
    spread: (rows, workers) => {
      counts.tokenLayers += rows;
      counts.workersTouched += workers;
    },
    failover: (ms) => counts.failoverMs.push(ms),
    layer: nothing,
  };
}
