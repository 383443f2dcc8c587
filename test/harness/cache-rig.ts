import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@guildhall/common';
import { RedisServer, silentLogger } from '@guildhall/common/testing';
import { loadRouterConfig, type RouterApp, startRouter } from '@guildhall/router';
import { RouterClient } from './router-client.ts';
import { readSamples, type Sample } from './samples.ts';
import { until } from './wait.ts';

/** After that a page still in use counts as leaked. */
const LEAK_LIMIT_MS = 30_000;

/** Where the cache of a router under test keeps things; small, so that everything is evicted at times. */
export interface CacheShape {
  /** KV pages of 64 tokens. */
  numPages: number;
  /** Sequences at a time. */
  maxRunning?: number;
  chunkTokens?: number;
  /** Further flags. */
  args?: readonly string[];
}

/** A router in the test's process, with its experts. */
export interface RigRouter {
  app: RouterApp;
  client: RouterClient;
  /** Metrics now. */
  samples(): Promise<Sample[]>;
  /** Resolves when no sequence holds a page; fails when one still does some seconds after the last has ended. */
  idle(): Promise<void>;
  stop(): Promise<void>;
}

/** Routers of one cluster in the test's process: one Redis, real native models, real gRPC. */
export class CacheRig {
  readonly redis: RedisServer;
  /** Folder that ends with the rig. */
  readonly dir = mkdtempSync(join(tmpdir(), 'guildhall-cache-'));
  /** Rejects with what ended a router: accounts that do not add up among it. */
  readonly failed: Promise<never>;
  #fail: (err: unknown) => void = () => undefined;
  #fatal: unknown = null;
  readonly #routers = new Set<RigRouter>();
  #started = 0;

  private constructor(redis: RedisServer) {
    this.redis = redis;
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => undefined);
  }

  static async start(): Promise<CacheRig> {
    return new CacheRig(await RedisServer.start());
  }

  /** Starts a router; resolves when it takes requests. */
  async router(model: string, shape: CacheShape): Promise<RigRouter> {
    this.#started += 1;
    const { numPages, maxRunning = 8, chunkTokens = 256, args = [] } = shape;
    const fixed = ['--weights', 'f32', '--threads', '1', '--experts', 'local', '--served-model-name', 'tiny'];
    const place = ['--redis', this.redis.url, '--id', `router-${this.#started}`];
    const sizes = ['--num-pages', numPages, '--max-running', maxRunning, '--chunk-tokens', chunkTokens].map(String);
    const config = loadRouterConfig(['--model', model, ...fixed, ...place, ...sizes, ...args], {});
    const app = await startRouter(config, {
      logger: silentLogger(),
      clock: systemClock,
      signal: new AbortController().signal,
      onFatal: (err) => {
        this.#fatal ??= err;
        this.#fail(err);
      },
    });
    const rigged = this.#wrap(app);
    this.#routers.add(rigged);
    await until('the router to be ready', () => app.readiness().ready);
    return rigged;
  }

  #wrap(app: RouterApp): RigRouter {
    const client = new RouterClient(app.address, null);
    const samples = async (): Promise<Sample[]> =>
      readSamples(await (await fetch(`http://${app.admin}/metrics`)).text());
    const rigged: RigRouter = {
      app,
      client,
      samples,
      idle: async () => {
        const free = async (): Promise<boolean> => {
          const { running, waiting, pagesFree, pagesTotal } = await client.info();
          // What only the cache holds counts as free.
          return running + waiting === 0 && pagesFree === pagesTotal;
        };
        await until('no sequence to be there and no page to be held by one', free, LEAK_LIMIT_MS);
        this.check();
      },
      stop: async () => {
        this.#routers.delete(rigged);
        client.close();
        await app.stop();
        this.check();
      },
    };
    return rigged;
  }

  /** Throws what ended a router. */
  check(): void {
    if (this.#fatal !== null) throw this.#fatal;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#routers].map((router) => router.stop()));
    await this.redis.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
