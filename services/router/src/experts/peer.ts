import type { Lane } from '@guildhall/native';
import type { ReplySink } from './lane-stream.ts';
import type { MessageLimits } from './plan.ts';

/** Somebody who computes expert rows: a worker over its two streams, or this process. */
export interface ExpertPeer {
  readonly id: string;
  /** This process itself, where no worker can be had. */
  readonly isFallback: boolean;
  /** True when it can be sent to. */
  readonly ready: boolean;
  limits(lane: Lane): MessageLimits;
  /** See LaneStream.send. */
  send(lane: Lane, key: string, frame: Buffer, sink: ReplySink): boolean;
  /** A reply under this key, should it still come, is dropped. */
  forget(lane: Lane, key: string): void;
  /** Asks again what it holds. */
  queryHeld(): void;
  /** Gives up what is on its way in a lane, because it no longer answers. */
  reset(lane: Lane, reason: string): void;
}
