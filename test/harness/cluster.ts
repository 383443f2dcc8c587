import { RedisServer } from '@guildhall/common/testing';
import type { WeightFormat } from '@guildhall/native';
import OpenAI from 'openai';
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
  gatewayArgs?: string[];
  expertArgs?: string[];
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

  private readonly started: ServiceProcess[] = [];

  private constructor(options: ClusterOptions, redis: RedisServer) {
    this.redis = redis;
    this.options = {
      model: TINY,
      weights: 'f32',
      workers: 2,
      expertModels: [],
      routers: 1,
      routerArgs: [],
      gatewayArgs: [],
      expertArgs: [],
      env: {},
      ...options,
    };
  }

  /** Starts every process and resolves when the gateway can serve. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(options, await RedisServer.start());
    try {
      const { workers, routers } = cluster.options;
      if (workers > 0) {
        cluster.controller = cluster.spawn('controller', ['--id', 'controller-1', '--min-workers', String(workers)]);
      }
      for (let number = 1; number <= workers; number++) cluster.addExpert(`expert-${number}`);
      for (let number = 1; number <= routers; number++) cluster.addRouter(`router-${number}`);
      cluster.gateway = cluster.spawn('gateway', [
        '--id=gateway-1',
        `--model=${cluster.options.model}`,
        '--served-model-name=tiny',
        '--served-model-name=tiny-alias',
        ...cluster.options.gatewayArgs,
      ]);
      cluster.url = `http://${(await cluster.gateway.listening()).address}`;
      await cluster.ready();
      return cluster;
    } catch (error) {
      const output = cluster.started
        .map((process) => `── ${process.spec.service}\n${process.output.slice(-1500)}`)
        .join('\n');
      await cluster.stop();
      throw new Error(`the cluster did not start: ${String(error)}\n${output}`, { cause: error });
    }
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
    return ['--model', model, '--weights', this.options.weights, '--threads', '1'];
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
    const process = this.spawn('router', ['--id', id, ...this.modelArgs(), ...names, ...args]);
    this.routers.push(process);
    return process;
  }

  /** Resolves when `/ready` answers 200. */
  async ready(limitMs = 90_000): Promise<void> {
    await until('the gateway to be ready', async () => (await fetch(`${this.url}/ready`)).ok, limitMs);
  }

  /** The official client, without retries of its own. */
  client(): OpenAI {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 120_000 });
  }

  /** Value of a metric of a process's admin page, summed over labels that contain `labels`. */
  async metric(process: ServiceProcess, name: string, labels = ''): Promise<number> {
    const { admin } = await process.listening();
    const text = await (await fetch(`http://${admin}/metrics`)).text();
    return text
      .split('\n')
      .filter((line) => line.startsWith(name) && /[ {]/.test(line[name.length] ?? '') && line.includes(labels))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  async stop(): Promise<void> {
    await Promise.all(this.started.map((process) => process.stop()));
    await this.redis.stop();
  }
}
