import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '@guildhall/common';
import { attempt, run } from './command.ts';
import { type ContainerPlan, ociSpec } from './oci-spec.ts';

/** What a command in a container said, and how it ended. */
export interface ExecResult {
  code: number;
  output: string;
}

const STATE = '/run/guildhall-runc';
const POLL_MS = 20;

/** A container that runs. */
export class RunningContainer {
  readonly id: string;
  readonly pid: number;
  /** Resolves with the exit status, 128 + N after signal N. */
  readonly ended: Promise<number>;

  constructor(id: string, pid: number, ended: Promise<number>) {
    this.id = id;
    this.pid = pid;
    this.ended = ended;
  }

  /** Sends a signal to the container's first process. */
  async kill(signal: 'TERM' | 'KILL'): Promise<void> {
    await attempt('runc', ['--root', STATE, 'kill', this.id, signal]);
  }

  /**
   * Runs a command in it, as the same user and with the same rights. Never throws. One that takes too long is killed itself,
   * and not `runc`, which has to reap it: a zombie in the container's process namespace would keep the container from ending.
   */
  async exec(argv: readonly string[], timeoutMs: number): Promise<ExecResult> {
    const pidFile = join(STATE, `exec-${randomUUID()}`);
    const args = ['--root', STATE, 'exec', '--pid-file', pidFile, this.id, ...argv];
    const killed = new AbortController();
    const timer = setTimeout(() => void killRecorded(pidFile, killed.signal), timeoutMs);
    const result = await new Promise<ExecResult>((resolve) => {
      execFile('runc', args, { maxBuffer: 1 << 20 }, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ code, output: `${stdout}${stderr}`.trim() });
      });
    });
    clearTimeout(timer);
    killed.abort();
    await rm(pidFile, { force: true });
    return result;
  }
}

/** Kills the process of a pid file, which may still have to be written. */
async function killRecorded(pidFile: string, ended: AbortSignal): Promise<void> {
  while (!ended.aborted) {
    const pid = Number(await readFile(pidFile, 'utf8').catch(() => '0'));
    if (pid > 0) return signalled(pid);
    await sleep(POLL_MS, undefined, { signal: ended }).catch(() => undefined);
  }
}

function signalled(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

/** Makes a container's bundle and starts it with runc. Its output is added to `logFile`. Throws with what runc said. */
export async function startContainer(
  id: string,
  bundle: string,
  plan: ContainerPlan,
  logFile: string,
  clock: Clock,
): Promise<RunningContainer> {
  await prepareBundle(bundle, plan);
  const pidFile = join(bundle, 'pid');
  const log = openSync(logFile, 'a');
  const argv = [
    '--root',
    STATE,
    '--log',
    join(bundle, 'runc.log'),
    'run',
    '--bundle',
    bundle,
    '--pid-file',
    pidFile,
    id,
  ];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'runc', ...argv], { stdio: ['ignore', log, log] });
  closeSync(log);
  const ended = endOf(child);
  const failed = { ended: false };
  void ended.then(() => (failed.ended = true));
  while (!existsSync(pidFile) && !failed.ended) await clock.sleep(POLL_MS);
  if (!existsSync(pidFile)) {
    const said = await readFile(join(bundle, 'runc.log'), 'utf8').catch(() => '');
    await removeBundle(bundle);
    throw new Error(said.trim().split('\n').at(-1) ?? 'runc ended');
  }
  return new RunningContainer(id, Number(await readFile(pidFile, 'utf8')), ended);
}

async function endOf(child: ChildProcess): Promise<number> {
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 137;
}

async function prepareBundle(bundle: string, plan: ContainerPlan): Promise<void> {
  const path = (name: string): string => join(bundle, name);
  for (const name of ['upper', 'work', 'rootfs']) await mkdir(path(name), { recursive: true });
  const lower = plan.image.layers.join(':');
  const options = `lowerdir=${lower},upperdir=${path('upper')},workdir=${path('work')}`;
  await run('mount', ['-t', 'overlay', 'overlay', '-o', options, path('rootfs')]);
  await writeFile(path('config.json'), JSON.stringify(ociSpec(plan)));
}

/** Takes away what is left of a container that ended. */
export async function removeContainer(id: string, bundle: string): Promise<void> {
  await attempt('runc', ['--root', STATE, 'delete', '--force', id]);
  await removeBundle(bundle);
}

async function removeBundle(bundle: string): Promise<void> {
  await attempt('umount', ['--lazy', join(bundle, 'rootfs')]);
  await rm(bundle, { recursive: true, force: true });
}
