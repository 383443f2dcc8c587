import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { FuzzRun, readRequest, seedOf } from './fuzz-run.ts';
import { FuzzedWorld } from './fuzzed-world.ts';

const COUNT = Number(process.env['GUILDHALL_FUZZ_REQUESTS'] ?? 2000);
/** The same requests each time, so that a change is judged by what it changes; the long test takes new ones. */
const SEED = 6;
const INDEX = process.env['GUILDHALL_FUZZ_INDEX'];
const REPLAY = process.env['GUILDHALL_FUZZ_REPLAY'];
/**
 * What chance does not get right: a batch of a line or two is over before it can be stopped, and parts have to add up
 * to what their upload announced.
 */
const REFUSED: ReadonlySet<string> = new Set([
  'POST /v1/batches/{batch_id}/cancel',
  'POST /v1/uploads/{upload_id}/complete',
]);

const world = await FuzzedWorld.start();
after(() => world.stop());

test('requests made from the description are answered as it says, or refused', async (t) => {
  const run = new FuzzRun(world, seedOf(SEED));
  t.diagnostic(`seed ${run.seed}`);
  if (REPLAY !== undefined) return run.check(readRequest(REPLAY));
  if (INDEX !== undefined) return run.send(Number(INDEX), Number(INDEX) + 1);
  await run.send(0, COUNT);
  const { byStatus, byKind, byOperation, again, slowestMs } = run.counts;
  t.diagnostic(
    `statuses ${told(byStatus)}; kinds ${told(byKind)}; sent again ${again}; slowest ${Math.round(slowestMs)} ms`,
  );
  for (const [operation, statuses] of byOperation) t.diagnostic(`${operation}: ${told(statuses)}`);
  // Requests that are all refused at the edge, or all right, would show nothing.
  for (const { name } of run.api.operations) {
    const statuses = byOperation.get(name) ?? new Map<number, number>();
    assert.ok(statuses.has(200) || REFUSED.has(name), `${name} has never answered 200: ${told(statuses)}`);
  }
  assert.deepEqual(world.ended, []);
});

function told(counts: ReadonlyMap<string | number, number>): string {
  return [...counts]
    .map(([key, count]) => `${key} ${count}`)
    .toSorted()
    .join(', ');
}
