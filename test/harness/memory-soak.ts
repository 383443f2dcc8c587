import assert from 'node:assert/strict';
import { authMetadata, channelCredentials, channelOptions, fromGrpc, type GuildhallError } from '@guildhall/common';
import { RedisServer } from '@guildhall/common/testing';
import { router } from '@guildhall/proto';
import { ServiceProcess, TINY } from './service-process.ts';
import { until } from './wait.ts';

export interface SoakOptions {
  /** Time for which new requests are made, seconds. */
  seconds: number;
  seed: number;
  routerArgs: string[];
}

export interface SoakReport {
  answers: number;
  tokens: number;
  cancelled: number;
  swaps: number;
  recomputes: number;
  lost: number;
}

const SECURITY = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };
/** Requests at a time. They need some 150 pages. */
const STREAMS = 24;
/** One of them needs up to 13. */
const NUM_PAGES = 15;
const KINDS = 8;
const TENANTS = ['amber', 'beryl', 'coral', 'dusk'];

/** Numbers in [0, 1), the same for the same seed. */
function randomOf(seed: number): () => number {
  let x = seed >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}

interface Kind {
  promptIds: number[];
  maxTokens: number;
  expected: number[];
}

interface Stream {
  ids: number[];
  done: Promise<GuildhallError | null>;
  cancel: () => void;
  pause: (ms: number) => void;
}

/** One router process with a pool ten times too small, under many streams. */
class Soak {
  readonly #random: () => number;
  readonly #client: router.RouterClient;
  readonly report: SoakReport = { answers: 0, tokens: 0, cancelled: 0, swaps: 0, recomputes: 0, lost: 0 };
  #serial = 0;

  constructor(client: router.RouterClient, seed: number) {
    this.#client = client;
    this.#random = randomOf(seed);
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** Requests whose prompts share beginnings; each is answered alone first. */
  async kinds(): Promise<Kind[]> {
    const common = Array.from({ length: 300 }, (_, i) => 10 + ((i * 7919) % 2900));
    const kinds: Kind[] = [];
    for (let i = 0; i < KINDS; i++) {
      const own = Array.from({ length: 20 + this.below(320) }, () => 10 + this.below(2900));
      const promptIds = [...common.slice(0, this.below(2) * (64 + this.below(236))), ...own];
      const kind = { promptIds, maxTokens: 40 + this.below(120), expected: [] as number[] };
      const stream = this.#start(kind, 'alone', 0);
      assert.equal(await stream.done, null);
      kind.expected = stream.ids;
      kinds.push(kind);
    }
    return kinds;
  }

  /** Makes one request after the other until `endMs`. */
  async user(kinds: readonly Kind[], endMs: number): Promise<void> {
    while (Date.now() < endMs) {
      const kind = kinds[this.below(kinds.length)] as Kind;
      const stream = this.#start(kind, TENANTS[this.below(TENANTS.length)] as string, this.below(3) - 1);
      const fate = this.below(10);
      const timer = setTimeout(() => (fate === 0 ? stream.cancel() : stream.pause(500)), this.below(1500));
      if (fate > 1) clearTimeout(timer);
      const error = await stream.done;
      clearTimeout(timer);
      if (error?.code === 'cancelled' && fate === 0) {
        this.report.cancelled += 1;
        assert.deepEqual(stream.ids, kind.expected.slice(0, stream.ids.length));
        continue;
      }
      assert.equal(error, null);
      assert.deepEqual(stream.ids, kind.expected, 'an answer differs from the one that was given alone');
      this.report.answers += 1;
      this.report.tokens += stream.ids.length;
    }
  }

  #start({ promptIds, maxTokens }: Kind, tenant: string, priority: number): Stream {
    this.#serial += 1;
    const request = router.GenerateRequest.fromPartial({
      requestId: `soak-${this.#serial}`,
      model: 'tiny',
      promptIds,
      tenant,
      priority,
      sampling: { temperature: 1, topP: 1, repetitionPenalty: 1, seed: BigInt(promptIds.length), logitBias: new Map() },
      stop: { maxTokens, ignoreEos: true },
    });
    const call = this.#client.generate(request, authMetadata(SECURITY));
    const ids: number[] = [];
    const done = new Promise<GuildhallError | null>((resolve) => {
      call.on('data', ({ event }: router.GenerateEvent) => {
        if (event?.$case === 'token') ids.push(event.value.id);
      });
      call.on('error', (err) => resolve(fromGrpc(err)));
      call.on('end', () => resolve(null));
    });
    const pause = (ms: number): void => {
      call.pause();
      setTimeout(() => call.resume(), ms);
    };
    return { ids, done, cancel: () => call.cancel(), pause };
  }
}

/** Sum of a metric over labels that contain `labels`. */
async function metric(admin: string, name: string, labels = ''): Promise<number> {
  const text = await (await fetch(`http://${admin}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(name) && '{ '.includes(line[name.length] ?? 'x'));
  return lines
    .filter((line) => line.includes(labels))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** Runs the soak and returns what happened; fails when an answer is wrong, somebody starves, or a page is left over. */
export async function soak({ seconds, seed, routerArgs }: SoakOptions): Promise<SoakReport> {
  const redis = await RedisServer.start();
  const args = ['--id', 'router-1', '--redis', redis.url, '--model', TINY, '--served-model-name', 'tiny'];
  const own = ['--experts', 'local', '--threads', '1', '--num-pages', String(NUM_PAGES), '--max-running', '24'];
  const process = new ServiceProcess({ service: 'router', args: [...args, ...own, ...routerArgs], env: {} });
  try {
    const { address, admin } = await process.listening();
    await until('the router to be ready', async () => (await fetch(`http://${admin}/ready`)).ok, 60_000);
    const client = new router.RouterClient(
      address,
      channelCredentials(SECURITY),
      channelOptions({ maxMessageBytes: 1 << 20 }),
    );
    const run = new Soak(client, seed);
    const kinds = await run.kinds();
    const endMs = Date.now() + seconds * 1000;
    await Promise.all(Array.from({ length: STREAMS }, () => run.user(kinds, endMs)));
    await until('everything to be given back', async () => await isIdle(client), 20_000);
    run.report.swaps = await metric(admin, 'guildhall_preemptions_total', 'how="swap"');
    run.report.recomputes = await metric(admin, 'guildhall_preemptions_total', 'how="recompute"');
    run.report.lost = await metric(admin, 'guildhall_swap_lost_total');
    client.close();
    // Accounts are checked whenever the router has nothing to do; one that does not add up ends the process.
    assert.ok(process.running, process.output);
    assert.doesNotMatch(process.output, /"event":"fatal"/);
    return run.report;
  } finally {
    await process.stop();
    await redis.stop();
  }
}

async function isIdle(client: router.RouterClient): Promise<boolean> {
  const info = await new Promise<router.RouterInfo>((resolve, reject) => {
    client.getInfo({}, authMetadata(SECURITY), (err, answer) =>
      err === null ? resolve(answer) : reject(fromGrpc(err)),
    );
  });
  return info.running === 0 && info.waiting === 0 && info.pagesFree === info.pagesTotal;
}
