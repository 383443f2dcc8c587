import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, fail } from '@guildhall/common';
import { clearImpairments } from '../net/impairments.ts';
import { type Host, Network, run } from '../net/network.ts';
import { LabProcess, redisSpec, serviceSpec } from './lab-process.ts';
import type { ApiTarget } from './stream.ts';
import { WorkerFront } from './worker-front.ts';
import { type Redundancy, RedundancyProbe } from './redundancy.ts';

export interface LabOptions {
  /** Folder of the checkpoint. */
  model: string;
  workers: number;
  /** Copies of each expert. */
  replicas: number;
  weights: string;
  /** Folder for the logs of all processes; null for one in memory. */
  logs: string | null;
}

/** Ports are the same on every host: each process has its own. */
const PORT = 7000;
const ADMIN_PORT = 7001;
const REDIS_PORT = 6379;
const CLUSTER = 'chaos';
const MODEL = 'lab';

const START_LIMIT_MS = 180_000;
const RESTORE_LIMIT_MS = 120_000;

/**
 * A whole cluster of real processes, each on a host of its own: Redis, a controller, workers, a router, a gateway. The
 * caller is in the sandbox, on the bridge between them, and reaches all of them.
 */
export class Lab {
  readonly options: LabOptions;
  readonly clock: Clock;
  readonly network: Network;
  readonly apiKey = randomBytes(16).toString('hex');
  readonly clusterToken = randomBytes(16).toString('hex');
  readonly redisUrl: string;
  readonly probe: RedundancyProbe;
  readonly #processes = new Map<string, LabProcess>();
  readonly #fronts = new Map<string, WorkerFront>();
  readonly #logs: string;

  private constructor(options: LabOptions, clock: Clock) {
    this.options = options;
    this.clock = clock;
    this.network = new Network();
    this.#logs = options.logs ?? join(this.network.dir, 'logs');
    const password = randomBytes(16).toString('hex');
    const redis = this.network.host('redis');
    this.redisUrl = `redis://:${password}@${redis.ip}:${REDIS_PORT}/0`;
    this.#processes.set('redis', new LabProcess(redisSpec(redis, REDIS_PORT, password), redis, this.#logs));
    this.probe = new RedundancyProbe({
      redisUrl: this.redisUrl,
      cluster: CLUSTER,
      clusterToken: this.clusterToken,
      replicas: options.replicas,
      clock,
    });
  }

  /** Starts all processes; resolves when every expert has its replicas and the gateway serves. */
  static async start(options: LabOptions, clock: Clock): Promise<Lab> {
    const lab = new Lab(options, clock);
    lab.get('redis').start();
    lab.addController('controller-1');
    for (let number = 1; number <= options.workers; number++) lab.#addWorker(`expert-${number}`);
    lab.addRouter('router-1');
    lab.#add('gateway-1', 'gateway', ['--served-model-name', MODEL, '--model', options.model]);
    await lab.probe.start();
    await lab.settled(START_LIMIT_MS);
    return lab;
  }

  /** URL of the HTTP API. */
  get url(): string {
    return `http://${this.get('gateway-1').host.ip}:${PORT}`;
  }

  /** How to reach the API. */
  get api(): ApiTarget {
    return { url: this.url, apiKey: this.apiKey, model: MODEL };
  }

  /** A process by its name. */
  get(name: string): LabProcess {
    const process = this.#processes.get(name);
    if (process === undefined) throw fail('internal', `the lab has no ${name}`);
    return process;
  }

  /** Processes whose names begin like this, in order. */
  all(prefix: string): LabProcess[] {
    return [...this.#processes.values()].filter((process) => process.name.startsWith(prefix));
  }

  host(name: string): Host {
    return this.network.host(name);
  }

  /** Starts one more controller. */
  addController(name: string): LabProcess {
    const { workers, replicas } = this.options;
    return this.#add(name, 'controller', ['--min-workers', `${workers}`, '--replicas', `${replicas}`]);
  }

  /** Starts one more router. Prompts are computed every time, so that prefill meets the fault too. */
  addRouter(name: string): LabProcess {
    const { model, weights } = this.options;
    const native = ['--model', model, '--weights', weights, '--threads', '1'];
    return this.#add(name, 'router', [...native, '--served-model-name', MODEL, '--prefix-cache', 'off']);
  }

  /** Folder of a worker's own view of the checkpoint: links that a fault may remove. */
  checkpointOf(worker: string): string {
    return join(this.network.dir, 'models', worker);
  }

  #addWorker(name: string): void {
    this.linkCheckpoint(name);
    const native = ['--model', this.checkpointOf(name), '--weights', this.options.weights, '--threads', '1'];
    this.#add(name, 'expert', native);
  }

