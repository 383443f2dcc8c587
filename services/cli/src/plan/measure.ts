import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commitOf, machineOf } from '@guildhall/bench';
import type { ServingLoad, ServingMeasurement, ServingSetup } from '@guildhall/bench/calibrate';
import { findModel } from '../catalogue/models.ts';
import { ROOT } from '../stack/state-dir.ts';
import { Progress } from '../ui/progress.ts';
import { comparisonTable, compareAll } from './comparison.ts';
import { fitHost, type MeasuredMachine, type PlanMeasurements } from './measured.ts';

export interface MeasureFlags {
  /** A result that was kept before, instead of running clusters. */
  measured?: string;
  /** Folder to keep the result in. */
  save?: string;
  json: boolean;
}

const STREAMS = [1, 8, 32];
const SECONDS_EACH = 3;
/** Clusters that the host costs are fitted to: those of the model that ships with 2 and 4 workers. */
const FITTED_WORKERS = [2, 4];
const TINY_WORKERS = [0, 1, ...FITTED_WORKERS];
const LARGE_WORKERS = [0, 2, 1];

/**
 * `guildhall plan --measure`: runs clusters of two models on this machine, fits what the programs cost to some of them
 * and says how far the planner is off for the others.
 */
export async function measurePlan(flags: MeasureFlags): Promise<void> {
  const progress = new Progress({ quiet: false });
  const { commit, ...found } =
    flags.measured === undefined ? await measureHere(progress, flags.save) : readMeasured(flags.measured);
  const host = fitHost({ ...found, measurements: found.measurements.filter(isFitted) });
  const rows = compareAll(found, host, isFitted);
  const report = { schema: 1, suite: 'plan', commit, ...found, host, rows };
  const text = comparisonTable(rows);
  const costs = Object.entries(host).map(([name, us]) => `${name} ${us.toFixed(2)}`);
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : `${text}\n\nhost costs, µs: ${costs.join(', ')}\n`);
  if (flags.save === undefined) return;
  keep(flags.save, 'plan.json', `${JSON.stringify(report, null, 1)}\n`);
  keep(flags.save, 'plan.txt', `${text}\n`);
  progress.done(`kept in ${flags.save}: plan.json, plan.txt`);
}

function keep(dir: string, name: string, text: string): void {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, name), text);
}

function isFitted({ setup }: ServingMeasurement): boolean {
  return setup.model.endsWith('tiny') && FITTED_WORKERS.includes(setup.workers);
}

async function measureHere(
  progress: Progress,
  save: string | undefined,
): Promise<PlanMeasurements & { commit: string }> {
  // Loaded when needed: it brings the tests' harness along.
  const { Bandwidth, ensureModel, measureServing } = await import('@guildhall/bench/calibrate');
  const tinyDir = join(ROOT, 'models', 'tiny');
  const modelsDir = join(ROOT, '.guildhall', 'bench-models');
  const large = ensureModel({ modelsDir, name: 'qwen35moe', size: 'bench', tinyDir }, progress);
  const facts = machineOf(2);
  const setups = [
    ...TINY_WORKERS.map((workers) => setupOf(tinyDir, workers, facts.cores, 64)),
    ...LARGE_WORKERS.map((workers) => setupOf(large, workers, facts.cores, 256)),
  ];
  const machine = machineFigures(new Bandwidth(), facts);
  const result = { machine, measurements: [] as ServingMeasurement[], commit: commitOf(ROOT) };
  for (const setup of setups) {
    result.measurements.push(await measureServing(setup, loadOf(setup, tinyDir, progress)));
    // What was measured so far can be looked at with --measured even if this run is ended.
    if (save !== undefined) keep(save, 'measured.json', `${JSON.stringify(result, null, 1)}\n`);
  }
  return result;
}

function setupOf(model: string, workers: number, threads: number, kvMemoryMib: number): ServingSetup {
  return { model, weights: 'bf16', workers, threads, maxRunning: 32, kvMemoryMib };
}

function loadOf({ model }: ServingSetup, tinyDir: string, progress: Progress): ServingLoad {
  const prompts = model === tinyDir ? [64, 512, 1024] : [64, 512];
  const { vocab } = findModel(model, {}).config;
  const onProgress = (label: string): void => progress.update(label);
  return { streams: STREAMS, prompts, secondsEach: SECONDS_EACH, vocab: Math.min(vocab, 2900), onProgress };
}

interface Probes {
  read(threads: number): number;
  peak(kind: 'fma' | 'bf16', threads: number): number | null;
}

/** Ceilings of the machine now, with all of its cores. */
function machineFigures(probes: Probes, facts: MeasuredMachine['facts']): MeasuredMachine {
  const { cores } = facts;
  const flops = probes.peak('bf16', cores) ?? probes.peak('fma', cores) ?? 0;
  return { facts, readBytesPerSecond: probes.read(cores) * 1e9, flopsPerSecond: flops * 1e9 };
}

/** A file that `--save` has written before. */
function readMeasured(file: string): PlanMeasurements & { commit: string } {
  return JSON.parse(readFileSync(file, 'utf8')) as PlanMeasurements & { commit: string };
}
