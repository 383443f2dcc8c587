import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { after, before, test } from 'node:test';
import {
  connectRedis,
  createMetrics,
  type EntryTier,
  isGuildhallError,
  PageDirectory,
  type PageName,
  redisKeys,
  systemClock,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { DirectoryPublisher } from '@guildhall/router';
import { TcpFront } from '../fakes/tcp-front.ts';

const LEASE_MS = 2000;
const KEYS = redisKeys('faults');
const LOOKUP = { stateless: true, timeoutMs: 300 };
/** Prompts that the routers compete for. */
const PROMPTS = Array.from({ length: 6 }, (_, seed) =>
  Array.from({ length: 40 }, (__, i) => hash('sha256', `${seed}/${i}`, 'binary').slice(0, 16) as PageName),
);

let server: RedisServer;
let front: TcpFront;

before(async () => {
  server = await RedisServer.start();
  front = await TcpFront.start(server.port);
});

after(async () => {
  front.kill();
  await server.stop();
});

function connect(url: string): { directory: PageDirectory; disconnect: () => void } {
  const redis = connectRedis(url, { logger: silentLogger(), clock: systemClock });
  const directory = new PageDirectory({ redis, keys: KEYS, clock: systemClock, leaseMs: LEASE_MS });
  return { directory, disconnect: () => redis.disconnect() };
}

/** A router whose tiers hold prefixes of some prompts, and change all the time. */
class ChurningRouter {
  readonly publisher: DirectoryPublisher;
  readonly faults: string[] = [];
  /** Pages of each prompt, and the tier that has them. */
  readonly has = PROMPTS.map(() => ({ pages: 0, tier: 'device' as EntryTier }));
  readonly #disconnect: () => void;

  constructor(router: string, incarnation: bigint) {
    const { directory, disconnect } = connect(`redis://${front.address}`);
    this.#disconnect = disconnect;
    this.publisher = new DirectoryPublisher({
      directory,
      router,
      incarnation,
      clock: systemClock,
      logger: silentLogger(),
      metrics: createMetrics('router'),
      entries: () =>
        this.has.flatMap(({ pages, tier }, p) =>
          (PROMPTS[p] ?? []).slice(0, pages).map((name) => ({ kind: 'page' as const, name, size: 1, value: 1, tier })),
        ),
      onReplaced: (err) => this.faults.push(String(err)),
      onFault: () => undefined,
      flushMs: 5,
      spacingMs: 10,
      renewMs: 200,
    });
    this.publisher.start();
  }

  /** A prompt grows, shrinks or moves to another tier. */
  churn(random: number): void {
    const p = Math.floor(random * PROMPTS.length);
    const held = this.has[p] as (typeof this.has)[number];
    const names = PROMPTS[p] ?? [];
    const pages = Math.floor(random * 7919) % (names.length + 1);
    const tier = (['device', 'host', 'disk'] as const)[Math.floor(random * 104_729) % 3] ?? 'device';
    for (const name of names.slice(0, held.pages)) this.publisher.removed(held.tier, 'page', name);
    for (const name of names.slice(0, pages)) this.publisher.added(tier, { kind: 'page', name, size: 1, value: 1 });
    Object.assign(held, { pages, tier });
  }

  async close(): Promise<void> {
    await this.publisher.close();
    this.#disconnect();
  }
}

/** Looks up, leases and releases until stopped; anything but `redis_unavailable` is noted. */
class Looker {
  readonly strange: unknown[] = [];
  answers = 0;
  #stopped = false;
  readonly #done: Promise<void>;
  readonly #disconnect: () => void;

  constructor() {
    const { directory, disconnect } = connect(`redis://${front.address}`);
    this.#disconnect = disconnect;
    this.#done = this.#run(directory);
  }

  async #run(directory: PageDirectory): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      try {
        await this.#look(directory, PROMPTS[i % PROMPTS.length] ?? []);
      } catch (err) {
        if (!isGuildhallError(err) || err.code !== 'redis_unavailable') this.strange.push(err);
      }
      await systemClock.sleep(2);
    }
  }

  async #look(directory: PageDirectory, names: PageName[]): Promise<void> {
    for (const { router, pages, resumePages } of await directory.lookup(names, LOOKUP)) {
      this.answers += 1;
      if (pages < 1 || pages > names.length || resumePages !== pages) this.strange.push({ router, pages });
      const wanted = names.slice(0, pages).map((name) => ({ kind: 'page' as const, name }));
      await directory.release(await directory.lease(router, wanted, 200));
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
    this.#disconnect();
  }
}

