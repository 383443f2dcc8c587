import { randomBytes } from 'node:crypto';
import { basename, join, resolve } from 'node:path';
import {
  createLogger,
  fail,
  type FileLock,
  forgetProcesses,
  formatHostPort,
  tryLockFile,
  type Clock,
  type TlsConfig,
} from '@guildhall/common';
import type { KvDtype } from '@guildhall/model/weights';
import type { WeightFormat } from '@guildhall/native';
import { Child, type ChildProgress } from './child.ts';
import { chooseGatewayAddress } from './ports.ts';
import { endProcesses, startTicks } from './processes.ts';
import { chooseRedisEndpoint, redisUrl, startRedis, type RedisEndpoint } from './redis.ts';
import { type RunSecrets, serviceMain, type StateDir } from './state-dir.ts';

export interface StackOptions {
  model: string;
  servedModelNames: string[];
  workers: number;
  routers: number;
  /** In expert workers, or all of them in the router's process: then there are neither workers nor a controller. */
  experts: 'remote' | 'local';
  weights: WeightFormat;
  /** Where quantised weights are kept: auto, off or a folder. */
  weightsCache: string;
  kvDtype: KvDtype;
  /** As the router's option takes it. */
  kvMemory: string;
  /** Folder under which each router has its own; null for none. */
  kvDisk: string | null;
  /** HOST:PORT of the gateway, or null for the default and the next free port. */
  listen: string | null;
  apiKeys: string[];
  /** Native threads of each router and worker. */
  threads: number;
  /** Whether its processes lease the cores of the machine from each other. */
  coreLeases: 'on' | 'off';
  /** URL of a collector that every process sends traces to; null for none, or for that of the environment. */
  otlp?: string | null;
  /** Forgets the keys, usage and answers that earlier runs have kept. */
  fresh?: boolean;
  /** For a stack that other machines join; without it everything is on loopback. */
  network?: StackNetwork | null;
}

/** What makes a stack the head of a cluster of machines. */
export interface StackNetwork {
  cluster: string;
  clusterToken: string;
  /** Address that is bound, and the one under which other machines reach it. */
  bind: string;
  host: string;
  /** Of the first router and of the first worker; the next ones have the next ports. */
  ports: { router: number; worker: number };
  tls: TlsConfig;
  redis: RedisEndpoint;
  /** Further flags of the controller, and of all that compute. */
  controllerArgs: string[];
  formatArgs: string[];
}

/** Restarts of one process within a minute before it is left dead. */
const MAX_RESTARTS_PER_MINUTE = 5;

export interface StackEvents {
  /** Something that the user should read. */
  event(message: string): void;
  /** A step of long work in one of the processes. */
  progress(progress: ChildProgress): void;
}

/** The processes of a one-box cluster: redis-server, controller, workers, routers and gateway, each on its own. */
export class Stack {
  readonly #options: StackOptions;
  readonly #state: StateDir;
  readonly #clock: Clock;
  readonly #children = new Map<string, Child>();
  readonly #on: StackEvents;
  readonly #startedAt = new Date().toISOString();
  readonly #restarts = new Map<string, number[]>();
  #secrets: RunSecrets | null = null;
  #redis: RedisEndpoint | null = null;
  #url = '';
  #stopping = false;
  /** Held while this stack uses the state folder: two Redis servers on one file would ruin it. */
  #lock: FileLock | null = null;

  constructor(options: StackOptions, state: StateDir, clock: Clock, events: StackEvents) {
    this.#options = { ...options, model: resolve(options.model) };
    this.#state = state;
    this.#clock = clock;
    this.#on = events;
  }

  get url(): string {
    return this.#url;
  }

