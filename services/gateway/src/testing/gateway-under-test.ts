import { fileURLToPath } from 'node:url';
import { Cluster, createMetrics, type MemberLease, type Metrics, systemClock } from '@guildhall/common';
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
  #cluster: Cluster | null = null;
  #fakes: Cluster | null = null;
  #context: GatewayContext | null = null;
  #app: GatewayApp | null = null;

  private constructor(redis: RedisServer) {
    this.redis = redis;
  }

  /** Starts Redis, the routers and the gateway, and waits until the gateway knows the routers. */
  static async start(config: Partial<GatewayConfig>, ...routers: FakeRouterOptions[]): Promise<GatewayUnderTest> {
    const test = new GatewayUnderTest(await RedisServer.start());
    const options = { redis: test.redis.url, cluster: 'test', clock: systemClock, logger: silentLogger() };
    test.#fakes = new Cluster(options);
    for (const router of routers) await test.addRouter(router);
    test.#cluster = new Cluster(options);
    await test.#cluster.members.start();
    const parsed = gatewaySchema.parse({ model: TINY_DIR, listen: '127.0.0.1:0', resumeTimeoutMs: 10_000, ...config });
    const parts = {
      assets: tinyAssets(),
      members: test.#cluster.members,
      directory: test.directory,
      clock: systemClock,
      logger: silentLogger(),
      metrics: test.metrics,
    };
    test.#context = createContext(parsed, parts);
    test.#app = await buildApp(test.#context);
    test.url = `http://${await listen(test.#app, parsed.listen)}`;
    await eventually(() => test.context.pool.usable.length === routers.length, 'the gateway knows the routers');
    if (routers.length > 0)
      await eventually(() => test.context.pool.maxContext !== null, 'the routers have told their limits');
    return test;
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
    this.#context?.pool.close();
    await this.#fakes?.close();
    await this.#cluster?.close();
    for (const router of this.routers) await router.stop();
    await this.redis.stop();
  }
}
