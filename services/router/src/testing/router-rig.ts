import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ClientReadableStream } from '@grpc/grpc-js';
import {
  authMetadata,
  channelCredentials,
  channelOptions,
  fail,
  fromGrpc,
  type GuildhallError,
  systemClock,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { router } from '@guildhall/proto';
import { type RouterApp, startRouter } from '../app.ts';
import { loadRouterConfig } from '../config.ts';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
/** Any checkpoint with at least 2,910 token ids and no padding below that. */
const MODEL = process.env['GUILDHALL_TEST_MODEL'] ?? `${ROOT}models/tiny`;
const SECURITY = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };

/** A service of the cluster in a process of its own. */
export class RigProcess {
  readonly child: ChildProcess;
  readonly listening: Promise<{ address: string }>;
  output = '';

  constructor(service: string, args: readonly string[]) {
    const main = `${ROOT}services/${service}/src/main.ts`;
    this.child = spawn(process.execPath, [main, ...args, '--parent-pipe'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    });
    this.listening = new Promise((resolve, reject) => {
      for (const stream of [this.child.stdout, this.child.stderr]) {
        if (stream === null) continue;
        createInterface({ input: stream }).on('line', (line) => {
          this.output += `${line}\n`;
          if (line.startsWith('{"event":"listening"')) resolve(JSON.parse(line) as { address: string });
        });
      }
      this.child.once('exit', (code) => reject(fail('internal', `${service} ended (${code}): ${this.output}`)));
    });
    this.listening.catch(() => undefined);
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill(signal);
    await once(this.child, 'exit');
  }
}

/** What a Generate call gave. */
export interface Generated {
  started: router.Started | null;
  tokens: router.TokenEvent[];
  prompt: router.TokenEvent[];
  finished: router.Finished | null;
  moved: router.MovedSequence | null;
  error: GuildhallError | null;
}

/** A call in progress. */
export interface Call {
  stream: ClientReadableStream<router.GenerateEvent>;
  result: Generated;
  done: Promise<Generated>;
}

export interface RigRequest extends Omit<Partial<router.GenerateRequest>, 'sampling' | 'stop'> {
  sampling?: Partial<router.SamplingParams>;
  stop?: Partial<router.StopConditions>;
}

export interface RigOptions {
  workers?: number;
  /** Flags of workers and router that decide the numerics class; `--weights f32` by default. */
  numerics?: string[];
  replicas?: number;
  routerArgs?: string[];
}

let requests = 0;

/** A request with defaults: greedy, 16 tokens whatever they are, log-probabilities of the sampled ones. */
export function requestOf(given: RigRequest = {}): router.GenerateRequest {
  requests += 1;
  return router.GenerateRequest.fromPartial({
    requestId: `request-${requests}`,
    promptIds: promptOf(40, 1),
    model: 'tiny',
    ...given,
    sampling: {
      temperature: 0,
      topP: 1,
      repetitionPenalty: 1,
      topLogprobs: 0,
      ...given.sampling,
      logitBias: given.sampling?.logitBias ?? new Map(),
    },
    stop: { maxTokens: 16, ignoreEos: true, ...given.stop },
  });
}

/** A prompt of plain token ids that differ with `seed`. */
export function promptOf(length: number, seed: number): number[] {
  return Array.from({ length }, (_, i) => 10 + ((i * 7919 + seed * 104_729 + ((i * i * seed) % 613)) % 2900));
}

/** A cluster with real workers, controller and Redis, and its routers in the test's process. */
export class RouterRig {
  readonly redis: RedisServer;
  readonly model = MODEL;
  readonly processes = new Map<string, RigProcess>();
  readonly routers: RouterApp[] = [];
  readonly fatal: unknown[] = [];
  readonly #clients = new Map<string, router.RouterClient>();

  readonly #numerics: readonly string[];

  private constructor(redis: RedisServer, numerics: readonly string[]) {
    this.redis = redis;
    this.#numerics = numerics;
  }

