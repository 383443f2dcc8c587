import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HeldBytes } from '../testing/held-bytes.ts';
import { type Simulated, Simulation, tokensAlone } from '../testing/simulation.ts';

const known = new Map<string, Promise<number[]>>();

/** Tokens of a prompt of this length with the engine to itself, computed once. */
function expected(numPrompt: number, maxTokens: number): Promise<number[]> {
  const key = `${numPrompt}/${maxTokens}`;
  const tokens = known.get(key) ?? tokensAlone({ numPrompt, maxTokens });
  known.set(key, tokens);
  return tokens;
}

test('property: in a pool that is far too small everybody gets the tokens it gets alone, and nothing gets stuck', async () => {
  const request = fc.record({
    numPrompt: fc.integer({ min: 1, max: 260 }),
    maxTokens: fc.integer({ min: 1, max: 160 }),
    priority: fc.integer({ min: -1, max: 1 }),
    tenant: fc.constantFrom('a', 'b', 'c'),
    at: fc.nat(500),
    cancelAfter: fc.option(fc.nat(1500), { nil: null, freq: 4 }),
    slow: fc.option(fc.record({ after: fc.nat(500), lasts: fc.nat(3000) }), { nil: null }),
  });
  const pool = fc.record({
    numPages: fc.integer({ min: 7, max: 12 }),
    maxRunning: fc.integer({ min: 1, max: 8 }),
    chunkTokens: fc.constantFrom(64, 128),
    priorityAgingMs: fc.constantFrom(100, 1000),
    /** Bytes for what is copied out; null computes it again. */
    swapBytes: fc.option(fc.constantFrom(300, 2000, 1e9), { nil: null }),
    cache: fc.constantFrom('exact' as const, 'off' as const),
  });
  const seen = { preempted: 0, swapped: 0, lost: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 14 }), pool, async (requests, given) => {
      const { numPages, maxRunning, swapBytes, cache, ...limits } = given;
      const store = swapBytes === null ? undefined : new HeldBytes(swapBytes);
      const options = { numPages, maxRunning, limits, kv: { mode: cache } };
      const simulation = new Simulation(store === undefined ? options : { ...options, swap: store });
      for (const { at, cancelAfter, slow, ...spec } of requests) {
        simulation.at(at, () => {
          const submitted = simulation.submit(spec);
          if (cancelAfter !== null) simulation.at(cancelAfter, () => simulation.cancel(submitted));
          if (slow === null) return;
          simulation.at(slow.after, () => simulation.setSlow(submitted, true));
          simulation.at(slow.after + slow.lasts, () => simulation.setSlow(submitted, false));
        });
      }
      const all = (): boolean =>
        simulation.requests.length === requests.length &&
        simulation.requests.every(({ sink, cancelled }) => cancelled || sink.result !== null);
      await simulation.until(all, 200_000);
      for (const { sink, seq, cancelled } of simulation.requests) {
        const tokens = await expected(seq.numPrompt, seq.spec.stop.maxTokens);
        assert.deepEqual(sink.ids, cancelled ? tokens.slice(0, sink.ids.length) : tokens);
        assert.ok(sink.startedEpochs.length <= 1);
      }
      await simulation.end();
      const { counts } = simulation.pseudo;
      for (const key of ['preempted', 'swapped', 'lost'] as const) seen[key] += counts[key];
      assert.equal(store?.blobs.size ?? 0, 0, 'bytes of an ended sequence are still held');
    }),
    { numRuns: 30 },
  );
  assert.ok(seen.preempted > seen.swapped && seen.swapped > 0, 'both ways out of the pool were taken');
});

interface Load {
  tenant: string;
  priority?: number;
  numPrompt: number;
  maxTokens: number;
  /** Requests of it that wait or run at any time. */
  backlog: number;
}

/** Keeps a tenant's requests coming; returns how many tokens it was served, weighted as its counter is. */
function keepBusy(simulation: Simulation, { backlog, ...given }: Load): () => number {
  const mine: Simulated[] = [];
  const client = async (): Promise<void> => {
    while (!simulation.ended) {
      // Prompts without a common beginning, so that each token is computed.
      const serial = 2 * mine.length + (given.tenant === 'one' ? 1 : 0);
      const digits = [serial % 97, Math.floor(serial / 97) % 97, Math.floor(serial / 97 ** 2)];
      const promptIds = Int32Array.from({ length: given.numPrompt }, (_, at) => digits[at] ?? (serial + at * 7) % 97);
      const request = simulation.submit({ ...given, promptIds });
      mine.push(request);
      await request.sink.done;
    }
  };
  for (let i = 0; i < backlog; i++) void client();
  return () =>
    mine.reduce((sum, { seq, sink }) => sum + (seq.admittedAtMs === null ? 0 : seq.numPrompt) + 2 * sink.ids.length, 0);
}

