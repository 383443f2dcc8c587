import { Command } from 'commander';
import { VERSION } from './version.ts';

/** How each command is made. Only the one that is called is loaded: most of the time of a short command is its code. */
const COMMANDS: Record<string, () => Promise<Command>> = {
  up: async () => (await import('./commands/up.ts')).upCommand(),
  serve: async () => (await import('./commands/serve.ts')).serveCommand(),
  plan: async () => (await import('./commands/plan.ts')).planCommand(),
  pull: async () => (await import('./commands/pull.ts')).pullCommand(),
  chat: async () => (await import('./commands/chat.ts')).chatCommand(),
  status: async () => (await import('./commands/status.ts')).statusCommand(),
  autoscaler: async () => (await import('./commands/autoscaler.ts')).autoscalerCommand(),
  check: async () => (await import('./commands/check.ts')).checkCommand(),
  cluster: async () => (await import('./commands/cluster.ts')).clusterCommand(),
  join: async () => (await import('./commands/join.ts')).joinCommand(),
  drain: async () => (await import('./commands/drain.ts')).drainCommand(),
  events: async () => (await import('./commands/events.ts')).eventsCommand(),
  keys: async () => (await import('./commands/keys.ts')).keysCommand(),
  usage: async () => (await import('./commands/usage.ts')).usageCommand(),
  chaos: async () => (await import('./commands/chaos.ts')).chaosCommand(),
  simulate: async () => (await import('./commands/simulate.ts')).simulateCommand(),
  bench: async () => (await import('./commands/bench.ts')).benchCommand(),
  doctor: async () => (await import('./commands/doctor.ts')).doctorCommand(),
};

/**
 * Builds the command tree; every command answers `--help`, and `--json` where it prints data.
 * @param name what the program is called with first; anything but a command makes the whole tree, for `--help` and
 * for the error that names a similar command.
 */
export async function buildProgram(name?: string): Promise<Command> {
  const program = new Command('guildhall')
    .description('Serves Qwen3.5-class mixture-of-experts models on machines you can get.')
    .version(VERSION)
    .showHelpAfterError('(--help lists the options)')
    .enablePositionalOptions()
    .exitOverride();
  const one = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  for (const make of one === undefined ? Object.values(COMMANDS) : [one])
    program.addCommand((await make()).exitOverride().showHelpAfterError('(--help lists the options)'));
  return program;
}
