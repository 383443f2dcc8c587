/** The `guildhall` command. */
import { CommanderError } from 'commander';
import { buildProgram } from './program.ts';
import { printFailure } from './ui/failure.ts';

const program = await buildProgram(process.argv[2]);
try {
  await program.parseAsync(process.argv);
} catch (error) {
  // commander has already printed its own usage errors and help.
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else {
    printFailure(error, process.argv.includes('--json'));
    process.exitCode = 1;
  }
}
