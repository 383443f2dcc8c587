import type { Clock, Logger } from '@guildhall/common';
import type { CombineMode, Lane, StepBuffers } from '@guildhall/native';
import type { ExpertLoads } from './expert-loads.ts';
import { Alarm } from './alarm.ts';
import type { Calls } from './calls.ts';
import { LayerDispatch } from './layer-dispatch.ts';
import type { ExpertPeer } from './peer.ts';
import type { ExpertView, ExpertViews } from './placement-view.ts';
import type { DispatchPolicy } from './policy/index.ts';
import type { StepTrace } from '../telemetry/step-trace.ts';

/** What the dispatch uses of a step's buffers. */
export type DispatchBuffers = Pick<
  StepBuffers,
  'topkIds' | 'topkWeights' | 'packForward' | 'beginCombine' | 'unpackReply' | 'missing'
>;

/** What a forward pass tells with each layer. */
export interface DispatchContext {
  step: number;
  microBatch: number;
  lane: Lane;
  signal: AbortSignal | null;
  /** Monotonic milliseconds at which waiting for lost experts must end, or null. */
  deadlineMs: number | null;
  traceparent: string | null;
}

/** Counts of the dispatch, for metrics. */
export interface DispatchObserver {
  message(worker: string, status: string): void;
  bytes(worker: string, direction: 'sent' | 'received', bytes: number): void;
  retry(reason: string): void;
  rows(worker: string, rows: number): void;
  /** Second calls for stragglers: made, refused by the budget, answered before the first, or after it. */
  hedge(outcome: 'sent' | 'denied' | 'won' | 'lost'): void;
  /** An answer that nobody waits for any more. */
  late(worker: string): void;
  /** The rows of a layer went to so many workers in all, each counted once for each row. */
  spread(rows: number, workers: number): void;
  /** From making the first call that failed or was late to the last row of the layer. */
  failover(ms: number): void;
  /** From sending the rows of a layer to its last reply. */
  layer(lane: Lane, ms: number): void;
}

export interface RemoteExpertsOptions {
  views: ExpertViews<ExpertPeer>;
  clock: Clock;
  logger: Logger;
  loads: ExpertLoads;
  observer: DispatchObserver;
  incarnation: bigint;
  topK: number;
  /** Bytes of one row in the row format. */
  rowBytes: number;
  combineMode: CombineMode;
  policy: DispatchPolicy;
  calls: Calls;
  /** Computes what no worker holds; null where nobody does. */
  fallback: Fallback | null;
  /** Time for which lost experts are waited for where the rows have no deadline. */
  expertWaitMs: number;
}

/** This process as the last resort. */
export interface Fallback {
  /** `capacity`: different experts that one message may ask for. */
  peer: ExpertPeer & { readonly capacity: number };
  /** For how long a worker is waited for first. */
  afterMs: number;
  /** Monotonic milliseconds from which it computes what nobody holds now; Infinity while it cannot. */
  fromMs: () => number;
}

/** Which sequence each row of a micro-batch belongs to. */
export interface RowOwners {
  /** Sequence of each row, by its index in the micro-batch. */
  owner: Int32Array;
  numSequences: number;
}

/** Experts in other processes, over gRPC. */
export class RemoteExperts {
  readonly options: RemoteExpertsOptions;

  constructor(options: RemoteExpertsOptions) {
    this.options = options;
  }

  /** Dispatch for one forward pass of one micro-batch, planning with `view`. Close it when the pass is over. */
  begin(view: ExpertView<ExpertPeer>, lane: Lane, owners: RowOwners, trace: StepTrace | null = null): StepDispatch {
    return new StepDispatch(this.options, view, lane, owners, trace);
  }
}

/** The dispatch of one micro-batch's forward pass, layer after layer. */
export class StepDispatch {
  /** Expert rows of each sequence by worker id. */
  readonly rowsOf: readonly Map<string, number>[];
  /** Milliseconds that workers computed experts for each sequence: of each message, its share of the rows. */
  readonly expertMsOf: Float64Array;
  readonly #options: RemoteExpertsOptions;
  readonly #view: ExpertView<ExpertPeer>;
  readonly #owners: RowOwners;
  readonly #lane: Lane;
  readonly #trace: StepTrace | null;
  /** One timer for the whole pass: a long-lived stream has no deadline per message. */
  readonly #alarm: Alarm;
  #layer: LayerDispatch | null = null;

  constructor(
    options: RemoteExpertsOptions,
    view: ExpertView<ExpertPeer>,
    lane: Lane,
    owners: RowOwners,
    trace: StepTrace | null,
  ) {
    this.#options = options;
    this.#trace = trace;
    this.#view = view;
    this.#owners = owners;
    this.#lane = lane;
    this.rowsOf = Array.from({ length: owners.numSequences }, () => new Map<string, number>());
    this.expertMsOf = new Float64Array(owners.numSequences);
    this.#alarm = new Alarm(options.clock, () => this.#layer?.check() ?? Infinity);
  }

  /**
   * Sends the rows of a layer to the workers that hold their experts. `done` resolves when every row has come back
   * into `step`, and rejects with `expert_unavailable` (no worker in time), `computation_failed` (the rows break whoever
   * computes them), both with details {sequences, layer, experts} of the rows that are missing, or with `cancelled`.
   */
  dispatch(layer: number, step: DispatchBuffers, numTokens: number, ctx: DispatchContext): LayerDispatch {
    this.#options.loads.add(layer, step.topkIds, numTokens * this.#options.topK);
    this.#layer = new LayerDispatch({
      ...this.#options,
      view: this.#view,
      lane: this.#lane,
      trace: this.#trace,
      layer,
      step,
      numTokens,
      ctx,
      ownerOf: (row) => this.#owners.owner[row] ?? -1,
      onRows: (worker, row, count, ms) => this.#countRows(worker, row, count, ms),
      wakeBy: (atMs) => this.#alarm.by(atMs),
    });
    this.#layer.start();
    return this.#layer;
  }

  /** Stops the timer; rows of a layer that is not done are no longer waited for. */
  close(): void {
    this.#alarm.close();
    this.#layer?.abandon();
  }

  #countRows(worker: string, row: number, count: number, ms: number): void {
    const owner = this.#owners.owner[row] ?? -1;
    const rows = this.rowsOf[owner];
    if (rows === undefined) return;
    rows.set(worker, (rows.get(worker) ?? 0) + count);
    this.expertMsOf[owner] = (this.expertMsOf[owner] ?? 0) + ms;
  }
}
