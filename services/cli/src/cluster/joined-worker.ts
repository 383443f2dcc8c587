import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type Clock, formatHostPort, type Timer } from '@guildhall/common';
import { Child, type ChildProgress } from '../stack/child.ts';
import { endProcesses } from '../stack/processes.ts';
import { tlsEnvironment } from '../stack/stack.ts';
import { serviceMain } from '../stack/state-dir.ts';
import type { JoinedConfig, JoinedDir, Membership } from './joined-dir.ts';
import { redisUserOf } from './redis-access.ts';

/** Time that a worker has to hand its experts over before it ends. */
export const DRAIN_MS = 120_000;
/** The service ends by itself 10 s after its drain. */
const END_LIMIT_MS = DRAIN_MS + 12_000;
const RESTART_CAP_MS = 30_000;
/** Runs that were this long start the waiting between restarts anew. */
const GOOD_RUN_MS = 60_000;

export interface WorkerEvents {
  event(message: string): void;
  progress(progress: ChildProgress): void;
}

/** Arguments of the worker of a joined machine. */
export function workerArgs(dir: JoinedDir, config: JoinedConfig, membership: Membership): string[] {
  const { id, advertise, port, memoryMib, threads, failureDomain, model } = config;
  const { weights, kvDtype, bf16Kernels, combine } = membership.cluster;
  const source = model === null ? ['--model-from-peers', '--model', dir.modelDir] : ['--model', model];
  const place = [
    '--listen',
    formatHostPort(bindAddress(advertise), port),
    '--advertise',
    formatHostPort(advertise, port),
  ];
  const formats = ['--weights', weights, '--kv-dtype', kvDtype, '--bf16-kernels', bf16Kernels, '--combine', combine];
  const own = ['--weights-cache', dir.file('weights'), '--drain-ms', String(DRAIN_MS)];
  const limits = [
    ...(memoryMib === null ? [] : ['--weight-memory-mib', String(memoryMib)]),
    ...(threads === null ? [] : ['--threads', String(threads)]),
    ...(failureDomain === '' ? [] : ['--failure-domain', failureDomain]),
  ];
  return ['--id', id, ...place, ...source, ...formats, ...own, ...limits];
}

/** Environment of that worker: secrets show in no process list. */
export function workerEnvironment(dir: JoinedDir, { id }: JoinedConfig, membership: Membership): NodeJS.ProcessEnv {
  const { redis, clusterToken, name } = membership.cluster;
  const tls = {
    tlsCert: dir.file(membership.certificate),
    tlsKey: dir.file(membership.key),
    tlsCa: dir.authorityFile,
  };
  const where = formatHostPort(redis.host, redis.port);
  return {
    ...process.env,
    NODE_NO_WARNINGS: '1',
    GUILDHALL_CLUSTER_TOKEN: clusterToken,
    GUILDHALL_CLUSTER: name,
    GUILDHALL_REDIS: `rediss://${redisUserOf(id)}:${membership.redisPassword}@${where}/0`,
    ...tlsEnvironment(tls),
  };
}

/** The advertised address where it is this machine's, else all: others reach it through a translation. */
function bindAddress(advertise: string): string {
  const own = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
  if (own.includes(advertise)) return advertise;
  return isIP(advertise) === 6 ? '::' : '0.0.0.0';
}

/** Keeps the worker of a joined machine running: it is started again when it ends, and when its certificate is new. */
export class JoinedWorker {
  readonly #dir: JoinedDir;
  readonly #clock: Clock;
  readonly #on: WorkerEvents;
  #child: Child | null = null;
  #failures = 0;
  #restart: Timer | null = null;
  #stopping = false;

  constructor(dir: JoinedDir, clock: Clock, events: WorkerEvents) {
    this.#dir = dir;
    this.#clock = clock;
    this.#on = events;
  }

  /** Address of its admin page while it listens, or null. */
  async admin(): Promise<string | null> {
    const listening = await this.#child?.listening().catch(() => null);
    return listening?.admin ?? null;
  }

  start(): void {
    const config = this.#dir.config();
    const membership = this.#dir.membership();
    const startedMs = this.#clock.monotonicMs();
    const child = new Child({
      name: config.id,
      command: process.execPath,
      args: [serviceMain('expert'), ...workerArgs(this.#dir, config, membership), '--parent-pipe'],
      env: workerEnvironment(this.#dir, config, membership),
      logFile: this.#dir.file('worker.log'),
      onProgress: (progress) => this.#on.progress(progress),
    });
    this.#child = child;
    void child.exited.then((reason) => {
      if (this.#stopping || this.#child !== child) return;
      if (this.#clock.monotonicMs() - startedMs > GOOD_RUN_MS) this.#failures = 0;
      const waitMs = Math.min(RESTART_CAP_MS, 500 * 2 ** this.#failures++);
      this.#on.event(`the worker ended (${reason}); starting it again in ${waitMs / 1000} s\n${child.lastWords()}`);
      this.#restart = this.#clock.setTimer(waitMs, () => this.start());
    });
  }

  /** Lets it drain, and starts it with what is in its folder now. */
  async restart(): Promise<void> {
    const old = this.#child;
    this.#child = null;
    if (old !== null) await endProcesses([old.record()], END_LIMIT_MS, this.#clock);
    if (!this.#stopping) this.start();
  }

  /** Lets it drain and leave. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#restart?.cancel();
    if (this.#child !== null) await endProcesses([this.#child.record()], END_LIMIT_MS, this.#clock);
  }
}
