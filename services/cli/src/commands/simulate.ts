import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from '@guildhall/bench';
import type { Measurement } from '@guildhall/bench/calibrate';
import { systemClock } from '@guildhall/common';
import { Command } from 'commander';
import { benchHarness } from '../bench-harness.ts';
import { compare } from '../simulate/calibration.ts';
import { optionsFor, type SimulateFlags, workerCounts } from '../simulate/options.ts';
import { chartsOf, writeCharts } from '../simulate/plots.ts';
import { recoveryOf } from '../simulate/recovery.ts';
import { asTable, calibrationTable, describeCalibration, describeRecovery, type SweepRow } from '../simulate/report.ts';
import { Simulation } from '../simulate/simulation.ts';
import { ROOT } from '../stack/state-dir.ts';
import { Progress } from '../ui/progress.ts';

interface CommandFlags extends SimulateFlags {
  calibrate: boolean;
  measured?: string;
  json: boolean;
  save?: string;
}

/** `guildhall simulate`: what a cluster of a given size would do, from the real decisions over modelled machines. */
export function simulateCommand(): Command {
  return new Command('simulate')
    .description('simulate a cluster: real placement, dispatch and admission over modelled workers and links')
    .option('--preset <model>', 'qwen3.5-397b or tiny', 'qwen3.5-397b')
    .option('--workers <list>', 'numbers of workers, one simulation each', '8,16,32,64,128,256,512,1024')
    .option('--routers <n>', 'routers; by default one for each 64 workers')
    .option('--worker-kind <kinds>', 'gpu, cpu, or both in turn as gpu+cpu', 'gpu')
    .option('--router-kind <kind>', 'gpu or cpu', 'gpu')
    .option('--link <rate>', 'network of routers and workers: 1G, 10G, 25G, 100G or 400G', '100G')
    .option('--worker-link <rate>', 'network of the workers, where it is another')
    .option('--transport <name>', 'grpc as measured, or native: the planned lane of native threads', 'grpc')
    .option('--combine <mode>', 'exact or partial', 'exact')
    .option('--batch <n>', 'streams of each router', '64')
    .option('--rate <n>', 'requests a second in all, instead of a fixed number of streams')
    .option('--prompt <tokens>', 'mean length of a prompt beside what a cache has', '64')
    .option('--answer <tokens>', 'mean length of an answer', '512')
    .option('--context <tokens>', 'context that each stream has from a cache', '8192')
    .option('--skew <exponent>', "of the experts' popularity (Zipf); 0 for even", '0.5')
    .option('--affinity <share>', "of a token's experts that come from its stream's topic", '0.3')
    .option('--copies <n>', 'copies of each expert at least', '2')
    .option('--most-copies <n>', 'copies of a much used expert at most', '4')
    .option('--hedge-share <share>', 'second calls for each first one at most', '0.03')
    .option('--seconds <n>', 'simulated time that is measured', '4')
    .option('--lose-worker <time>', "a worker's machine vanishes after so many seconds, such as 5s")
    .option('--kill-worker <time>', "a worker's process dies: its connections break")
    .option('--slow-worker <time>', 'a worker becomes twenty times slower')
    .option('--calibrate', 'run clusters of the model tiny on this machine, and say how well they are predicted', false)
    .option('--measured <file>', 'with --calibrate: a result that was kept before, instead of running clusters')
    .option('--seed <n>', 'of all random numbers', '1')
    .option('--json', 'print one JSON object', false)
    .option('--save <dir>', 'keep the result as JSON, and charts as PNG, in a folder')
    .action(async (flags: CommandFlags) => (flags.calibrate ? calibrateHere(flags) : simulate(flags)));
}

async function simulate(flags: CommandFlags): Promise<void> {
  const { commitOf, machineOf } = await benchHarness();
  const progress = new Progress({ quiet: false });
  const rows: SweepRow[] = [];
  for (const workers of workerCounts(flags)) {
    const started = systemClock.monotonicMs();
    const simulation = new Simulation(optionsFor(flags, workers));
    const outcome = await simulation.run((share) => progress.update(`${workers} workers`, share));
    rows.push({ ...outcome, recovery: recoveryOf(simulation) });
    progress.done(`${workers} workers: ${((systemClock.monotonicMs() - started) / 1000).toFixed(1)} s`);
  }
  const report = { schema: 1, suite: 'simulate', machine: machineOf(1), commit: commitOf(ROOT), options: flags, rows };
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : asText(rows));
  if (flags.save === undefined) return;
  mkdirSync(flags.save, { recursive: true });
  const stem = `simulate-${flags.preset}`;
  writeFileSync(join(flags.save, `${stem}.json`), `${JSON.stringify(report, null, 1)}\n`);
  const files = await writeCharts(chartsOf(rows, subtitleOf(flags)), flags.save, stem);
  progress.done(`kept in ${flags.save}: ${[`${stem}.json`, ...files].join(', ')}`);
}

/** Worker counts that are measured, and the one that parameters are fitted to. */
const MEASURED_WORKERS = [2, 4, 8];
const FIT_WORKERS = 2;
const MEASURED_STREAMS = [1, 4, 8, 16];
const SECONDS_EACH = 5;

async function calibrateHere(flags: CommandFlags): Promise<void> {
  const progress = new Progress({ quiet: false });
  const { machine, commit, measurements } =
    flags.measured === undefined ? await measureHere(progress) : readMeasured(flags.measured);
  const { calibration, comparisons } = await compare(measurements, FIT_WORKERS, machine.cores);
  const report = { schema: 1, suite: 'calibration', machine, commit, calibration, rows: comparisons };
  const text = `${calibrationTable(comparisons)}\n${describeCalibration(calibration)}\n`;
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : text);
  if (flags.save === undefined) return;
  mkdirSync(flags.save, { recursive: true });
  writeFileSync(join(flags.save, 'calibration.json'), `${JSON.stringify(report, null, 1)}\n`);
}

interface Measured {
  machine: Machine;
  commit: string;
  measurements: Measurement[];
}

async function measureHere(progress: Progress): Promise<Measured> {
  const { commitOf, machineOf } = await benchHarness();
  // Loaded when needed: it brings the tests' harness along.
  const { measureCluster } = await import('@guildhall/bench/calibrate');
  const measurements: Measurement[] = [];
  for (const workers of MEASURED_WORKERS) {
    const options = { workers, streams: MEASURED_STREAMS, secondsEach: SECONDS_EACH };
    measurements.push(...(await measureCluster({ ...options, onProgress: (label) => progress.update(label) })));
  }
  return { machine: machineOf(1), commit: commitOf(ROOT), measurements };
}

/** A file that `--save` has written before. */
function readMeasured(file: string): Measured {
  const { machine, commit, rows } = JSON.parse(readFileSync(file, 'utf8')) as {
    machine: Machine;
    commit: string;
    rows: { measured: Measurement }[];
  };
  return { machine, commit, measurements: rows.map(({ measured }) => measured) };
}

function asText(rows: readonly SweepRow[]): string {
  const faults = rows.flatMap(({ workers, streamsDropped, recovery }) =>
    recovery === null ? [] : [describeRecovery(workers, streamsDropped, recovery)],
  );
  return `${[asTable(rows), ...faults].join('\n')}\n`;
}

function subtitleOf(flags: CommandFlags): string {
  const { preset, workerKind, link, transport, batch, context, rate } = flags;
  const load = rate === undefined ? `${batch} streams a router` : `${rate} requests/s`;
  return `${preset}, ${workerKind} workers, ${link}, ${transport}, ${load}, ${context} tokens of context; simulated`;
}
