import { execFile } from 'node:child_process';

/** Runs a program to its end. Throws with what it said when it fails. @returns its standard output. */
export async function run(program: string, args: readonly string[], input = ''): Promise<string> {
  return await new Promise((resolve, reject) => {
    const child = execFile(program, [...args], { maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: ${(stderr || error.message).trim()}`, { cause: error }));
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

/** Runs a program and looks at neither its output nor its end. */
export async function attempt(program: string, args: readonly string[]): Promise<void> {
  await run(program, args).catch(() => undefined);
}