  get secrets(): RunSecrets {
    if (this.#secrets === null) throw fail('internal', 'the stack has not been started');
    return this.#secrets;
  }

  /** Routers that are started. */
  get routers(): number {
    return this.#options.routers;
  }

  /** Where the processes write their logs. */
  get logs(): string {
    return join(this.#state.path, 'logs');
  }

  get model(): string {
    return this.#options.servedModelNames[0] ?? basename(this.#options.model);
  }

  /** Starts every process and resolves when each one listens; readiness to serve comes later. */
  async start(): Promise<void> {
    this.#state.ensure();
    this.#lock = this.#takeFolder();
    if (this.#options.fresh === true) this.#state.forget();
    const gatewayAddress = await chooseGatewayAddress(this.#options.listen);
    const network = this.#options.network ?? null;
    this.#redis = network?.redis ?? (await chooseRedisEndpoint());
    this.#secrets = {
      clusterToken: network?.clusterToken ?? randomBytes(32).toString('hex'),
      redisUrl: redisUrl(this.#redis),
      cluster: network?.cluster ?? 'local',
      ...(network === null ? {} : { tls: network.tls }),
    };
    this.#state.writeSecrets(this.#secrets);
    this.#adopt(await startRedis(this.#redis, this.#state, this.#clock), () => this.#restartRedis());
    await this.#forgetEarlierRun(this.#redis);
    const services = this.#serviceArgs(gatewayAddress);
    await Promise.all([...services].map(([name, args]) => this.#startService(name, args)));
  }

  /** Ends every process, the gateway first so that clients hear of it, Redis last. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const order = ['gateway', 'router', 'expert', 'controller', 'redis'];
    const rank = (child: Child): number => order.findIndex((prefix) => child.name.startsWith(prefix));
    const children = [...this.#children.values()].sort((a, b) => rank(a) - rank(b));
    for (const group of order) {
      const members = children.filter((child) => child.name.startsWith(group)).map((child) => child.record());
      await endProcesses(members, group === 'gateway' || group === 'router' ? 5000 : 2000, this.#clock);
    }
    if (this.#lock === null) return;
    this.#state.clear();
    this.#lock.release();
    this.#lock = null;
  }

  #takeFolder(): FileLock {
    const lock = tryLockFile(this.#state.lockFile, this.#clock);
    if ('release' in lock) return lock;
    throw fail(
      'id_in_use',
      `process ${lock.pid} uses ${this.#state.path}; stop it first, or give this one its own --state-dir`,
    );
  }

  /** Leases and placements of an earlier run would be taken for those of living processes. */
  async #forgetEarlierRun(endpoint: RedisEndpoint): Promise<void> {
    const { tls } = endpoint;
    await forgetProcesses({
      redis: redisUrl(endpoint),
      cluster: this.secrets.cluster,
      access: tls === null ? null : { tlsCert: tls.tlsCert, tlsKey: tls.tlsKey, redisCa: tls.tlsCa },
      clock: this.#clock,
      logger: createLogger({ service: 'cli', id: 'cli', level: 'silent' }),
    });
  }

  #serviceArgs(gatewayAddress: string): Map<string, string[]> {
    const { model, experts, weights, weightsCache, kvDtype, workers, routers, threads, coreLeases, servedModelNames } =
      this.#options;
    const network = this.#options.network ?? null;
    const shared = network?.formatArgs ?? [];
    const formats = ['--weights', weights, '--weights-cache', weightsCache, '--kv-dtype', kvDtype, ...shared];
    const native = ['--model', model, ...formats, '--threads', String(threads), '--core-leases', coreLeases];
    const names = servedModelNames.flatMap((name) => ['--served-model-name', name]);
    const services = new Map<string, string[]>();
    const remote = experts === 'remote';
    if (remote) {
      const args = network?.controllerArgs ?? ['--min-workers', String(workers)];
      services.set('controller', ['controller', '--id', 'controller-1', ...args]);
    }
    for (let number = 1; remote && number <= workers; number++) {
      const place = this.#placeArgs('worker', number);
      services.set(`expert-${number}`, ['expert', '--id', `expert-${number}`, ...native, ...place]);
    }
    for (let number = 1; number <= routers; number++) {
      const id = `router-${number}`;
      const own = [...this.#kvArgs(id), ...this.#placeArgs('router', number)];
      services.set(id, ['router', '--id', id, '--experts', experts, ...native, ...names, ...own]);
    }
    services.set('gateway-1', ['gateway', '--id', 'gateway-1', '--model', model, ...names, '--listen', gatewayAddress]);
    return services;
  }

  #kvArgs(router: string): string[] {
    const { kvMemory, kvDisk } = this.#options;
    return ['--kv-memory', kvMemory, ...(kvDisk === null ? [] : ['--kv-disk', join(kvDisk, router)])];
  }

  /** Where other machines reach a router or worker; nothing on loopback, where any free port will do. */
  #placeArgs(kind: 'router' | 'worker', number: number): string[] {
    const network = this.#options.network ?? null;
    if (network === null) return [];
    const first = network.ports[kind];
    const port = first === 0 ? 0 : first + number - 1;
    return ['--listen', formatHostPort(network.bind, port), '--advertise', formatHostPort(network.host, port)];
  }

  async #startService(name: string, [service = '', ...args]: string[]): Promise<void> {
    const child = new Child({
      name,
      command: process.execPath,
      args: [serviceMain(service), ...withListen(args), '--parent-pipe'],
      env: this.#environment(service),
      logFile: this.#state.logFile(name),
      onProgress: (progress) => this.#on.progress(progress),
    });
    this.#adopt(child, () => this.#startService(name, [service, ...args]));
    const listening = await child.listening();
    if (service === 'gateway') this.#url = `http://${listening.address}`;
    this.#writeRun();
  }

  #environment(service: string): NodeJS.ProcessEnv {
    const { clusterToken, redisUrl: url, cluster, tls } = this.secrets;
    // Secrets travel by environment: a command line is visible to every user of the machine.
    const keys = this.#options.apiKeys.join(',');
    return {
      ...process.env,
      NODE_NO_WARNINGS: '1',
      GUILDHALL_CLUSTER_TOKEN: clusterToken,
      GUILDHALL_REDIS: url,
      GUILDHALL_CLUSTER: cluster,
      ...(tls === undefined ? {} : tlsEnvironment(tls)),
      ...(typeof this.#options.otlp === 'string' ? { GUILDHALL_OTLP_ENDPOINT: this.#options.otlp } : {}),
      ...(service === 'gateway' && keys !== '' ? { GUILDHALL_API_KEYS: keys } : {}),
    };
  }

  async #restartRedis(): Promise<void> {
    if (this.#redis === null) return;
    this.#adopt(await startRedis(this.#redis, this.#state, this.#clock), () => this.#restartRedis());
    this.#writeRun();
  }

  /** Takes charge of a child: it is recorded, and started again if it ends while the stack is up. */
  #adopt(child: Child, restart: () => Promise<void>): void {
    this.#children.set(child.name, child);
    this.#writeRun();
    void child.exited.then(async (reason) => {
      if (this.#stopping || this.#children.get(child.name) !== child) return;
      const now = this.#clock.monotonicMs();
      const recent = (this.#restarts.get(child.name) ?? []).filter((at) => now - at < 60_000);
      this.#restarts.set(child.name, [...recent, now]);
      if (recent.length >= MAX_RESTARTS_PER_MINUTE) {
        this.#on.event(`${child.name} ended (${reason}) ${recent.length + 1} times within a minute; it stays down`);
        return;
      }
      this.#on.event(`${child.name} ended (${reason}); starting it again\n${child.lastWords()}`);
      await this.#clock.sleep(200 * 2 ** recent.length);
      if (this.#stopping) return;
      await restart().catch((error: unknown) => this.#on.event(String(error instanceof Error ? error.message : error)));
    });
  }

  #writeRun(): void {
    this.#state.writeRun({
      url: this.#url,
      model: this.model,
      startedAt: this.#startedAt,
      up: { name: 'up', pid: process.pid, startTicks: startTicks(process.pid) ?? '', startedAt: this.#startedAt },
      processes: [...this.#children.values()].map((child) => child.record()),
    });
  }
}

/** TLS files of a process by environment, Redis's authority among them. */
export function tlsEnvironment({ tlsCert, tlsKey, tlsCa }: TlsConfig): NodeJS.ProcessEnv {
  return {
    GUILDHALL_TLS_CERT: tlsCert ?? '',
    GUILDHALL_TLS_KEY: tlsKey ?? '',
    GUILDHALL_TLS_CA: tlsCa ?? '',
    GUILDHALL_REDIS_CA: tlsCa ?? '',
  };
}

function withListen(args: string[]): string[] {
  return args.includes('--listen') ? args : [...args, '--listen', '127.0.0.1:0'];
}

/**
 * Ends what a stack that died has left behind, verified by start time.
 * Errors: `id_in_use` while the process that started it is alive.
 */
export async function endLeftovers(state: StateDir, clock: Clock): Promise<string[]> {
  const run = state.readRun();
  if (run === null) return [];
  if (startTicks(run.up.pid) === run.up.startTicks) {
    throw fail(
      'id_in_use',
      `a stack is already up at ${run.url} (process ${run.up.pid}); stop it first, or give this one its own --state-dir`,
    );
  }
  const left = run.processes.filter((record) => startTicks(record.pid) === record.startTicks);
  await endProcesses(left, 3000, clock);
  state.clear();
  return left.map((record) => record.name);
}
