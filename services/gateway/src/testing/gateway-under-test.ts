import { fileURLToPath } from 'node:url';
import {
  Accounts,
  Cluster,
  type ClusterOptions,
  type ClusterRecord,
  createMetrics,
  type MemberLease,
  type Metrics,
  NO_TRACING,
  openTracing,
  systemClock,
  type Tracing,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import OpenAI from 'openai';
import { FakeDirectory } from '../../../../test/fakes/fake-directory.ts';
import { FakeRouter, type FakeRouterOptions } from '../../../../test/fakes/fake-router.ts';
import { buildApp } from '../app.ts';
import { type Assets, loadAssets } from '../assets.ts';
import { type GatewayConfig, gatewaySchema } from '../config.ts';
import type { GatewayContext } from '../context.ts';
import type { GatewayApp } from '../routes/types.ts';
import { closeApp, createContext, listen, routerConnector } from '../start.ts';

/** Directory of the checkpoint that ships. */
export const TINY_DIR = fileURLToPath(new URL('../../../../models/tiny', import.meta.url));

let assets: Assets | null = null;

/** Tokenizer and template of the checkpoint that ships, loaded once. */
export function tinyAssets(): Assets {
  return (assets ??= loadAssets(TINY_DIR));
}

/** Token ids of a text. */
export async function tokensOf(text: string): Promise<number[]> {
  return [...(await tinyAssets().tokenizer.encode(text))];
}

/** A gateway with everything real but the routers: HTTP on a free port, Redis, gRPC. */
export class GatewayUnderTest {
  readonly redis: RedisServer;
  readonly routers: FakeRouter[] = [];
  readonly leases = new Map<FakeRouter, MemberLease>();
  readonly metrics: Metrics = createMetrics('gateway');
  readonly directory = new FakeDirectory();
  url = '';
  tracing: Tracing = NO_TRACING;
  #cluster: Cluster | null = null;
  #accounts: Accounts | null = null;
  #fakes: Cluster | null = null;
  #context: GatewayContext | null = null;
  #app: GatewayApp | null = null;

  /** Id of the gateway. */
  readonly id: string;
  readonly #shared: boolean;

  private constructor(redis: RedisServer, id: string, shared: boolean) {
    this.redis = redis;
    this.id = id;
    this.#shared = shared;
  }

  /** Starts Redis, the routers and the gateway, and waits until the gateway knows the routers. */
  static async start(config: Partial<GatewayConfig>, ...routers: FakeRouterOptions[]): Promise<GatewayUnderTest> {
    const test = new GatewayUnderTest(await RedisServer.start(), 'gateway-1', false);
    try {
      await test.#begin(config, routers);
    } catch (err) {
      // Servers that are left would keep the test's process from ending.
      await test.stop();
      throw err;
    }
    return test;
  }

  async #begin(config: Partial<GatewayConfig>, routers: readonly FakeRouterOptions[]): Promise<void> {
    this.#fakes = new Cluster(this.#clusterOptions);
    for (const router of routers) await this.addRouter(router);
    await this.#open(config);
    await eventually(() => this.context.pool.usable.length === routers.length, 'the gateway knows the routers');
    if (routers.length > 0)
      await eventually(() => this.context.pool.maxContext !== null, 'the routers have told their limits');
  }

  /** Starts another gateway in this one's cluster, and waits until it knows as many routers. Stop it first. */
  async another(id: string, config: Partial<GatewayConfig> = {}): Promise<GatewayUnderTest> {
    const test = new GatewayUnderTest(this.redis, id, true);
    await test.#open(config);
    const { usable } = this.context.pool;
    await eventually(() => test.context.pool.usable.length === usable.length, 'the gateway knows the routers');
    return test;
  }

  get #clusterOptions(): ClusterOptions {
    return { redis: this.redis.url, cluster: 'test', clock: systemClock, logger: silentLogger() };
  }

  async #open(config: Partial<GatewayConfig>): Promise<void> {
    const cluster = new Cluster(this.#clusterOptions);
    this.#cluster = cluster;
    await cluster.members.start();
    const parsed = gatewaySchema.parse({ model: TINY_DIR, listen: '127.0.0.1:0', resumeTimeoutMs: 10_000, ...config });
    const { metrics, id } = this;
    const logger = silentLogger();
    const accounts = new Accounts({
      redis: this.redis.url,
      name: parsed.accounts ?? 'test',
      clock: systemClock,
      logger,
    });
    this.#accounts = accounts;
    await eventually(() => accounts.redis.status === 'ready', 'the connection for keys');
    const parts = { config: parsed, service: 'gateway', id, env: {}, clock: systemClock, logger, metrics };
    this.tracing = await openTracing(parts);
    this.#context = createContext(parsed, {
      assets: tinyAssets(),
      members: cluster.members,
      directory: this.directory,
      responses: cluster.responses,
      accounts,
      guard: { source: this.id, shared: cluster.quarantine, log: cluster.eventLog },
      clock: systemClock,
      logger,
      metrics,
      tracing: this.tracing,
    });
    await this.context.guard.quarantine.start();
    await this.context.limits.start();
    this.#app = await buildApp(this.context);
    this.context.background.start();
    this.url = `http://${await listen(this.#app, parsed.listen)}`;
  }

  /** What the gateway has put into the cluster's event log, oldest first. */
  async events(): Promise<ClusterRecord[]> {
    await this.#cluster?.eventLog.flushed();
    return (await this.#cluster?.eventLog.read()) ?? [];
  }

  /** Keys, quotas and usage, as `guildhall keys` reaches them. */
  get accounts(): Accounts {
    if (this.#accounts === null) throw new TypeError('not started');
    return this.#accounts;
  }

  get context(): GatewayContext {
    if (this.#context === null) throw new TypeError('not started');
    return this.#context;
  }

  get app(): GatewayApp {
    if (this.#app === null) throw new TypeError('not started');
    return this.#app;
  }

  /** The first router. */
  get router(): FakeRouter {
    const router = this.routers[0];
    if (router === undefined) throw new TypeError('no router');
    return router;
  }

  /** Adds a router to the cluster. */
  async addRouter(options: FakeRouterOptions): Promise<FakeRouter> {
    const router = await FakeRouter.start({ id: `router-${this.routers.length + 1}`, ...options });
    this.routers.push(router);
    await this.join(router);
    return router;
  }

  async join(router: FakeRouter): Promise<void> {
    const value = (): Uint8Array => control.Member.encode(router.member()).finish();
    const { id, incarnation } = router;
    const lease = this.#fakes?.lease({ kind: 'router', id, incarnation, value, onLost: () => undefined, renewMs: 500 });
    if (lease === undefined) throw new TypeError('not started');
    this.leases.set(router, lease);
    await lease.join();
  }

  /** A client of one router, as the gateway has it. */
  connect(address: string): ReturnType<ReturnType<typeof routerConnector>> {
    return routerConnector(this.context.config)(address);
  }

  /** The official client, without retries of its own. */
  client(apiKey = 'none'): OpenAI {
    return new OpenAI({ apiKey, baseURL: `${this.url}/v1`, maxRetries: 0 });
  }

  /** A plain request; the body is sent as it is when it is text. */
  async fetch(path: string, body?: unknown, init: RequestInit = {}): Promise<Response> {
    const payload =
      body === undefined ? {} : { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) };
    const headers = {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(init.headers as Record<string, string>),
    };
    return fetch(`${this.url}${path}`, { ...payload, ...init, headers });
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    if (this.#app !== null && this.#context !== null) await closeApp(this.#app, this.#context);
    await this.#context?.background.stop();
    this.#context?.pool.close();
    await this.#context?.guard.quarantine.stop();
    await this.#context?.limits.stop();
    this.#accounts?.close();
    await this.#fakes?.close();
    await this.#cluster?.close();
    for (const router of this.routers) await router.stop();
    await this.tracing.shutDown();
    if (!this.#shared) await this.redis.stop();
  }
}
