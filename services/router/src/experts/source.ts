import type { ExpertShard, Lane } from '@guildhall/native';
import type { Cluster } from '@guildhall/common';
import type { RowOwners, StepDispatch } from './dispatch.ts';
import type { ExpertView, ExpertViews } from './placement-view.ts';
import type { StepTrace } from '../telemetry/step-trace.ts';
import type { WorkerLink } from './worker-link.ts';

/** The experts of one forward pass of one micro-batch. */
export interface StepExperts extends Pick<StepDispatch, 'dispatch' | 'close'> {
  /** A shard of this process that the model runs by itself; null or left out: `dispatch` is called for each layer. */
  readonly direct?: ExpertShard | null;
  /** Expert rows of each sequence by the id of the process that computed them; complete after `close`. */
  readonly rowsOf: readonly ReadonlyMap<string, number>[];
  /** Milliseconds that workers computed experts for each sequence; 0 for those of this process, whose time is the step's. */
  readonly expertMsOf: Float64Array;
}

/** Where forward passes get their experts. */
export interface ExpertSource {
  /** Experts for one pass, planned with `view`, its messages told to `trace`. Close it when the pass is over. */
  begin(view: ExpertView<WorkerLink>, lane: Lane, owners: RowOwners, trace: StepTrace | null): StepExperts;
}

/** The views that steps are planned with. */
export type EngineViews = Pick<
  ExpertViews<WorkerLink>,
  'pin' | 'covered' | 'uncoveredSinceMs' | 'latest' | 'onChange' | 'ackedEpoch'
>;

/** All that a router knows and does about its experts, wherever they are. */
export interface ExpertHome {
  readonly views: EngineViews;
  readonly source: ExpertSource;
  /** Experts that this process holds, per layer; none where workers hold them. */
  readonly holdings: readonly { layer: number; experts: number[] }[];
  /** Has news of the cluster flow in; the cluster is started afterwards. */
  follow(cluster: Cluster): void;
  /** The cluster is joined: reports may be sent. */
  joined(): void;
  /** Why not every expert can be computed, or null. */
  notCovered(): string | null;
  /** Streams to workers that are up. */
  openStreams(lane: Lane): number;
  /** Nothing is sent any more. */
  stop(): void;
  close(): void;
}
