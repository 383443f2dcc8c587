import type { ExpertShard, Lane, StepBuffers } from '@guildhall/native';

/** What travels with one micro-batch through the model. */
export interface StepContext {
  step: number;
  microBatch: number;
  lane: Lane;
  /** Ends the step between two layers. */
  signal: AbortSignal | null;
  /** Monotonic milliseconds after which the step is of no use. */
  deadlineMs: number | null;
  traceparent: string | null;
}

/** Rows on their way. */
export interface DispatchHandle {
  /** Resolves when every expert row has been unpacked into the step; rejects if one cannot be had. */
  done: Promise<void>;
}

/** Where expert rows come from: workers over gRPC, or experts in this process. */
export interface ExpertDispatch {
  /**
   * A shard of this process that holds every expert and may be run without messages, in the same native call as the
   * layers around it. Null or left out: `dispatch` is called for each layer.
   */
  readonly direct?: ExpertShard | null;
  /**
   * Sends the rows of a layer, whose gate has just run, to the holders of their experts. Everything that is read from
   * the step is read before this returns.
   */
  dispatch(layer: number, step: StepBuffers, numTokens: number, ctx: StepContext): DispatchHandle;
}
