import { Command } from 'commander';
import {
  type ClusterRecord,
  EVENT_KINDS,
  type EventKind,
  type EventLog,
  fail,
  isEventKind,
  isGuildhallError,
  systemClock,
} from '@guildhall/common';
import { addClusterOptions, clusterAccess, type ClusterFlags } from '../stack/cluster-target.ts';
import { ClusterView } from '../stack/cluster-view.ts';
import { StateDir } from '../stack/state-dir.ts';
import { positiveInteger } from '../ui/arguments.ts';

interface EventsFlags extends ClusterFlags {
  follow: boolean;
  since: number | null;
  limit: number | null;
  kind: EventKind[];
  json: boolean;
}

/** Events shown unless `--since` or `--limit` says otherwise. */
const DEFAULT_LIMIT = 50;
/** More than the log keeps. */
const ALL = 100_000;
const FOLLOW_MS = 500;

/** `guildhall events`: what happened to a cluster, and why experts are where they are. */
export function eventsCommand(): Command {
  const kinds = (value: string, all: EventKind[]): EventKind[] => [...all, eventKind(value)];
  const command = new Command('events')
    .description('show what happened to a cluster: placements with their reasons, workers, drains, losses')
    .option('--follow', 'go on with what happens, until Ctrl-C', false)
    .option('--since <time>', 'from this time on: 90s, 10m, 2h, 3d ago, or 2026-01-31T12:00:00Z', since)
    .option('--limit <n>', `show the newest n (default: ${DEFAULT_LIMIT}, with --since all)`, positiveInteger)
    .option(
      '--kind <kind>',
      `only events of this kind; repeat for more: ${Object.keys(EVENT_KINDS).join(', ')}`,
      kinds,
      [],
    )
    .option('--json', 'print one JSON object per line', false);
  return addClusterOptions(command).action(async (flags: EventsFlags) => {
    const access = clusterAccess(flags, new StateDir(flags.stateDir ?? null), process.env);
    const view = new ClusterView(access);
    try {
      await view.start();
      await show(view.eventLog, flags);
    } finally {
      await view.stop();
    }
  });
}

async function show(log: EventLog, flags: EventsFlags): Promise<void> {
  const all = await log.read('0', ALL);
  const chosen = chooseEvents(all, { kinds: flags.kind, sinceMs: flags.since ?? null, limit: flags.limit ?? null });
  const format = flags.json ? asJson : asLine;
  if (chosen.length === 0 && !flags.follow && !flags.json) process.stderr.write('no events\n');
  for (const event of chosen) process.stdout.write(format(event));
  if (flags.follow) await follow(log, all.at(-1)?.id ?? '0', (event) => wanted(event, flags.kind), format);
}

/** Prints what comes after `cursor` until a signal; a Redis that is away is waited for. */
async function follow(
  log: EventLog,
  cursor: string,
  keep: (event: ClusterRecord) => boolean,
  format: (event: ClusterRecord) => string,
): Promise<void> {
  const stop = new AbortController();
  const end = (): void => stop.abort();
  process.once('SIGINT', end).once('SIGTERM', end);
  process.stdout.once('error', end);
  let away = false;
  while (!stop.signal.aborted) {
    try {
      const { events, next } = await log.follow(cursor);
      cursor = next;
      away = false;
      for (const event of events) if (keep(event)) process.stdout.write(format(event));
    } catch (err) {
      if (!isGuildhallError(err) || err.code !== 'redis_unavailable') throw err;
      if (!away) process.stderr.write('Redis is away; waiting for it\n');
      away = true;
    }
    await systemClock.sleep(FOLLOW_MS, stop.signal).catch(() => undefined);
  }
  process.off('SIGINT', end).off('SIGTERM', end);
}

function wanted({ kind }: ClusterRecord, kinds: readonly EventKind[]): boolean {
  return kinds.length === 0 || kinds.includes(kind);
}

/** What of a log was asked for: by kind (all without one), by time, and of those the newest. */
export function chooseEvents(
  events: readonly ClusterRecord[],
  choice: { kinds: readonly EventKind[]; sinceMs: number | null; limit: number | null },
): ClusterRecord[] {
  const { kinds, sinceMs, limit } = choice;
  const chosen = events.filter((event) => wanted(event, kinds) && (sinceMs === null || event.atMs >= sinceMs));
  const most = limit ?? (sinceMs === null ? DEFAULT_LIMIT : chosen.length);
  return chosen.slice(Math.max(0, chosen.length - most));
}

const KIND_WIDTH = Math.max(...Object.keys(EVENT_KINDS).map((kind) => kind.length));
const SOURCE_WIDTH = 14;

function asLine({ atMs, kind, source, message }: ClusterRecord): string {
  const time = new Date(atMs).toISOString().slice(0, 19).replace('T', ' ');
  return `${time}Z  ${kind.padEnd(KIND_WIDTH)}  ${source.padEnd(SOURCE_WIDTH)}  ${message}\n`;
}

function asJson({ id, atMs, kind, source, message, details }: ClusterRecord): string {
  return `${JSON.stringify({ id, at: new Date(atMs).toISOString(), kind, source, message, details })}\n`;
}

function eventKind(value: string): EventKind {
  if (isEventKind(value)) return value;
  throw fail('config_invalid', `'${value}' is no kind of event; kinds: ${Object.keys(EVENT_KINDS).join(', ')}`);
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Reads the value of `--since` as milliseconds since the Unix epoch. Throws `config_invalid`. */
export function since(value: string, _before?: unknown, nowMs: number = systemClock.nowMs()): number {
  const ago = /^(\d+)\s*([smhd])$/.exec(value.trim());
  if (ago !== null) return nowMs - Number(ago[1]) * (UNIT_MS[ago[2] ?? ''] ?? 0);
  const time = /^\d{4}-\d\d-\d\d/.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isFinite(time)) return time;
  throw fail('config_invalid', `'${value}' is no time: 90s, 10m, 2h, 3d, or 2026-01-31T12:00:00Z`);
}
