import { fail } from '@guildhall/common';
import { ROUTER_DEFAULTS } from './cluster/router.ts';
import { LINKS, ROUTER_KINDS, rooflineTimes, TRANSPORTS, WORKER_KINDS } from './model/machines.ts';
import { SHAPE_NAMES, shapeNamed } from './model/shape.ts';
import type { Fault, SimulationOptions } from './simulation.ts';

/** Flags of `guildhall simulate` as commander gives them. */
export interface SimulateFlags {
  preset: string;
  workers: string;
  routers?: string;
  workerKind: string;
  routerKind: string;
  link: string;
  workerLink?: string;
  transport: string;
  combine: string;
  batch: string;
  rate?: string;
  prompt: string;
  answer: string;
  context: string;
  skew: string;
  affinity: string;
  copies: string;
  mostCopies: string;
  hedgeShare: string;
  seconds: string;
  seed: string;
  loseWorker?: string;
  killWorker?: string;
  slowWorker?: string;
}

/** Workers for each router where `--routers` is not given. */
const WORKERS_PER_ROUTER = 64;
const WARM_UP_MS = 1000;
const BIN_MS = 250;
const LEASE_MS = 6000;
/** How much slower a slow worker is. */
const SLOW_FACTOR = 20;

/** Worker counts that are asked for, in their order. */
export function workerCounts(flags: SimulateFlags): number[] {
  return flags.workers.split(',').map((part) => whole('--workers', part, 1));
}

/** The simulation of one worker count. Errors: `config_invalid` for a flag that cannot be read. */
export function optionsFor(flags: SimulateFlags, workers: number): SimulationOptions {
  const shape = shapeNamed(listed('--preset', SHAPE_NAMES, flags.preset));
  const kinds = flags.workerKind.split('+').map((name) => pick('--worker-kind', WORKER_KINDS, name));
  const router = pick('--router-kind', ROUTER_KINDS, flags.routerKind);
  const link = pick('--link', LINKS, flags.link);
  const batch = whole('--batch', flags.batch, 1);
  return {
    shape,
    workers: Array.from({ length: workers }, (_, i) => kinds[i % kinds.length] as (typeof kinds)[number]),
    routers:
      flags.routers === undefined ? Math.ceil(workers / WORKERS_PER_ROUTER) : whole('--routers', flags.routers, 1),
    times: rooflineTimes(shape, router),
    routerCores: router.cores,
    routerLink: link,
    workerLink: flags.workerLink === undefined ? link : pick('--worker-link', LINKS, flags.workerLink),
    transport: pick('--transport', TRANSPORTS, flags.transport),
    settings: {
      ...ROUTER_DEFAULTS,
      maxRunning: flags.rate === undefined ? batch : ROUTER_DEFAULTS.maxRunning,
      hedgeShare: number('--hedge-share', flags.hedgeShare, 0, 1),
      combine: pick('--combine', { exact: 'exact', partial: 'partial' } as const, flags.combine),
    },
    workload: {
      streams: batch,
      ratePerSecond: flags.rate === undefined ? null : number('--rate', flags.rate, 0.001, 1e6),
      promptTokens: whole('--prompt', flags.prompt, 1),
      answerTokens: whole('--answer', flags.answer, 1),
      spread: 0.5,
      cachedContext: whole('--context', flags.context, 0),
    },
    gate: {
      skew: number('--skew', flags.skew, 0, 4),
      affinity: number('--affinity', flags.affinity, 0, 1),
      topics: 16,
      topicExperts: Math.ceil(shape.numExperts / 8),
    },
    copies: whole('--copies', flags.copies, 1),
    mostCopies: whole('--most-copies', flags.mostCopies, 1),
    leaseMs: LEASE_MS,
    faults: faultsOf(flags),
    sharedCores: null,
    clientMsPerToken: 0,
    warmupMs: WARM_UP_MS,
    durationMs: 1000 * number('--seconds', flags.seconds, 0.1, 1e5),
    binMs: BIN_MS,
    seed: whole('--seed', flags.seed, 0),
  };
}

function faultsOf(flags: SimulateFlags): Fault[] {
  const faults: Fault[] = [];
  const add = (kind: Fault['kind'], option: string, value: string | undefined, factor: number): void => {
    if (value === undefined) return;
    faults.push({ kind, worker: 0, atMs: 1000 * number(option, value.replace(/s$/, ''), 0, 1e5), factor });
  };
  add('lost', '--lose-worker', flags.loseWorker, 1);
  add('killed', '--kill-worker', flags.killWorker, 1);
  add('slow', '--slow-worker', flags.slowWorker, SLOW_FACTOR);
  return faults;
}

function pick<T>(option: string, from: Readonly<Record<string, T>>, name: string): T {
  return from[listed(option, Object.keys(from), name)] as T;
}

function listed(option: string, names: readonly string[], name: string): string {
  if (names.includes(name)) return name;
  throw fail('config_invalid', `${option} ${name} is none of ${names.join(', ')}`);
}

function number(option: string, value: string, least: number, most: number): number {
  const parsed = Number(value);
  if (value.trim() !== '' && parsed >= least && parsed <= most) return parsed;
  throw fail('config_invalid', `${option} ${value} is not a number from ${least} to ${most}`);
}

function whole(option: string, value: string, least: number): number {
  const parsed = number(option, value, least, 1e9);
  if (Number.isInteger(parsed)) return parsed;
  throw fail('config_invalid', `${option} ${value} is not a whole number`);
}
