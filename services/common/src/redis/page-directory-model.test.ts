import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { systemClock } from '../clock.ts';
import type { PageName } from '../kv/page-names.ts';
import { DirectoryModel, type Observed } from '../testing/directory-model.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { connectRedis } from './client.ts';
import type { DirectoryEntry, EntryKey, EntryTier } from './directory-codec.ts';
import { redisKeys } from './keys.ts';
import { type DirectoryOwner, PageDirectory, type PageLease } from './page-directory.ts';

/** Nothing ends by itself during a test. */
const LONG_MS = 600_000;
const NAMES = ['\0', '\xff', 'c', 'd', 'e'].map((byte) => byte.repeat(16) as PageName);
/** Two processes for each of two routers. */
const ROUTERS = ['a', 'a', 'b', 'b'];
let server: RedisServer;
let connections: Redis[];

before(async () => {
  server = await RedisServer.start();
  connections = ROUTERS.map(() => connectRedis(server.url, { logger: silentLogger(), clock: systemClock }));
  for (const redis of connections) await eventually(() => redis.status === 'ready', 'connection');
});

after(async () => {
  for (const redis of connections) redis.disconnect();
  await server.stop();
});

const keyOf = fc.record({ kind: fc.constantFrom('page' as const, 'state' as const), name: fc.constantFrom(...NAMES) });
const keys = fc.uniqueArray(keyOf, { minLength: 1, maxLength: 6, selector: ({ kind, name }) => kind + name });
const tier = fc.constantFrom<EntryTier>('device', 'host', 'disk');
const router = fc.constantFrom('a', 'b');

type Action =
  | { op: 'fence' }
  | { op: 'forget' }
  | { op: 'restart' }
  | { op: 'publish'; entries: (EntryKey & { tier: EntryTier; remove: boolean })[] }
  | { op: 'prompt'; pages: number; tier: EntryTier; states: number[] }
  | { op: 'evict'; entries: EntryKey[] }
  | { op: 'lease'; holder: string; entries: EntryKey[]; brief: boolean }
  | { op: 'release'; pick: number }
  | { op: 'lookup'; pages: number; stateless: boolean }
  | { op: 'expire'; router: string }
  | { op: 'lose' };

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('fence' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('forget' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('restart' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('publish' as const),
      entries: fc.uniqueArray(
        fc.tuple(keyOf, tier, fc.boolean()).map(([key, at, remove]) => ({ ...key, tier: at, remove })),
        { maxLength: 6, selector: ({ kind, name }) => kind + name },
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('prompt' as const),
      pages: fc.integer({ min: 1, max: NAMES.length }),
      tier,
      states: fc.uniqueArray(fc.nat(NAMES.length - 1), { maxLength: 2 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('evict' as const), entries: keys }) },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant('lease' as const), holder: router, entries: keys, brief: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('release' as const), pick: fc.nat(9) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('lookup' as const),
      pages: fc.integer({ min: 1, max: NAMES.length }),
      stateless: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('expire' as const), router }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('lose' as const) }) },
);

/** Actions of different processes at the same time. */
const group = fc.uniqueArray(fc.record({ process: fc.nat(ROUTERS.length - 1), action }), {
  minLength: 1,
  maxLength: 3,
  selector: ({ process }) => process,
});

/** One process of each router has published something, so that the rest has something to work on. */
const BEGIN: { process: number; action: Action }[][] = [0, 2].flatMap((process) => [
  [{ process, action: { op: 'fence' } }],
  [{ process, action: { op: 'prompt', pages: NAMES.length, tier: 'device', states: [1] } }],
]);

let runs = 0;

interface Process {
  router: string;
  incarnation: bigint;
  owner: DirectoryOwner | null;
  born: number;
}

