import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { redisKeys } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { Redis } from 'ioredis';
import { GatewayUnderTest, tokensOf } from '../../services/gateway/src/testing/gateway-under-test.ts';
import { ServiceProcess, TINY } from '../harness/service-process.ts';
import { MODEL, REAL_MODEL } from './samples.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What the scripted router answers with, in turn. */
const ANSWERS = [
  'Thinking</think>Fine, {"a": 1}',
  'I call.</think><tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>',
  '</think><tool_call>\n<function=f>\n<parameter=a>\n{"b": [1',
  'Still thinking 👩‍👩‍👧‍👦 é東京',
  '</think>',
  'x</think><tool_call>{"name": "f", "arguments": {}}</tool_call></think><think>',
];
const CLUSTER = 'test';
const TOKEN = 'fuzz-cluster-token';
const keys = redisKeys(CLUSTER);

/** What is there when no request is. */
export interface Rest {
  heap: number;
  /** Of the whole process, and of the router's. */
  rss: number;
  routerRss: number;
  sockets: number;
  timers: number;
  /** Keys in Redis by their family. */
  redisKeys: ReadonlyMap<string, number>;
}

/**
 * A gateway with real Redis, a batch service and two routers: a scripted one for most requests, and a real one that compiles what answers
 * must match and computes them.
 */
export class FuzzedWorld {
  readonly gateway: GatewayUnderTest;
  readonly #processes: ServiceProcess[];
  readonly #dir: string;
  readonly #redis: Redis;

  private constructor(gateway: GatewayUnderTest, processes: ServiceProcess[], dir: string) {
    this.gateway = gateway;
    this.#processes = processes;
    this.#dir = dir;
    this.#redis = new Redis(gateway.redis.url);
  }

  static async start(): Promise<FuzzedWorld> {
    const answers = await Promise.all(ANSWERS.map(tokensOf));
    let turn = 0;
    const script = () => ({ tokens: answers[turn++ % answers.length] ?? [] });
    const gateway = await GatewayUnderTest.start(
      { clusterToken: TOKEN },
      { script, servedModels: [MODEL], clusterToken: TOKEN },
    );
    const dir = mkdtempSync(join(tmpdir(), 'guildhall-fuzz-'));
    const env = {
      GUILDHALL_REDIS: gateway.redis.url,
      GUILDHALL_CLUSTER: CLUSTER,
      GUILDHALL_CLUSTER_TOKEN: TOKEN,
    };
    const spawn = (service: string, args: string[]): ServiceProcess =>
      new ServiceProcess({ service, args: ['--id', `${service}-real`, ...args], env });
    const model = ['--model', TINY, '--served-model-name', REAL_MODEL, '--experts', 'local', '--threads', '1'];
    const processes = [
      spawn('router', [...model, '--weights', 'bf16', '--max-context', '2048']),
      spawn('batch', ['--data-dir', dir, '--gateway-url', gateway.url]),
    ];
    const world = new FuzzedWorld(gateway, processes, dir);
    try {
      await world.#ready();
    } catch (err) {
      await world.stop();
      throw err;
    }
    return world;
  }

  async #ready(): Promise<void> {
    const { pool } = this.gateway.context;
    await Promise.all(this.#processes.map((process) => process.listening()));
    await eventually(() => pool.servedModels.includes(REAL_MODEL), 'the gateway to know the real router', 120_000);
    await eventually(async () => (await this.gateway.fetch('/v1/files')).ok, 'the gateway to know the batch service');
  }

  async stop(): Promise<void> {
    this.#redis.disconnect();
    await Promise.all(this.#processes.map((process) => process.stop()));
    await this.gateway.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Services that have ended, with what they wrote last. */
  get ended(): string[] {
    const ended = this.#processes.filter((process) => !process.running);
    return ended.map(({ spec, output }) => `${spec.service} has ended:\n${output.slice(-3000)}`);
  }

  /** Waits until nothing runs, removes everything that requests have made, and looks what is left. */
  async rest(): Promise<Rest> {
    const { context, app, router } = this.gateway;
    await eventually(() => context.inFlight.size === 0, 'everything in flight to end');
    await eventually(async () => (await this.#redis.zcard(keys.responsesRunning)) === 0, 'background responses to end');
    await eventually(async () => (await this.#redis.scard(keys.batchesRunning)) === 0, 'batches to end', 300_000);
    await this.#removeAll();
    await eventually(() => {
      app.server.closeIdleConnections();
      return new Promise<boolean>((done) => app.server.getConnections((_, count) => done(count === 0)));
    }, 'every connection to be closed');
    // The recording router keeps every call.
    router.calls.length = 0;
    return this.#look();
  }

  async #look(): Promise<Rest> {
    for (let i = 0; i < 4; i++) {
      collectGarbage();
      await new Promise((resolve) => setImmediate(resolve));
    }
    const resources = process.getActiveResourcesInfo();
    const { heapUsed, rss } = process.memoryUsage();
    return {
      heap: heapUsed,
      rss,
      routerRss: residentBytes(this.#processes[0]?.pid ?? 0),
      sockets: resources.filter((name) => name === 'TCPSocketWrap').length,
      timers: resources.filter((name) => name === 'Timeout').length,
      redisKeys: await this.#families(),
    };
  }

  async #removeAll(): Promise<void> {
    const stored = await this.#redis.zrange(keys.responsesOf(''), 0, '-1');
    const paths = stored.map((entry) => `/v1/responses/${entry.split(':')[0] ?? ''}`);
    const list = (await (await this.gateway.fetch('/v1/files')).json()) as { data: { id: string }[] };
    paths.push(...list.data.map(({ id }) => `/v1/files/${id}`));
    for (const id of await this.#redis.zrange(keys.uploadsOf(''), 0, '-1'))
      await (await this.gateway.fetch(`/v1/uploads/${id}/cancel`, undefined, { method: 'POST' })).arrayBuffer();
    for (const path of paths) await (await this.gateway.fetch(path, undefined, { method: 'DELETE' })).arrayBuffer();
  }

  async #families(): Promise<Map<string, number>> {
    const families = new Map<string, number>();
    for await (const found of this.#redis.scanStream({ count: 1000 })) {
      for (const key of found as string[]) {
        const family = key.replace(/^(\w+:\{\w+\}:[^:]*).*$/s, '$1');
        families.set(family, (families.get(family) ?? 0) + 1);
      }
    }
    return families;
  }
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}
