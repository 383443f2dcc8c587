import type { ExpertPeer } from './peer.ts';

/** What has gone wrong with some rows so far, in one layer. */
export interface History {
  /** Workers that said that they failed on the rows, or whose replies did not fit, in order. */
  readonly faults: readonly string[];
  /** Streams that broke while the rows were on them. */
  readonly losses: number;
  /** Those of which nothing but the rows of one sequence was on its way to the worker. */
  readonly aloneLosses: number;
  /** Who failed last, and how. */
  readonly lastReason: string;
  /** Sent by themselves, one sequence after another, to see whether they break workers. */
  readonly isIsolated: boolean;
  /** This process could not compute them. */
  readonly noFallback: boolean;
}

export const CLEAN: History = {
  faults: [],
  losses: 0,
  aloneLosses: 0,
  lastReason: '',
  isIsolated: false,
  noFallback: false,
};

/** A history with one more fault. What this process fails on is no fault of the rows: it lacks memory or weights. */
export function withFault(history: History, peer: Pick<ExpertPeer, 'id' | 'isFallback'>, reason: string): History {
  const lastReason = `worker ${peer.id} ${reason}`;
  if (peer.isFallback) return { ...history, noFallback: true, lastReason };
  return { ...history, faults: [...history.faults, peer.id], lastReason };
}

/** A history with one more lost stream. */
export function withLoss(history: History, worker: string, reason: string, isAlone: boolean): History {
  return {
    ...history,
    losses: history.losses + 1,
    aloneLosses: history.aloneLosses + (isAlone ? 1 : 0),
    lastReason: `worker ${worker} was lost: ${reason}`,
  };
}

/**
 * What to do with rows that failed. `retry`: send them elsewhere. `split`: each sequence in messages of its own.
 * `isolate`: so, and one after another. `convict`: the sequence breaks whoever computes it.
 */
export type Verdict = 'retry' | 'split' | 'isolate' | 'convict';

/** Faults of the same rows before they are looked at more closely. */
const FAULTS = 2;
/** Faults that condemn rows even though nothing of the layer was computed by a worker that failed on them. */
const FAULTS_AT_ALL = 4;
const LOSSES_TOGETHER = 2;
const LOSSES_ALONE = 3;
/** Lost streams that condemn rows even though others were always on their way too. */
const LOSSES_AT_ALL = 6;

/**
 * After a fault. Rows are condemned only if somebody works that failed on them: a worker that fails on everything is
 * itself to blame. `isAble` tells of a worker that it has computed other rows of this layer, or that there are none.
 */
export function afterFault(
  history: History,
  numSequences: number,
  isHealthy: (worker: string) => boolean,
  isAble: (worker: string) => boolean,
): Verdict {
  const { faults } = history;
  if (faults.length < FAULTS) return 'retry';
  if (numSequences > 1) return 'split';
  if (!faults.some(isHealthy)) return 'retry';
  return faults.some(isAble) || faults.length >= FAULTS_AT_ALL ? 'convict' : 'retry';
}

/**
 * After the loss of a stream. Workers are killed and networks fail without anybody's fault, so that it takes three
 * losses, one of them with nothing else on its way, to condemn a sequence.
 */
export function afterLoss(history: History, numSequences: number): Verdict {
  if (history.losses < LOSSES_TOGETHER) return 'retry';
  if (numSequences > 1) return 'isolate';
  const alone = history.losses >= LOSSES_ALONE && history.aloneLosses > 0;
  return alone || history.losses >= LOSSES_AT_ALL ? 'convict' : 'isolate';
}