class World {
  readonly #keys = redisKeys(`model-${(runs += 1)}`);
  readonly #directories: PageDirectory[];
  readonly #processes = ROUTERS.map((name, i): Process => ({
    router: name,
    incarnation: BigInt(i + 1),
    owner: null,
    born: 0,
  }));
  readonly #leases: PageLease[] = [];
  #incarnations = BigInt(ROUTERS.length);

  constructor() {
    this.#directories = connections.map(
      (redis) => new PageDirectory({ redis, keys: this.#keys, clock: systemClock, leaseMs: LONG_MS }),
    );
  }

  /** What is done, or null where there is nothing to do. */
  async act(index: number, act: Action): Promise<Observed | null> {
    const process = this.#processes[index] as Process;
    const directory = this.#directories[index] as PageDirectory;
    const redis = connections[index] as Redis;
    switch (act.op) {
      case 'restart':
        Object.assign(process, { incarnation: (this.#incarnations += 1n), owner: null, born: 0 });
        return null;
      case 'fence': {
        const { router: name, incarnation, born } = process;
        const answer = await directory.fence(name, incarnation, born);
        if (answer.status === 'ok') Object.assign(process, { owner: answer.owner, born: answer.owner.born });
        return { op: 'fence', router: name, incarnation, born, answer };
      }
      case 'lease': {
        const { holder, entries, brief } = act;
        const answer = await directory.lease(holder, entries, brief ? 1 : 50_000);
        if (brief) await systemClock.sleep(3);
        else this.#leases.push(answer);
        return { ...act, answer };
      }
      case 'release': {
        const lease = this.#leases[act.pick % Math.max(1, this.#leases.length)];
        return lease === undefined ? null : { op: 'release', lease, answer: await directory.release(lease) };
      }
      case 'lookup': {
        const { pages, stateless } = act;
        const names = NAMES.slice(0, pages);
        return {
          op: 'lookup',
          names,
          stateless,
          answer: await directory.lookup(names, { stateless, timeoutMs: 60_000 }),
        };
      }
      case 'expire':
        await redis.del(this.#keys.pages(act.router));
        return act;
      case 'lose':
        await redis.flushall();
        return act;
      case 'forget':
      case 'publish':
      case 'prompt':
      case 'evict':
        return process.owner === null ? null : await this.#asOwner(directory, process.owner, act);
    }
  }

  async #asOwner(
    directory: PageDirectory,
    owner: DirectoryOwner,
    act: Action & { op: 'forget' | 'publish' | 'prompt' | 'evict' },
  ): Promise<Observed> {
    if (act.op === 'forget') return { op: 'forget', owner, answer: await directory.forget(owner) };
    if (act.op === 'evict') return { ...act, owner, answer: await directory.evict(owner, act.entries) };
    const { added, removed } = act.op === 'publish' ? changesOf(act) : promptOf(act);
    return { op: 'publish', owner, added, removed, answer: await directory.publish(owner, { added, removed }) };
  }
}

function changesOf({ entries }: Action & { op: 'publish' }): { added: DirectoryEntry[]; removed: EntryKey[] } {
  return {
    added: entries.filter(({ remove }) => !remove).map((entry) => ({ ...entry, size: 1, value: 1 })),
    removed: entries.filter(({ remove }) => remove),
  };
}

function promptOf(act: Action & { op: 'prompt' }): { added: DirectoryEntry[]; removed: EntryKey[] } {
  const entry = (kind: 'page' | 'state', name: PageName): DirectoryEntry => ({
    kind,
    name,
    tier: act.tier,
    size: 1,
    value: 1,
  });
  const states = act.states.map((i) => entry('state', NAMES[i] as PageName));
  return { added: [...NAMES.slice(0, act.pages).map((name) => entry('page', name)), ...states], removed: [] };
}

function* orders<T>(items: readonly T[]): Generator<T[]> {
  if (items.length === 0) yield [];
  for (const [i, first] of items.entries()) for (const rest of orders(items.toSpliced(i, 1))) yield [first, ...rest];
}

/** States that the directory may be in after calls at the same time: one for each order that explains all answers. */
function statesAfter(states: readonly DirectoryModel[], calls: readonly Observed[]): DirectoryModel[] {
  const next = new Map<string, DirectoryModel>();
  for (const state of states) {
    for (const order of orders(calls)) {
      const model = state.clone();
      if (order.every((call) => model.accepts(call))) next.set(model.text(), model);
    }
  }
  return [...next.values()];
}

test('whatever several processes do at the same time, the answers are those of the model in some order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(group, { maxLength: 60, size: 'max' }), async (random) => {
      const groups = [...BEGIN, ...random];
      const world = new World();
      let states = [new DirectoryModel()];
      for (const members of groups) {
        // A brief lease ends while it is waited for: nothing else may see it.
        const alone = members.some(({ action: act }) => act.op === 'lease' && act.brief);
        const parts = alone ? members.map((member) => [member]) : [members];
        for (const part of parts) {
          const seen = await Promise.all(part.map(({ process, action: act }) => world.act(process, act)));
          const calls = seen.filter((call) => call !== null);
          states = statesAfter(states, calls);
          assert.ok(states.length > 0, `no order explains ${describe(calls)}`);
        }
      }
    }),
    { numRuns: 150 },
  );
});

function describe(calls: readonly Observed[]): string {
  return JSON.stringify(calls, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}
