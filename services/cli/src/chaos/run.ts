import { type Clock, errorMessage } from '@guildhall/common';
import type { Fault } from './fault.ts';
import { Lab } from './lab.ts';
import { type KnownRequest, undisturbed } from './load.ts';
import { type ChaosRow, measureFault } from './measure.ts';
import { makeRequests } from './requests.ts';

export interface ChaosOptions {
  model: string;
  weights: string;
  logs: string | null;
  streams: number;
  seed: number;
  /** Time that faults last which end. */
  lastsMs: number;
}

/** Who is told how far a run is. */
export interface ChaosProgress {
  /** What is being done now. */
  phase(what: string): void;
  /** What came of a fault. */
  fault(row: ChaosRow): void;
}

const WORKERS = 4;
const REPLICAS = 2;
/** Different requests for each stream at a time. */
const REQUESTS_PER_STREAM = 3;

/** Runs faults one after another in one lab, which is made whole again in between. */
export async function runChaos(
  faults: readonly Fault[],
  options: ChaosOptions,
  clock: Clock,
  progress: ChaosProgress,
): Promise<ChaosRow[]> {
  const { model, weights, logs, streams, seed, lastsMs } = options;
  progress.phase('starting the lab');
  const lab = await Lab.start({ model, weights, logs, workers: WORKERS, replicas: REPLICAS }, clock);
  try {
    progress.phase('undisturbed answers');
    const known = await undisturbed(lab.api, makeRequests(streams * REQUESTS_PER_STREAM, seed), streams, clock);
    const rows: ChaosRow[] = [];
    for (const [index, fault] of faults.entries()) {
      const say = (what: string): void => progress.phase(`${index + 1} of ${faults.length}, ${fault.name}: ${what}`);
      const row = await oneFault(lab, fault, known, { streams, lastsMs, clock, progress: say });
      progress.fault(row);
      rows.push(row);
    }
    return rows;
  } finally {
    await lab.stop();
  }
}

async function oneFault(
  lab: Lab,
  fault: Fault,
  known: readonly KnownRequest[],
  options: Parameters<typeof measureFault>[3],
): Promise<ChaosRow> {
  const unavailable = fault.unavailable?.() ?? null;
  if (unavailable !== null) return skipped(fault, unavailable);
  try {
    await lab.restore();
    return await measureFault(lab, fault, known, options);
  } catch (error) {
    return { ...skipped(fault, errorMessage(error)), recoveryMs: null };
  } finally {
    options.progress('making the lab whole again');
    await fault.cleanUp?.(lab);
  }
}

function skipped(fault: Fault, why: string): ChaosRow {
  return {
    fault: fault.name,
    streams: 0,
    streamsDropped: 0,
    wrongTokens: 0,
    longestPauseMs: 0,
    usualPauseMs: 0,
    nextTokenMs: 0,
    lastedMs: 0,
    recoveryMs: 0,
    note: why,
  };
}
