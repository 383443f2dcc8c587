import { Command } from 'commander';
import { autoscalerCommand } from './commands/autoscaler.ts';
import { benchCommand } from './commands/bench.ts';
import { chaosCommand } from './commands/chaos.ts';
import { chatCommand } from './commands/chat.ts';
import { checkCommand } from './commands/check.ts';
import { clusterCommand } from './commands/cluster.ts';
import { doctorCommand } from './commands/doctor.ts';
import { drainCommand } from './commands/drain.ts';
import { eventsCommand } from './commands/events.ts';
import { joinCommand } from './commands/join.ts';
import { keysCommand } from './commands/keys.ts';
import { planCommand } from './commands/plan.ts';
import { pullCommand } from './commands/pull.ts';
import { serveCommand } from './commands/serve.ts';
import { simulateCommand } from './commands/simulate.ts';
import { statusCommand } from './commands/status.ts';
import { upCommand } from './commands/up.ts';
import { usageCommand } from './commands/usage.ts';
import { VERSION } from './version.ts';

const COMMANDS = [
  upCommand,
  serveCommand,
  planCommand,
  pullCommand,
  chatCommand,
  statusCommand,
  autoscalerCommand,
  checkCommand,
  clusterCommand,
  joinCommand,
  drainCommand,
  eventsCommand,
  keysCommand,
  usageCommand,
  chaosCommand,
  simulateCommand,
  benchCommand,
  doctorCommand,
];

/** Builds the command tree; every command answers `--help`, and `--json` where it prints data. */
export function buildProgram(): Command {
  const program = new Command('guildhall')
    .description('Serves Qwen3.5-class mixture-of-experts models on machines you can get.')
    .version(VERSION)
    .showHelpAfterError('(--help lists the options)')
    .enablePositionalOptions()
    .exitOverride();
  for (const make of COMMANDS) {
    program.addCommand(make().exitOverride().showHelpAfterError('(--help lists the options)'));
  }
  return program;
}