/** Repeatable numbers in [0, 1). */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ; state = (state * 16_807) % 2_147_483_647) yield state / 2_147_483_647;
}

async function churnFor(routers: readonly ChurningRouter[], ms: number, random: Iterator<number>): Promise<void> {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) {
    for (const router of routers) router.churn(random.next().value as number);
    await systemClock.sleep(3);
  }
}

/** The directory says of every prompt what the routers have. */
async function converged(reader: PageDirectory, routers: ReadonlyMap<string, ChurningRouter>): Promise<boolean> {
  try {
    for (const [p, names] of PROMPTS.entries()) {
      const found = await reader.lookup(names, LOOKUP);
      const expected = [...routers]
        .map(([router, { has }]) => ({ router, ...(has[p] as { pages: number; tier: EntryTier }) }))
        .filter(({ pages }) => pages > 0);
      const seen = found.map(({ router, pages, tier }) => ({ router, pages, tier }));
      if (JSON.stringify(seen) !== JSON.stringify(expected)) return false;
    }
    return true;
  } catch {
    return false;
  }
}

const FAULTS: [string, (random: Iterator<number>, routers: ChurningRouter[]) => Promise<void>][] = [
  [
    'killed and restarted empty',
    async (random, routers) => {
      await server.kill();
      await churnFor(routers, 1200, random);
      await server.restart();
    },
  ],
  [
    'stopped for longer than leases last',
    async (random, routers) => {
      server.pause();
      await churnFor(routers, LEASE_MS * 1.5, random);
      server.resume();
    },
  ],
  [
    'paused by CLIENT PAUSE',
    async (random, routers) => {
      const admin = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
      await eventually(() => admin.status === 'ready', 'connection');
      await admin.call('CLIENT', 'PAUSE', '1500', 'ALL');
      await churnFor(routers, 1500, random);
      admin.disconnect();
    },
  ],
  [
    'slow',
    async (random, routers) => {
      front.delayMs = 120;
      await churnFor(routers, 2000, random);
      front.delayMs = 0;
    },
  ],
  [
    'cut off again and again',
    async (random, routers) => {
      for (let i = 0; i < 10; i++) {
        front.cut();
        await churnFor(routers, 80, random);
      }
    },
  ],
  [
    'its data deleted',
    async (random, routers) => {
      const admin = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
      await eventually(() => admin.status === 'ready', 'connection');
      for (let i = 0; i < 5; i++) {
        await admin.flushall();
        await churnFor(routers, 100, random);
      }
      admin.disconnect();
    },
  ],
];

for (const [i, [what, fault]] of FAULTS.entries()) {
  test(`Redis ${what} under routers and lookers: nothing throws and the directory comes right again`, async () => {
    const random = numbers(4711 + i);
    const routers = new Map([
      ['a', new ChurningRouter('a', BigInt(2 * i + 1))],
      ['b', new ChurningRouter('b', BigInt(2 * i + 2))],
    ]);
    const lookers = [new Looker(), new Looker()];
    const reader = connect(server.url);
    try {
      await churnFor([...routers.values()], 300, random);
      await fault(random, [...routers.values()]);
      await churnFor([...routers.values()], 200, random);
      await eventually(() => converged(reader.directory, routers), 'the directory');
      for (const looker of lookers) {
        const before = looker.answers;
        await eventually(() => looker.answers > before, 'lookers that find something');
      }
    } finally {
      for (const looker of lookers) await looker.stop();
      for (const router of routers.values()) await router.close();
      reader.disconnect();
    }
    assert.deepEqual(
      lookers.flatMap(({ strange }) => strange),
      [],
    );
    assert.deepEqual(
      [...routers.values()].flatMap(({ faults }) => faults),
      [],
    );
  });
}

test('a router that was stopped while another took its place changes nothing when it returns', async () => {
  const random = numbers(99);
  const old = new ChurningRouter('a', 101n);
  const reader = connect(server.url);
  try {
    await churnFor([old], 200, random);
    await eventually(() => converged(reader.directory, new Map([['a', old]])), 'the old pages');
    const heir = new ChurningRouter('a', 102n);
    try {
      await churnFor([heir, old], 400, random);
      await eventually(() => old.faults.length === 1, 'the loss');
      await churnFor([heir, old], 200, random);
      await eventually(() => converged(reader.directory, new Map([['a', heir]])), 'the heir’s pages');
      assert.deepEqual(heir.faults, []);
    } finally {
      await heir.close();
    }
  } finally {
    await old.close();
    reader.disconnect();
  }
});
