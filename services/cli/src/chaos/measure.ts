import { type Clock, fail } from '@guildhall/common';
import type { Fault } from './fault.ts';
import type { Lab } from './lab.ts';
import { type KnownRequest, Load, type LoadResult } from './load.ts';
import { longestGap } from './stream.ts';

/** One row of the report. */
export interface ChaosRow {
  fault: string;
  /** Streams that ran while it lasted or that were started after it. */
  streams: number;
  /** Those that ended with an error, or too early. */
  streamsDropped: number;
  /** Tokens that an undisturbed run would not have given, text or log-probability. */
  wrongTokens: number;
  /** Longest time between two tokens of one stream, from the fault on. */
  longestPauseMs: number;
  /** The same before the fault, in the same run. */
  usualPauseMs: number;
  /** From the fault until the next token of any stream. */
  nextTokenMs: number;
  /** Time that the fault lasted; 0 for one that is over at once or stays. */
  lastedMs: number;
  /** From the end of the fault until every expert had all its replicas again; null when it did not come to that. */
  recoveryMs: number | null;
  /** Why it was not measured, or what went wrong first; null when nothing did. */
  note: string | null;
}

export interface MeasureOptions {
  streams: number;
  /** Time that faults last which end. */
  lastsMs: number;
  clock: Clock;
  /** Told of each phase. */
  progress: (what: string) => void;
}

/** Tokens that each stream gets before the fault. */
const WARM_TOKENS = 12;
const WARM_LIMIT_MS = 60_000;
const FELT_LIMIT_MS = 30_000;
const RECOVERY_LIMIT_MS = 90_000;
/** Tokens that each lane gets after the recovery. */
const AFTER_TOKENS = 24;

/** Puts a settled lab under load, lets a fault happen, and measures what came of it. The lab is left as it then is. */
export async function measureFault(
  lab: Lab,
  fault: Fault,
  known: readonly KnownRequest[],
  { streams, lastsMs, clock, progress }: MeasureOptions,
): Promise<ChaosRow> {
  progress('preparing');
  await fault.prepare?.(lab);
  if (fault.prepare !== undefined) await lab.settled();
  const load = new Load(lab.api, known, streams, clock);
  try {
    await lanesReach(load, WARM_TOKENS, clock);
    progress('the fault');
    const struckMs = clock.monotonicMs();
    const next = nextToken(load, struckMs, clock);
    await fault.strike(lab);
    if (fault.lasting === true) await clock.sleep(lastsMs);
    await untilFelt(lab, fault);
    const healedMs = fault.heal === undefined ? struckMs : clock.monotonicMs();
    await fault.heal?.(lab);
    progress('recovery');
    const recovery = await recovered(lab, fault, clock);
    progress('further streams');
    const reached = load.tokens.map((tokens) => tokens + AFTER_TOKENS);
    await lanesReach(load, reached, clock);
    await load.stop();
    return rowOf(fault, load.results, {
      struckMs,
      lastedMs: healedMs - struckMs,
      recoveryMs: recovery.atMs === null ? null : Math.max(0, recovery.atMs - healedMs),
      missing: recovery.missing,
      nextTokenMs: await next,
    });
  } finally {
    await load.stop();
  }
}

/** A fault that meets nothing, because others are asked just then, lasts until it does. */
async function untilFelt(lab: Lab, fault: Fault): Promise<void> {
  const deadline = lab.clock.monotonicMs() + FELT_LIMIT_MS;
  while ((await fault.felt?.(lab)) === false) {
    if (lab.clock.monotonicMs() > deadline) throw fail('internal', 'the fault had no effect');
    await lab.clock.sleep(100);
  }
}

/** Resolves when every lane has got so many tokens, or has had its time. */
async function lanesReach(load: Load, goal: number | readonly number[], clock: Clock): Promise<void> {
  const deadline = clock.monotonicMs() + WARM_LIMIT_MS;
  const goals = typeof goal === 'number' ? load.tokens.map(() => goal) : goal;
  const behind = (): boolean => load.tokens.some((tokens, lane) => tokens < (goals[lane] ?? 0));
  while (behind() && clock.monotonicMs() < deadline) await clock.sleep(20);
}

/** Time from `fromMs` until a token comes, as far as it does within the limit of a recovery. */
async function nextToken(load: Load, fromMs: number, clock: Clock): Promise<number> {
  while (load.lastTokenMs <= fromMs && clock.monotonicMs() < fromMs + RECOVERY_LIMIT_MS) await clock.sleep(5);
  return Math.max(0, load.lastTokenMs - fromMs);
}

interface Recovery {
  atMs: number | null;
  missing: string | null;
}

/** Waits until every expert has its replicas twice in a row, so that a view which is a moment late does not count. */
async function recovered(lab: Lab, fault: Fault, clock: Clock): Promise<Recovery> {
  const deadline = clock.monotonicMs() + RECOVERY_LIMIT_MS;
  let since: number | null = null;
  let missing: string | null = null;
  while (clock.monotonicMs() < deadline) {
    const at = clock.monotonicMs();
    missing = (await lab.redundancy(fault.lost)).missing;
    if (missing !== null) since = null;
    else if (since === null) since = at;
    else if (at - since >= 1000) return { atMs: since, missing: null };
    await clock.sleep(100);
  }
  return { atMs: null, missing };
}

interface Times {
  struckMs: number;
  lastedMs: number;
  recoveryMs: number | null;
  missing: string | null;
  nextTokenMs: number;
}

function rowOf(fault: Fault, all: readonly LoadResult[], times: Times): ChaosRow {
  const results = all.filter((result) => result.endedMs > times.struckMs);
  const broken = results.filter((result) => result.error !== null);
  const note = broken[0]?.error ?? (times.recoveryMs === null ? `no full redundancy: ${times.missing}` : null);
  return {
    fault: fault.name,
    streams: results.length,
    streamsDropped: broken.length,
    wrongTokens: all.reduce((sum, result) => sum + result.wrongTokens, 0),
    longestPauseMs: Math.round(longestGap(all, times.struckMs)),
    usualPauseMs: Math.round(longestGap(all, 0, times.struckMs)),
    nextTokenMs: Math.round(times.nextTokenMs),
    lastedMs: Math.round(times.lastedMs),
    recoveryMs: times.recoveryMs === null ? null : Math.round(times.recoveryMs),
    note,
  };
}
