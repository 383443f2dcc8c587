import { readFileSync } from 'node:fs';
import { fail } from '@guildhall/common';
import { z } from 'zod';
import { durationMs } from '../ui/duration.ts';
import { APIS, type ApiName } from './client/api.ts';
import { baseUrl } from './client/models.ts';
import type { LoadPoint } from './points.ts';
import type { ArrivalShape } from './run/arrivals.ts';
import { parseSlo, type Slo } from './statistics/slo.ts';
import { type Lengths, parseLengths, SHAREGPT } from './workload/lengths.ts';

/** Flags as commander hands them over. */
export interface BenchServeFlags {
  url: string | null;
  apiKey?: string;
  apiKeyFile?: string;
  header: string[];
  model?: string;
  api: string;
  rate?: string;
  concurrency?: string;
  speed?: string;
  arrivals: string;
  burstiness: string;
  trace?: string;
  prompt: string;
  output: string;
  sharedPrefix: string;
  prefixGroups: string;
  turns: string;
  think: string;
  requests?: string;
  duration?: string;
  warmup: string;
  timeout: string;
  maxInFlight: string;
  temperature: string;
  ignoreEos: boolean;
  body: string;
  slo?: string;
  minAttainment?: string;
  maxFailures: string;
  seed: string;
  label?: string;
}

/** A run, checked. */
export interface BenchServeSettings {
  url: string;
  api: ApiName;
  headers: Record<string, string>;
  model: string | null;
  points: LoadPoint[];
  arrivals: { shape: ArrivalShape; burstiness: number };
  trace: string | null;
  synthetic: {
    prompt: Lengths;
    output: Lengths;
    sharedPrefixTokens: number;
    prefixGroups: number;
    turns: Lengths;
    thinkMs: number;
  };
  limits: { requests: number | null; durationMs: number | null };
  warmup: number;
  timeoutMs: number;
  maxInFlight: number;
  temperature: number;
  ignoreEos: boolean;
  extraBody: Record<string, unknown>;
  slo: Slo | null;
  minAttainment: number | null;
  maxFailures: number;
  seed: number;
  label: string | null;
}

const DEFAULT_REQUESTS = 200;
const MOST_POINTS = 64;

const bounds = {
  rate: z.coerce.number().positive().max(1e6),
  clients: z.coerce.number().int().min(1).max(100_000),
  count: z.coerce.number().int().min(1).max(1e9),
  atLeastZero: z.coerce.number().int().min(0).max(1e9),
  share: z.coerce.number().min(0).max(1),
  positive: z.coerce.number().positive().max(1e6),
  temperature: z.coerce.number().min(0).max(2),
  seed: z.coerce
    .number()
    .int()
    .min(0)
    .max(2 ** 32 - 1),
};

function checked<T>(schema: z.ZodType<T>, value: string, flag: string): T {
  const parsed = schema.safeParse(value.trim() === '' ? Number.NaN : value);
  if (parsed.success) return parsed.data;
  const why = parsed.error.issues[0]?.message ?? 'not valid';
  throw fail('config_invalid', `${flag}: '${value}': ${why}`, { field: flag });
}

function list<T>(schema: z.ZodType<T>, value: string | undefined, flag: string): T[] {
  return value === undefined ? [] : value.split(',').map((part) => checked(schema, part, flag));
}

/** The points of a run: exactly one kind of them. */
function pointsOf(flags: BenchServeFlags): LoadPoint[] {
  const rates = list(bounds.rate, flags.rate, '--rate').map((perSecond): LoadPoint => ({ kind: 'rate', perSecond }));
  const clients = list(bounds.clients, flags.concurrency, '--concurrency');
  const closed = clients.map((each): LoadPoint => ({ kind: 'concurrency', clients: each }));
  const speeds = list(bounds.positive, flags.speed, '--speed').map((speed): LoadPoint => ({ kind: 'replay', speed }));
  const given = [rates, closed, speeds].filter((points) => points.length > 0);
  if (given.length > 1) throw fail('config_invalid', 'give one of --rate, --concurrency and --speed');
  if (speeds.length > 0 && flags.trace === undefined) throw fail('config_invalid', '--speed: replays a --trace');
  const points =
    given[0] ?? (flags.trace === undefined ? [{ kind: 'concurrency', clients: 1 }] : [{ kind: 'replay', speed: 1 }]);
  if (points.length > MOST_POINTS) throw fail('config_invalid', `at most ${MOST_POINTS} points make a sweep`);
  return points;
}