  /** Makes a worker's view of the checkpoint whole. */
  linkCheckpoint(worker: string): void {
    this.#makeCheckpoint(worker, symlinkSync);
  }

  /** Makes it whole with files of its own, in memory. */
  copyCheckpoint(worker: string): void {
    this.#makeCheckpoint(worker, cpSync);
  }

  #makeCheckpoint(worker: string, make: (from: string, to: string) => void): void {
    const dir = this.checkpointOf(worker);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    for (const file of readdirSync(this.options.model, { withFileTypes: true })) {
      if (file.isFile()) make(join(this.options.model, file.name), join(dir, file.name));
    }
  }

  #add(name: string, service: string, args: string[]): LabProcess {
    const host = this.network.host(name);
    const at = ['--listen', `${host.ip}:${PORT}`, '--admin-listen', `${host.ip}:${ADMIN_PORT}`, '--id', name];
    const env = {
      ...process.env,
      NODE_NO_WARNINGS: '1',
      GUILDHALL_REDIS: this.redisUrl,
      GUILDHALL_CLUSTER: CLUSTER,
      GUILDHALL_CLUSTER_TOKEN: this.clusterToken,
      ...(service === 'gateway' ? { GUILDHALL_API_KEYS: this.apiKey } : {}),
    };
    const made =
      this.#processes.get(name) ?? new LabProcess(serviceSpec(name, service, [...at, ...args], env), host, this.#logs);
    this.#processes.set(name, made);
    made.start();
    return made;
  }

  /** Where a process serves /metrics. */
  adminUrl(name: string): string {
    return `http://${this.host(name).ip}:${ADMIN_PORT}`;
  }

  /** Opens a front for a worker, which has to advertise its address. */
  async openFront(worker: string): Promise<WorkerFront> {
    const target = `${this.host(worker).ip}:${PORT}`;
    const { clusterToken, clock } = this;
    const front = await WorkerFront.start({ listen: `${this.network.ip}:0`, target, clusterToken, clock });
    this.#fronts.set(worker, front);
    return front;
  }

  /** The front of a worker that has one. */
  frontOf(worker: string): WorkerFront {
    const front = this.#fronts.get(worker);
    if (front === undefined) throw fail('internal', `${worker} has no front`);
    return front;
  }

  /** What is missing for full redundancy, with `lost` workers not counted. */
  async redundancy(lost: readonly string[] = []): Promise<Redundancy> {
    const routers = this.all('router-').filter((router) => router.running && !router.stopped);
    return await this.probe.look({ lost, routers: routers.map(({ name }) => ({ name, admin: this.adminUrl(name) })) });
  }

  /** Resolves when every expert has its replicas on all workers that run and the gateway serves. */
  async settled(limitMs = RESTORE_LIMIT_MS): Promise<void> {
    const deadline = this.clock.monotonicMs() + limitMs;
    let missing = '';
    while (this.clock.monotonicMs() < deadline) {
      const dead = [...this.#processes.values()].find((process) => !process.running);
      if (dead !== undefined) {
        throw fail('internal', `${dead.name} of the lab ended by itself:\n${dead.lastWords()}`);
      }
      const state = await this.redundancy();
      missing = state.missing ?? (await this.#gatewayProblem()) ?? '';
      const workers = this.all('expert-').length;
      if (missing === '' && state.workers < workers) missing = `${state.workers} of ${workers} workers hold experts`;
      if (missing === '') return;
      await this.clock.sleep(100);
    }
    throw fail('internal', `the lab did not settle within ${limitMs} ms: ${missing}`);
  }

  async #gatewayProblem(): Promise<string | null> {
    try {
      const { ok } = await fetch(`${this.url}/ready`, { signal: AbortSignal.timeout(2000) });
      return ok ? null : 'the gateway is not ready';
    } catch {
      return 'the gateway does not answer';
    }
  }

  /** Takes a process out for good: it does not come back at the next restore. */
  async remove(name: string): Promise<void> {
    const process = this.get(name);
    await process.stop(this.clock);
    this.#processes.delete(name);
  }

  /** Makes the lab whole again: no impairments, nothing stopped, everything running, every expert with its replicas. */
  async restore(): Promise<void> {
    for (const host of this.network.hosts) clearImpairments(this.network, host);
    for (const process of this.#processes.values()) {
      if (process.stopped) process.signal('SIGCONT');
      if (!process.running) process.start();
    }
    await this.settled();
  }

  /** Ends every process. */
  async stop(): Promise<void> {
    await this.probe.stop();
    for (const prefix of ['gateway-', 'router-', 'expert-', 'controller-', 'redis']) {
      await Promise.all(this.all(prefix).map((process) => process.stop(this.clock)));
    }
    run('ip', ['link', 'del', 'lab0']);
    run('umount', ['-l', '/run']);
  }
}