test('property: two tenants who always want more are served the same, whatever their requests are like', async () => {
  const shape = fc.record({
    numPrompt: fc.integer({ min: 1, max: 200 }),
    maxTokens: fc.integer({ min: 1, max: 100 }),
    backlog: fc.integer({ min: 8, max: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(shape, shape, fc.integer({ min: 6, max: 30 }), fc.boolean(), async (one, two, numPages, swaps) => {
      const maxRunning = 4;
      const options = { numPages, maxRunning, limits: { priorityAgingMs: 500 } };
      const simulation = new Simulation(swaps ? { ...options, swap: new HeldBytes() } : options);
      const served = [keepBusy(simulation, { ...one, tenant: 'one' }), keepBusy(simulation, { ...two, tenant: 'two' })];
      // Sheng et al., theorem 4.2: twice the larger of a prompt and all that the running ones may still generate.
      const longest = Math.max(one.numPrompt, two.numPrompt);
      const bound = 2 * Math.max(longest, 2 * maxRunning * Math.max(one.maxTokens, two.maxTokens));
      const before = served.map((count) => count());
      for (let round = 0; round < 4; round++) {
        const end = simulation.clock.monotonicMs() + 1000;
        await simulation.until(() => simulation.clock.monotonicMs() >= end, 2000);
        const [a = 0, b = 0] = served.map((count, i) => count() - (before[i] as number));
        assert.ok(a + b > 0);
        assert.ok(Math.abs(a - b) <= bound, `served ${a} and ${b}, at most ${bound} apart`);
      }
      await simulation.end();
    }),
    { numRuns: 12 },
  );
});

/** Simulated time until a request of priority 0 ends among requests of priority 3 that never do; null for never. */
async function timeAmongUrgent(priorityAgingMs: number, numPages: number, limitMs: number): Promise<number | null> {
  const simulation = new Simulation({ numPages, maxRunning: 4, limits: { priorityAgingMs } });
  const urgent: Load = { tenant: 'urgent', priority: 3, numPrompt: 100, maxTokens: 60, backlog: 6 };
  keepBusy(simulation, urgent);
  const began = simulation.clock.monotonicMs();
  const { sink, seq } = simulation.submit({ tenant: 'patient', numPrompt: 150, maxTokens: 100 });
  const over = (): boolean => sink.result !== null || simulation.clock.monotonicMs() >= began + limitMs;
  await simulation.until(over, limitMs + 1000);
  const took = sink.result === null ? null : simulation.clock.monotonicMs() - began;
  if (took !== null) assert.deepEqual(sink.ids, await tokensAlone({ numPrompt: seq.numPrompt, maxTokens: 100 }));
  await simulation.end();
  return took;
}

test('a low priority is served in the end, although higher ones never cease', async () => {
  for (const numPages of [6, 12, 40]) {
    assert.equal(await timeAmongUrgent(1e9, numPages, 20_000), null, 'the load leaves no gap by itself');
    const took = await timeAmongUrgent(1000, numPages, 20_000);
    // Three levels to rise, then two sets of running requests to end and itself, at some 6 ms for each token.
    assert.ok(took !== null && took <= 3 * 1000 + 3 * 1500, `${took} ms with ${numPages} pages`);
  }
});

test('pages that come back without a step are noticed: a copy for somebody else had them', async () => {
  const simulation = new Simulation({ numPages: 6 });
  const { cache } = simulation.pseudo.kv;
  const first = simulation.submit({ numPrompt: 300, maxTokens: 2 });
  await simulation.until(() => first.sink.result !== null, 1000);
  const nodes = [...(cache?.entries() ?? [])].flatMap(({ kind, name }) => {
    const node = kind === 'page' ? cache?.byName(name) : null;
    return node === null || node === undefined ? [] : [node];
  });
  assert.ok(nodes.length >= 4);
  for (const node of nodes) cache?.pin(node);
  const promptIds = Int32Array.from({ length: 300 }, (_, i) => (i * 5 + 1) % 97);
  const second = simulation.submit({ promptIds, maxTokens: 2 });
  await simulation.clock.advance(500);
  assert.equal(second.seq.phase, 'waiting');
  for (const node of nodes) cache?.unpin(node);
  await simulation.clock.advance(100);
  assert.notEqual(second.seq.phase, 'waiting');
  await simulation.until(() => second.sink.result !== null, 1000);
  await simulation.end();
});
