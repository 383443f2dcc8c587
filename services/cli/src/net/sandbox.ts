import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { fail } from '@guildhall/common';

/** Set in the process that runs inside, so that it does not go in again. */
const INSIDE = 'GUILDHALL_SANDBOX';

/** Programs that a network of namespaces needs, and the Debian packages they come in. */
const PROGRAMS: Record<string, string> = {
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  ip: 'iproute2',
  tc: 'iproute2',
  nft: 'nftables',
};

function has(program: string): boolean {
  return ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/bin'].some((dir) => existsSync(`${dir}/${program}`));
}

/** Namespaces of network, mounts and processes: all that is made inside ends with the first process of it. */
function unshareArgs(): string[] {
  const root = process.getuid?.() === 0;
  const user = root ? [] : ['--user', '--map-root-user'];
  return [...user, '--net', '--mount', '--pid', '--fork', '--kill-child=SIGKILL', '--mount-proc'];
}

/** What keeps a network of namespaces from being made here, or null. */
export function sandboxProblem(): string | null {
  if (process.platform !== 'linux') return 'network namespaces exist on Linux only';
  const missing = Object.keys(PROGRAMS).filter((program) => !has(program));
  if (missing.length > 0) {
    return `${missing.join(', ')} not found; install ${[...new Set(missing.map((name) => PROGRAMS[name]))].join(', ')}`;
  }
  const script =
    'mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add probe && ip link add br0 type bridge && nft add table inet probe';
  const { status, stderr } = spawnSync('unshare', [...unshareArgs(), 'sh', '-c', script], { encoding: 'utf8' });
  if (status === 0) return null;
  const why = stderr.trim().split('\n').pop() ?? '';
  const who = process.getuid?.() === 0 ? 'root of this container' : 'this user';
  return `${who} may not make network namespaces (${why}); run it as root, in a container with --privileged`;
}

/** True in a process that `runInSandbox` started. */
export function inSandbox(): boolean {
  return process.env[INSIDE] === String(process.pid) && process.pid === 1;
}

/**
 * Runs this very command again as the first process of new network, mount and process namespaces. When it ends, however
 * it ends, the kernel ends every process that it started and removes every namespace, link and mount that it made:
 * nothing can be left behind. Signals that we get are passed on. Resolves with the exit status.
 * Throws `unsupported` where namespaces cannot be made.
 */
export async function runInSandbox(argv: readonly string[]): Promise<number> {
  const problem = sandboxProblem();
  if (problem !== null) throw fail('unsupported', problem);
  // The sandbox ends with us, even when we are killed.
  const args = ['--pdeathsig', 'KILL', '--', 'unshare', ...unshareArgs(), process.execPath, ...argv];
  const child = spawn('setpriv', args, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  const handlers = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
    // unshare ignores the signals of the terminal and passes on none: its child is told by name.
    const handler = (): void => signalInside(child.pid ?? 0, signal);
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  return await new Promise<number>((resolve, reject) => {
    child.once('error', (error) => reject(fail('internal', `the sandbox could not be started: ${error.message}`)));
    child.once('exit', (code, signal) => {
      for (const off of handlers) off();
      resolve(code ?? 128 + (signal === null ? 1 : constants.signals[signal]));
    });
  });
}

function signalInside(unshare: number, signal: NodeJS.Signals): void {
  try {
    const children = readFileSync(`/proc/${unshare}/task/${unshare}/children`, 'utf8');
    for (const pid of children.split(' ').filter((text) => text !== '')) process.kill(Number(pid), signal);
  } catch {
    // It has ended.
  }
}
