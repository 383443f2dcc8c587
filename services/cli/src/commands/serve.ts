import { spawn } from 'node:child_process';
import { Command } from 'commander';
import { fail } from '@guildhall/common';
import { ModelStore } from '../hub/model-store.ts';
import { serviceMain } from '../stack/state-dir.ts';
import { addStackOptions, runStack, type UpFlags } from './up.ts';

/** Services that can be run alone, for a cluster put together by hand. */
const SERVICES = ['gateway', 'router', 'expert', 'controller', 'batch'] as const;

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
        process.exitCode = await runService(
          service,
          withPulledModel(service, command.args, new ModelStore(process.env)),
        );
      });
  }
  return all;
}

/**
 * Arguments of a service with `--model org/name` replaced by the folder of the pulled model, and its name given to
 * those that serve under one; with `--model-from-peers` they stay as they are.
 * @throws checkpoint_not_found for a model that was not pulled.
 */
export function withPulledModel(service: string, args: readonly string[], store: ModelStore): string[] {
  const at = args.findIndex((arg) => arg === '--model' || arg.startsWith('--model='));
  // A folder that peers fill need not be there yet.
  if (args.includes('--model-from-peers')) return [...args];
  const value = args[at]?.startsWith('--model=') ? args[at].slice('--model='.length) : args[at + 1];
  if (at === -1 || value === undefined) return [...args];
  const { dir, name } = store.find(value);
  if (name === null) return [...args];
  const rest = [...args.slice(0, at), ...args.slice(args[at] === '--model' ? at + 2 : at + 1)];
  const named = args.some((arg) => arg.startsWith('--served-model-name')) || !['router', 'gateway'].includes(service);
  return [...rest, '--model', dir, ...(named ? [] : ['--served-model-name', name])];
}

/** Runs a service as a child that shares our terminal; signals reach it through us. */
function runService(service: string, args: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const main = serviceMain(service);
    const child = spawn(process.execPath, [main, ...args], { stdio: 'inherit' });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
    child.once('error', (error) => reject(fail('internal', `${service} could not be started: ${error.message}`)));
    child.once('exit', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
  });
}