  /** Starts a cluster, runs `body` with it, ends everything. */
  static async run(options: RigOptions, body: (rig: RouterRig) => Promise<void>): Promise<void> {
    const rig = await RouterRig.start(options);
    try {
      await body(rig);
    } finally {
      await rig.end();
    }
    if (rig.fatal.length > 0) throw rig.fatal[0];
  }

  /** Resolves when the first router is ready. */
  static async start(options: RigOptions = {}): Promise<RouterRig> {
    const { workers = 2, replicas = 1 } = options;
    const rig = new RouterRig(await RedisServer.start(), options.numerics ?? ['--weights', 'f32']);
    try {
      // Without workers the router has the experts itself, and there is nothing to place.
      if (workers > 0) {
        rig.spawn('controller-1', 'controller', ['--min-workers', String(workers), '--replicas', String(replicas)]);
      }
      for (let i = 1; i <= workers; i++) rig.addWorker(`expert-${i}`);
      await rig.addRouter('router-1', options.routerArgs);
      await rig.ready();
      return rig;
    } catch (err) {
      await rig.end();
      throw err;
    }
  }

  async end(): Promise<void> {
    for (const client of this.#clients.values()) client.close();
    await Promise.all(this.routers.map((app) => app.stop()));
    await Promise.all([...this.processes.values()].map((process) => process.end('SIGKILL')));
    await this.redis.stop();
  }

  spawn(id: string, service: string, args: readonly string[] = []): RigProcess {
    const shared = ['--id', id, '--redis', this.redis.url, '--listen', '127.0.0.1:0'];
    const process = new RigProcess(service, [...shared, ...args]);
    this.processes.set(id, process);
    return process;
  }

  addWorker(id: string, args: readonly string[] = []): RigProcess {
    return this.spawn(id, 'expert', ['--model', MODEL, '--threads', '1', ...this.#numerics, ...args]);
  }

  async addRouter(id: string, args: readonly string[] = []): Promise<RouterApp> {
    const flags = ['--model', MODEL, '--threads', '1', '--redis', this.redis.url, '--id', id, ...this.#numerics];
    const config = loadRouterConfig([...flags, '--served-model-name', 'tiny', '--kv-memory', '64MiB', ...args], {});
    const app = await startRouter(config, {
      logger: silentLogger(),
      clock: systemClock,
      signal: new AbortController().signal,
      onFatal: (err) => void this.fatal.push(err),
    });
    this.routers.push(app);
    return app;
  }

  /** A router in a process of its own, once it is ready. */
  async routerProcess(
    id: string,
    args: readonly string[] = [],
  ): Promise<{ process: RigProcess; app: Pick<RouterApp, 'id' | 'address'> }> {
    const flags = ['--model', MODEL, '--threads', '1', ...this.#numerics, '--served-model-name', 'tiny'];
    const process = this.spawn(id, 'router', [...flags, '--kv-memory', '64MiB', ...args]);
    const { address } = await process.listening;
    const app = { id, address };
    await eventually(async () => (await this.info(app)).ready, `router ${id} to be ready`);
    return { process, app };
  }

  async ready(app: RouterApp | undefined = this.routers[0]): Promise<void> {
    await eventually(() => {
      for (const [id, { child, output }] of this.processes) {
        if (child.exitCode !== null) throw fail('internal', `${id} ended: ${output}`);
      }
      return app?.readiness().ready;
    }, `router ${app?.id} to be ready`);
  }

  client(app: Pick<RouterApp, 'address'> | undefined = this.routers[0]): router.RouterClient {
    if (app === undefined) throw fail('internal', 'there is no router');
    const known = this.#clients.get(app.address);
    if (known !== undefined) return known;
    const options = channelOptions({ maxMessageBytes: 16 << 20 });
    const client = new router.RouterClient(app.address, channelCredentials(SECURITY), options);
    this.#clients.set(app.address, client);
    return client;
  }

  /** Sends a request and gathers its events. */
  call(given: RigRequest = {}, app?: Pick<RouterApp, 'address'>): Call {
    return gather(this.client(app).generate(requestOf(given), authMetadata(SECURITY)));
  }

  /** A call that reads no further than its first event until its stream is resumed, over a connection of its own. */
  slowCall(given: RigRequest): Call & { close: () => void } {
    const client = new router.RouterClient(this.routers[0]?.address ?? '', channelCredentials(SECURITY), {
      'grpc.use_local_subchannel_pool': 1,
    });
    const call = gather(client.generate(requestOf(given), authMetadata(SECURITY)));
    // grpc-js holds the transport back only once a first message was taken.
    call.stream.once('data', () => call.stream.pause());
    return { ...call, close: () => client.close() };
  }

  /** Sends bytes as the request of a Generate call; returns the error it ends with, if any. */
  async rawCall(bytes: Buffer): Promise<GuildhallError | null> {
    const same = (buffer: Buffer): Buffer => buffer;
    const { path } = router.RouterService.generate;
    const stream = this.client().makeServerStreamRequest(path, same, same, bytes, authMetadata(SECURITY));
    return await new Promise((resolve) => {
      stream.on('data', () => undefined);
      stream.on('error', (err) => resolve(fromGrpc(err)));
      stream.on('end', () => resolve(null));
    });
  }

  /** A finished answer; throws what the call failed with. */
  async generate(given: RigRequest = {}, app?: RouterApp): Promise<Generated> {
    const result = await this.call(given, app).done;
    if (result.error !== null) throw result.error;
    return result;
  }

  /** Value of one of a router's metrics, summed over its labels. */
  async metric(name: string, app: RouterApp | undefined = this.routers[0]): Promise<number> {
    const text = await (await fetch(`http://${app?.admin}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(name) && '{ '.includes(line[name.length] ?? 'x'));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  async info(app?: Pick<RouterApp, 'address'>): Promise<router.RouterInfo> {
    return await new Promise((resolve, reject) => {
      this.client(app).getInfo({}, (err, info) => (err === null ? resolve(info) : reject(fromGrpc(err))));
    });
  }

  /** Waits until the router holds nothing: no sequence, no page. */
  async idle(app?: RouterApp): Promise<void> {
    await eventually(async () => {
      const { running, waiting, pagesFree, pagesTotal } = await this.info(app);
      return running === 0 && waiting === 0 && pagesFree === pagesTotal;
    }, 'everything to be freed');
  }
}

function gather(stream: ClientReadableStream<router.GenerateEvent>): Call {
  const result: Generated = { started: null, tokens: [], prompt: [], finished: null, moved: null, error: null };
  const done = new Promise<Generated>((resolve) => {
    stream.on('data', ({ event }: router.GenerateEvent) => take(result, event));
    stream.on('error', (err) => {
      result.error = fromGrpc(err);
      resolve(result);
    });
    stream.on('end', () => resolve(result));
  });
  return { stream, result, done };
}

function take(result: Generated, event: router.GenerateEvent['event']): void {
  if (event?.$case === 'started') result.started = event.value;
  else if (event?.$case === 'token') result.tokens.push(event.value);
  else if (event?.$case === 'promptLogprobs') result.prompt.push(...event.value.tokens);
  else if (event?.$case === 'finished') result.finished = event.value;
  else if (event?.$case === 'moved') result.moved = event.value;
}

/** Ids and log-probabilities, to compare answers bit for bit. */
export function bitsOf({ tokens }: Generated): [number, number][] {
  return tokens.map(({ id, logprob }) => [id, logprob]);
}

/** Everything that is told of tokens but the time that they took. */
export function saidOf(tokens: readonly router.TokenEvent[]): Omit<router.TokenEvent, 'expertMs'>[] {
  return tokens.map(({ index, id, logprob, top }) => ({ index, id, logprob, top }));
}
