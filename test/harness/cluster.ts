import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RedisServer } from '@guildhall/common/testing';
import type { WeightFormat } from '@guildhall/native';
import OpenAI from 'openai';
import { RouterClient } from './router-client.ts';
import { readSamples, type Sample, sumOf } from './samples.ts';
import { ServiceProcess, TINY } from './service-process.ts';
import { until } from './wait.ts';

export interface ClusterOptions {
  model?: string;
  weights?: WeightFormat;
  /** Expert workers; with 0 there is no controller either, and routers need `--experts local`. */
  workers?: number;
  /** Checkpoints of the first workers, where they are not that of the others. */
  expertModels?: string[];
  routers?: number;
  routerArgs?: string[];
  /** Further flags of single routers; `dir` is a folder of the cluster that outlives the process, for tiers on disk. */
  routerArgsOf?: (id: string, dir: string) => string[];
  /** Native threads of each router and worker. */
  threads?: number;
  /** False: requests go to the routers by gRPC, and the cluster is there when they are ready. */
  gateway?: boolean;
  gatewayArgs?: string[];
  expertArgs?: string[];
  controllerArgs?: string[];
  /** Environment of every process. */
  env?: Record<string, string>;
}

/** A whole cluster of real processes on loopback: Redis, controller, workers, routers, gateway. */
export class Cluster {
  readonly token = 'test-cluster-token';
  readonly options: Required<ClusterOptions>;
  readonly redis: RedisServer;
  readonly experts: ServiceProcess[] = [];
  readonly routers: ServiceProcess[] = [];
  controller!: ServiceProcess;
  gateway!: ServiceProcess;
  url = '';
  /** Folder that ends with the cluster. */
  readonly dir = mkdtempSync(join(tmpdir(), 'guildhall-cluster-'));

  private readonly started: ServiceProcess[] = [];
  private readonly clients = new Map<ServiceProcess, Promise<RouterClient>>();

  private constructor(options: ClusterOptions, redis: RedisServer) {
    this.redis = redis;
    this.options = {
      model: TINY,
      weights: 'f32',
      workers: 2,
      expertModels: [],
      routers: 1,
      routerArgs: [],
      routerArgsOf: () => [],
      threads: 1,
      gateway: true,
      gatewayArgs: [],
      expertArgs: [],
      controllerArgs: [],
      env: {},
      ...options,
    };
  }

  /** Starts every process and resolves when the gateway can serve. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(options, await RedisServer.start());
    try {
      const { workers, routers, controllerArgs } = cluster.options;
      if (workers > 0) {
        const args = ['--id', 'controller-1', '--min-workers', String(workers), ...controllerArgs];
        cluster.controller = cluster.spawn('controller', args);
      }
      for (let number = 1; number <= workers; number++) cluster.addExpert(`expert-${number}`);
      for (let number = 1; number <= routers; number++) cluster.addRouter(`router-${number}`);
      if (cluster.options.gateway) await cluster.startGateway();
      await cluster.allRouters();
      return cluster;
    } catch (error) {
      const output = cluster.started
        .map((process) => `── ${process.spec.service}\n${process.output.slice(-1500)}`)
        .join('\n');
      await cluster.stop();
      throw new Error(`the cluster did not start: ${String(error)}\n${output}`, { cause: error });
    }
  }

  private async startGateway(): Promise<void> {
    const names = ['--served-model-name=tiny', '--served-model-name=tiny-alias'];
    const { model, gatewayArgs } = this.options;
    this.gateway = this.spawn('gateway', ['--id=gateway-1', `--model=${model}`, ...names, ...gatewayArgs]);
    this.url = `http://${(await this.gateway.listening()).address}`;
    await this.ready();
  }

  spawn(service: string, args: string[], env: Record<string, string> = {}): ServiceProcess {
    const process = new ServiceProcess({
      service,
      args,
      env: {
        GUILDHALL_REDIS: this.redis.url,
        GUILDHALL_CLUSTER: 'test',
        GUILDHALL_CLUSTER_TOKEN: this.token,
        GUILDHALL_LOG_LEVEL: 'info',
        ...this.options.env,
        ...env,
      },
    });
    this.started.push(process);
    return process;
  }

  private modelArgs(model = this.options.model): string[] {
    return ['--model', model, '--weights', this.options.weights, '--threads', `${this.options.threads}`];
  }

  addExpert(id: string, args: string[] = this.options.expertArgs): ServiceProcess {
    const process = this.spawn('expert', [
      '--id',
      id,
      ...this.modelArgs(this.options.expertModels[this.experts.length]),
      ...args,
    ]);
    this.experts.push(process);
    return process;
  }

  addRouter(id: string, args: string[] = this.options.routerArgs): ServiceProcess {
    const names = ['--served-model-name', 'tiny', '--served-model-name', 'tiny-alias'];
    const own = this.options.routerArgsOf(id, join(this.dir, id));
    const process = this.spawn('router', ['--id', id, ...this.modelArgs(), ...names, ...args, ...own]);
    this.routers.push(process);
    return process;
  }

  /** A router by its number from 1. */
  router(number: number): ServiceProcess {
    const process = this.routers[number - 1];
    if (process === undefined) throw new Error(`there is no router ${number}`);
    return process;
  }

  /** Starts a router anew that has ended or ends now, under its id and with its folder. */
  async restartRouter(number: number): Promise<void> {
    const old = this.router(number);
    await old.stop();
    (await this.clients.get(old))?.close();
    this.clients.delete(old);
    const process = this.addRouter(`router-${number}`);
    this.routers.splice(number - 1, 1, process);
    this.routers.length -= 1;
    await this.routerReady(number);
  }

  /** The gRPC side of a router. */
  async routerClient(number: number): Promise<RouterClient> {
    const process = this.router(number);
    const known = this.clients.get(process);
    if (known !== undefined) return known;
    const made = process.listening().then(({ address }) => new RouterClient(address, this.token));
    this.clients.set(process, made);
    return made;
  }

  /** Resolves when a router takes requests. */
  async routerReady(number: number, limitMs = 300_000): Promise<void> {
    const { admin } = await this.router(number).listening();
    await until(`router ${number} to be ready`, async () => (await fetch(`http://${admin}/ready`)).ok, limitMs);
  }

  private async allRouters(): Promise<void> {
    for (let number = 1; number <= this.options.routers; number++) await this.routerReady(number);
    if (!this.options.gateway) return;
    const known = (): Promise<number> => this.metric(this.gateway, 'guildhall_routers');
    await until('the gateway to know every router', async () => (await known()) === this.options.routers);
  }

  /** Resolves when `/ready` answers 200. */
  async ready(limitMs = 90_000): Promise<void> {
    await until('the gateway to be ready', async () => (await fetch(`${this.url}/ready`)).ok, limitMs);
  }

  /** The official client, without retries of its own. */
  client(): OpenAI {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 120_000 });
  }

  /** Every metric of a process's admin page. */
  async samples(process: ServiceProcess): Promise<Sample[]> {
    const { admin } = await process.listening();
    return readSamples(await (await fetch(`http://${admin}/metrics`)).text());
  }

  /** Value of a metric of a process, summed over labels that contain `labels`. */
  async metric(process: ServiceProcess, name: string, labels = ''): Promise<number> {
    return sumOf(await this.samples(process), name, labels);
  }

  async stop(): Promise<void> {
    for (const client of this.clients.values()) (await client.catch(() => null))?.close();
    await Promise.all(this.started.map((process) => process.stop()));
    await this.redis.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
