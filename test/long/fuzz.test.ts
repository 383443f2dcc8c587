import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { FuzzedWorld, type Rest } from '../fuzz/fuzzed-world.ts';
import { FuzzRun, seedOf } from '../fuzz/fuzz-run.ts';
import { growthOf } from '../fuzz/leaks.ts';

const COUNT = Number(process.env['GUILDHALL_FUZZ_REQUESTS'] ?? 100_000);
/** After each of them everything comes to rest. */
const STRETCHES = 20;
/** Stretches in which code is compiled and caches fill. */
const WARM = 5;
/** Bytes of heap that a request may leave behind; the smallest thing that the gateway keeps of one is larger. */
const HEAP_PER_REQUEST = 256;
/** By how much two looks at the same heap may differ, bytes. */
const HEAP_NOISE = 8 << 20;
/** Of the router, whose allocators give memory back late. */
const ROUTER_PER_REQUEST = 4096;
/** Sockets and timers beyond those of the first rest: connections between processes are made anew. */
const HANDLE_SLACK = 8;
/** Redis keeps batches for some days, and uploads for some hours; what belongs to one comes and goes with it. */
const KEPT_FAMILIES = /:(batch|batches|queues|upload|upload-parts|uploads-by-expiry)$/;

const world = await FuzzedWorld.start();
after(() => world.stop());

const MIB = 2 ** 20;

function tell(text: string): void {
  process.stdout.write(`${text}\n`);
}

function line(requests: number, { heap, rss, routerRss, sockets, timers, redisKeys }: Rest): string {
  const mib = [heap, rss, routerRss].map((bytes) => (bytes / MIB).toFixed(1)).join(', ');
  const keys = [...redisKeys].map(([family, count]) => `${family} ${count}`).toSorted();
  return `${requests} requests: heap, process, router ${mib} MiB; ${sockets} sockets; ${timers} timers; ${keys.join(', ')}`;
}

test(`${COUNT} requests leave nothing behind`, { timeout: 10_800_000 }, async () => {
  const run = new FuzzRun(world, seedOf(null));
  tell(`seed ${run.seed}`);
  const rests: { requests: number; rest: Rest }[] = [];
  for (let stretch = 0; stretch < STRETCHES; stretch++) {
    const bounds = [stretch, stretch + 1].map((at) => Math.round((at * COUNT) / STRETCHES));
    await run.send(bounds[0] ?? 0, bounds[1] ?? 0);
    const rest = await world.rest();
    rests.push({ requests: run.counts.sent, rest });
    tell(line(run.counts.sent, rest));
  }
  const { byStatus, sent, slowestMs } = run.counts;
  tell(`statuses ${JSON.stringify(Object.fromEntries(byStatus))}, slowest ${Math.round(slowestMs)} ms`);
  assert.ok(sent >= COUNT);
  assertNoGrowth(rests.slice(WARM));
  assert.deepEqual(world.ended, []);
});

function assertNoGrowth(rests: readonly { requests: number; rest: Rest }[]): void {
  const growth = (value: (rest: Rest) => number): number =>
    growthOf(rests.map(({ requests, rest }) => ({ requests, value: value(rest) })));
  const heap = growth((rest) => rest.heap);
  const router = growth((rest) => rest.routerRss);
  tell(`growth: heap ${heap.toFixed(1)}, router ${router.toFixed(1)} bytes a request`);
  const between = (rests.at(-1)?.requests ?? 0) - (rests[0]?.requests ?? 0);
  assert.ok(heap < HEAP_PER_REQUEST + HEAP_NOISE / between, `the heap grows by ${heap} bytes with each request`);
  assert.ok(router < ROUTER_PER_REQUEST, `the router grows by ${router} bytes with each request`);
  const [first, last] = [rests[0]?.rest, rests.at(-1)?.rest];
  assert.ok(first !== undefined && last !== undefined);
  assert.ok(last.sockets <= first.sockets + HANDLE_SLACK, `${first.sockets} sockets, then ${last.sockets}`);
  assert.ok(last.timers <= first.timers + HANDLE_SLACK, `${first.timers} timers, then ${last.timers}`);
  for (const [family, count] of last.redisKeys) {
    if (KEPT_FAMILIES.test(family)) continue;
    assert.ok(count <= (first.redisKeys.get(family) ?? 0) + 2, `${family}: ${count} keys are left in Redis`);
  }
}