function arrivalsOf({ arrivals, burstiness }: BenchServeFlags): BenchServeSettings['arrivals'] {
  const shape = checked(z.enum(['poisson', 'constant', 'gamma']), arrivals, '--arrivals');
  return { shape, burstiness: checked(bounds.positive, burstiness, '--burstiness') };
}

function headersOf(flags: BenchServeFlags): Record<string, string> {
  const headers: Record<string, string> = {};
  const key = flags.apiKeyFile === undefined ? flags.apiKey : readKey(flags.apiKeyFile);
  if (key !== undefined) headers['authorization'] = `Bearer ${key}`;
  for (const header of flags.header) {
    const [, name, value] = /^([\w-]+):\s*(.*)$/.exec(header) ?? [];
    if (name === undefined || value === undefined)
      throw fail('config_invalid', `--header: '${header}' is no header; write 'name: value'`, { field: '--header' });
    headers[name.toLowerCase()] = value;
  }
  return headers;
}

function readKey(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    throw fail('config_invalid', `--api-key-file: ${file} cannot be read`, { field: '--api-key-file' });
  }
}

function bodyOf(text: string): Record<string, unknown> {
  const field = '--body';
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch {
    throw fail('config_invalid', `${field}: '${text}' is no JSON object`, { field });
  }
}

function syntheticOf(flags: BenchServeFlags): BenchServeSettings['synthetic'] {
  const lengths = (spec: string, flag: string, sharegpt: string): Lengths =>
    parseLengths(spec === 'sharegpt' ? sharegpt : spec, flag);
  return {
    prompt: lengths(flags.prompt, '--prompt', SHAREGPT.prompt),
    output: lengths(flags.output, '--output', SHAREGPT.output),
    sharedPrefixTokens: checked(bounds.atLeastZero, flags.sharedPrefix, '--shared-prefix'),
    prefixGroups: checked(bounds.count, flags.prefixGroups, '--prefix-groups'),
    turns: parseLengths(flags.turns, '--turns'),
    thinkMs: flags.think === '0' ? 0 : durationMs(flags.think),
  };
}

function limitsOf({ requests, duration, trace }: BenchServeFlags): BenchServeSettings['limits'] {
  const most = requests === undefined ? null : checked(bounds.count, requests, '--requests');
  const lastsMs = duration === undefined ? null : durationMs(duration);
  // A trace ends by itself; what is made up does not.
  const byDefault = most === null && lastsMs === null && trace === undefined ? DEFAULT_REQUESTS : null;
  return { requests: most ?? byDefault, durationMs: lastsMs };
}

/** Checks the flags. `runningUrl` is this machine's own gateway, if there is one. Throws `config_invalid` naming the flag. */
export function settingsOf(flags: BenchServeFlags, runningUrl: string | null): BenchServeSettings {
  return {
    url: baseUrl(flags.url ?? runningUrl ?? 'http://127.0.0.1:8000'),
    api: checked(z.enum(APIS), flags.api, '--api'),
    headers: headersOf(flags),
    model: flags.model ?? null,
    points: pointsOf(flags),
    arrivals: arrivalsOf(flags),
    trace: flags.trace ?? null,
    synthetic: syntheticOf(flags),
    limits: limitsOf(flags),
    warmup: checked(bounds.atLeastZero, flags.warmup, '--warmup'),
    timeoutMs: durationMs(flags.timeout),
    maxInFlight: checked(bounds.count, flags.maxInFlight, '--max-in-flight'),
    temperature: checked(bounds.temperature, flags.temperature, '--temperature'),
    ignoreEos: flags.ignoreEos,
    extraBody: bodyOf(flags.body),
    slo: flags.slo === undefined ? null : parseSlo(flags.slo),
    minAttainment:
      flags.minAttainment === undefined ? null : checked(bounds.share, flags.minAttainment, '--min-attainment'),
    maxFailures: checked(bounds.share, flags.maxFailures, '--max-failures'),
    seed: checked(bounds.seed, flags.seed, '--seed'),
    label: flags.label ?? null,
  };
}
