import { join } from 'node:path';
import { Command } from 'commander';
import { CHECKS, type Finding } from '../doctor/checks.ts';
import { ROOT } from '../stack/state-dir.ts';

const MARKS = { ok: '✓', warn: '!', fail: '✗' } as const;

/** `guildhall doctor`: checks this machine and says what to fix; exit code 1 when something has to be fixed. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('check this machine and say what to fix')
    .option('--model <dir or org/name>', 'checkpoint to check too', join(ROOT, 'models', 'tiny'))
    .option('--json', 'print one JSON object', false)
    .action(async (flags: { model: string; json: boolean }) => {
      const findings: Finding[] = [];
      for (const check of CHECKS) findings.push(await runCheck(check, flags.model));
      const healthy = findings.every((finding) => finding.state !== 'fail');
      process.stdout.write(flags.json ? `${JSON.stringify({ healthy, findings })}\n` : asText(findings));
      if (!healthy) process.exitCode = 1;
    });
}

async function runCheck(check: (typeof CHECKS)[number], model: string): Promise<Finding> {
  try {
    return await check({ model });
  } catch (error) {
    return { name: check.name, state: 'fail', found: (error as Error).message, fix: 'this check itself failed' };
  }
}

function asText(findings: Finding[]): string {
  const lines = findings.flatMap(({ name, state, found, fix }) => [
    `${MARKS[state]} ${name}: ${found}`,
    ...(fix === '' ? [] : [`    ${fix}`]),
  ]);
  return `${lines.join('\n')}\n`;
}
