import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Command } from 'commander';
import { fail } from '@guildhall/common';
import { ROOT } from '../stack/state-dir.ts';
import { addStackOptions, runStack, type UpFlags } from './up.ts';

/** Services that can be run alone, for a cluster put together by hand. */
const SERVICES = ['gateway', 'router', 'expert', 'controller'] as const;

/** `guildhall serve`: the stack without a first prompt, or one service in the foreground with its own flags. */
export function serveCommand(): Command {
  const all = new Command('serve').description('serve a model on this machine, or run one service of a cluster');
  addStackOptions(all)
    .option('--json', 'print one JSON object when ready', false)
    .action(async (flags: UpFlags) => {
      await runStack(flags, { prompt: null, smoke: false, json: flags.json });
    });
  // What follows a service's name is its own, also where the stack has an option of that name.
  all.enablePositionalOptions();
  for (const service of SERVICES) {
    all
      .command(service)
      .description(`run one ${service} in the foreground; \`serve ${service} --help\` lists its flags`)
      .helpOption(false)
      .allowUnknownOption()
      .allowExcessArguments()
      .action(async (_flags: unknown, command: Command) => {
        process.exitCode = await runService(service, command.args);
      });
  }
  return all;
}

/** Runs a service as a child that shares our terminal; signals reach it through us. */
function runService(service: string, args: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const main = join(ROOT, 'services', service, 'src', 'main.ts');
    const child = spawn(process.execPath, [main, ...args], { stdio: 'inherit' });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
    child.once('error', (error) => reject(fail('internal', `${service} could not be started: ${error.message}`)));
    child.once('exit', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
  });
}
