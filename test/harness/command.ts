import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from './service-process.ts';

/** The program behind `guildhall`. */
export const MAIN = join(ROOT, 'services', 'cli', 'src', 'main.ts');

/** Redis is asked with a limit of a second, which a crowded machine may exceed. */
const TRIES = 5;

/** Standard output of `guildhall ARGS`. Throws with what it wrote to standard error when it fails. */
export async function guildhall(args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  for (let tries = 1; ; tries++) {
    const { code, output, errors } = await runOnce(args, env);
    if (code === 0) return output;
    if (tries === TRIES || !errors.includes('redis_unavailable'))
      throw new Error(`guildhall ${args.join(' ')}: ${errors}`);
  }
}

async function runOnce(
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ code: number | null; output: string; errors: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let [output, errors] = ['', ''];
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output, errors };
}
