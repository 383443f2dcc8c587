import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RedisAccess, TlsConfig } from '@guildhall/common';

/** One process of a running stack, as `run.json` records it. */
export interface RunProcess {
  name: string;
  pid: number;
  /** Clock ticks since boot at which it started (`/proc/PID/stat`): tells a live process from a reused number. */
  startTicks: string;
  startedAt: string;
}

/** What `.guildhall/run.json` holds. No secrets: those are in `secrets.json`, readable by the owner only. */
export interface RunFile {
  url: string;
  model: string;
  startedAt: string;
  up: RunProcess;
  processes: RunProcess[];
}

/** Credentials of one running stack. */
export interface RunSecrets {
  clusterToken: string;
  redisUrl: string;
  cluster: string;
  /** Files to reach its processes with, for a cluster with TLS. */
  tls?: TlsConfig;
  /** User and authority of a Redis that is not the stack's own. */
  redisUser?: Omit<RedisAccess, 'tlsCert' | 'tlsKey'>;
}

/** Root of the checkout: the folder that holds `services/`. */
export const ROOT = resolve(fileURLToPath(new URL('../../../..', import.meta.url)));

/** The program of a service: a source file in a checkout, a compiled one in an image. */
export function serviceMain(service: string): string {
  return join(ROOT, 'services', service, 'src', `main${extname(fileURLToPath(import.meta.url))}`);
}

/** Folder of a stack's run file, logs and secrets. */
export class StateDir {
  readonly path: string;

  constructor(path: string | null) {
    this.path = resolve(path ?? process.env['GUILDHALL_STATE_DIR'] ?? join(ROOT, '.guildhall'));
  }

  /** Folder of the file in which Redis keeps keys, usage and answers. */
  get redisDir(): string {
    return join(this.path, 'redis');
  }

  ensure(): void {
    mkdirSync(join(this.path, 'logs'), { recursive: true });
    mkdirSync(this.redisDir, { recursive: true });
    // It holds texts of callers, and redis-server makes files that everybody may read.
    chmodSync(this.redisDir, 0o700);
  }

  /** Forgets what Redis has kept of earlier runs. No redis-server may run on it. */
  forget(): void {
    rmSync(this.redisDir, { recursive: true, force: true });
    this.ensure();
  }

  /** Held by the stack that uses this folder. */
  get lockFile(): string {
    return join(this.path, 'up.lock');
  }

  logFile(name: string): string {
    return join(this.path, 'logs', `${name}.log`);
  }

  readRun(): RunFile | null {
    return readJson<RunFile>(join(this.path, 'run.json'));
  }

  readSecrets(): RunSecrets | null {
    return readJson<RunSecrets>(join(this.path, 'secrets.json'));
  }

  writeRun(run: RunFile): void {
    writeAtomic(join(this.path, 'run.json'), run, 0o644);
  }

  writeSecrets(secrets: RunSecrets): void {
    writeAtomic(join(this.path, 'secrets.json'), secrets, 0o600);
  }

  clear(): void {
    rmSync(join(this.path, 'run.json'), { force: true });
    rmSync(join(this.path, 'secrets.json'), { force: true });
  }
}

function readJson<T>(path: string): T | null {
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    // A file cut short by a crash says nothing that could be trusted.
    return null;
  }
}

function writeAtomic(path: string, value: unknown, mode: number): void {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`, { mode });
  chmodSync(temporary, mode);
  renameSync(temporary, path);
}
