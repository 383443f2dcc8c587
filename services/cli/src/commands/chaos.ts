import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { fail, systemClock } from '@guildhall/common';
import type { Fault } from '../chaos/fault.ts';
import { FAULTS } from '../chaos/faults/index.ts';
import { runChaos } from '../chaos/run.ts';
import { isClean, lineOf, reportOf, saveReport, tableOf } from '../chaos/report.ts';
import { inSandbox, runInSandbox } from '../net/sandbox.ts';
import { ROOT } from '../stack/state-dir.ts';
import { positiveInteger } from '../ui/arguments.ts';
import { printFailure } from '../ui/failure.ts';
import { Progress } from '../ui/progress.ts';
import { formatTable } from '../ui/table.ts';

interface ChaosFlags {
  fault: string[];
  list: boolean;
  streams: number;
  seed: number;
  seconds: number;
  model: string;
  weights: string;
  logs: string | null;
  json: boolean;
  save: string | null;
}

/** `guildhall chaos`: a cluster in network namespaces, faults under load, and what came of them. */
export function chaosCommand(): Command {
  const collect = (value: string, all: string[]): string[] => [...all, value];
  return new Command('chaos')
    .description('break a cluster of real processes in every way it should survive, under load, and measure it')
    .option('--fault <name>', 'only this fault; repeat for more', collect, [])
    .option('--list', 'print the faults and end', false)
    .option('--streams <n>', 'streams at a time', positiveInteger, 8)
    .option('--seed <n>', 'seed of the requests', positiveInteger, 1)
    .option('--seconds <n>', 'time that faults last which end', positiveInteger, 10)
    .option('--model <dir>', 'checkpoint in the Hugging Face layout', join(ROOT, 'models', 'tiny'))
    .option('--weights <format>', 'weight format', 'bf16')
    .option('--logs <dir>', 'keep the logs of all processes there')
    .option('--save <file>', 'also write the report as FILE.json, FILE.md and, its pauses, FILE.png')
    .option('--json', 'print the report as one JSON object', false)
    .action(async (flags: ChaosFlags) => {
      const faults = chosen(flags.fault);
      if (flags.list) process.stdout.write(flags.json ? `${JSON.stringify(listOf(faults))}\n` : asText(faults));
      else if (inSandbox()) await endWith(chaos(faults, flags), flags.json);
      else process.exitCode = await runInSandbox(process.argv.slice(1));
    });
}

function chosen(names: readonly string[]): Fault[] {
  const unknown = names.find((name) => !FAULTS.some((fault) => fault.name === name));
  if (unknown !== undefined) {
    throw fail('not_found', `there is no fault '${unknown}'; \`guildhall chaos --list\` lists them`);
  }
  return FAULTS.filter(({ name }) => names.length === 0 || names.includes(name));
}

function listOf(faults: readonly Fault[]): object {
  return faults.map(({ name, about, expected }) => ({ fault: name, about, expected }));
}

function asText(faults: readonly Fault[]): string {
  return `${formatTable(
    ['fault', 'what is done'],
    faults.map(({ name, about }) => [name, about]),
  )}\n`;
}

/** Ends the process with its work: whatever is still open belongs to the lab, which ends with it. */
async function endWith(work: Promise<number>, json: boolean): Promise<never> {
  try {
    process.exit(await work);
  } catch (error) {
    printFailure(error, json);
    process.exit(1);
  }
}

/** Runs faults and prints what came of them. @returns the exit status. */
async function chaos(faults: readonly Fault[], flags: ChaosFlags): Promise<number> {
  const progress = new Progress({ quiet: flags.json });
  if (!existsSync(join(flags.model, 'config.json')))
    throw fail('checkpoint_not_found', `--model: there is no checkpoint in ${resolve(flags.model)}`);
  const { streams, seed, seconds, weights, logs, save } = flags;
  const options = {
    model: resolve(flags.model),
    weights,
    logs: logs ? resolve(logs) : null,
    streams,
    seed,
    lastsMs: seconds * 1000,
  };
  // The first process of a sandbox gets no signal that it does not ask for; the kernel ends the others with it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));
  process.stdin.on('error', () => undefined);
  const rows = await runChaos(faults, options, systemClock, {
    phase: (what) => {
      if (progress.redraws) progress.update(what);
    },
    fault: (row) => progress.done(lineOf(row)),
  });
  const report = await reportOf(rows, { streams, seed, seconds });
  if (save) await saveReport(report, resolve(save));
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : `${tableOf(rows)}\n`);
  const bad = rows.filter((row) => !isClean(row));
  if (bad.length > 0) process.stderr.write(`not as it must be: ${bad.map(({ fault }) => fault).join(', ')}\n`);
  return bad.length > 0 ? 1 : 0;
}
