import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail } from '@guildhall/common';
import { HeldBytes } from './testing/held-bytes.ts';
import { type Simulated, Simulation, tokensAlone } from './testing/simulation.ts';

const SECOND = 1000;

/** Two sequences of which one has to go when both have grown; `loses` is the one. */
async function pressed(store: HeldBytes): Promise<{ simulation: Simulation; keeps: Simulated; loses: Simulated }> {
  const simulation = new Simulation({ numPages: 8, swap: store });
  const keeps = simulation.submit({ numPrompt: 150, maxTokens: 250, promptIds: ids(150, 1) });
  const loses = simulation.submit({ numPrompt: 140, maxTokens: 200, promptIds: ids(140, 2) });
  await simulation.until(() => simulation.pseudo.counts.preempted > 0, 10 * SECOND);
  assert.equal(simulation.pseudo.counts.swapped, 1);
  assert.equal(loses.seq.phase, 'waiting');
  return { simulation, keeps, loses };
}

function ids(length: number, seed: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => (i * 11 + seed * 13) % 97);
}

function over({ sink }: Simulated): () => boolean {
  return () => sink.result !== null || sink.error !== null;
}

async function assertUndisturbed(...requests: Simulated[]): Promise<void> {
  for (const { sink, seq } of requests) {
    const alone = await tokensAlone({ promptIds: seq.spec.promptIds, maxTokens: seq.spec.stop.maxTokens });
    assert.deepEqual(sink.ids, alone);
  }
}

test('a sequence that comes back from a copy goes on as if nothing had been, and computes nothing twice', async () => {
  const store = new HeldBytes();
  const { simulation, keeps, loses } = await pressed(store);
  assert.ok(store.used > 0);
  await simulation.until(over(loses), 10 * SECOND);
  await simulation.until(over(keeps), 10 * SECOND);
  await assertUndisturbed(keeps, loses);
  assert.equal(simulation.runner.processed, 150 + 249 + 140 + 199, 'each token was processed once');
  await simulation.end();
  assert.equal(store.blobs.size, 0);
});

test('a copy that is lost, in part or whole, costs computing', async () => {
  for (const lost of [/state$/, /\/3$/, /./]) {
    const store = new HeldBytes();
    const { simulation, keeps, loses } = await pressed(store);
    for (const key of store.blobs.keys()) if (lost.test(key)) store.release(key);
    await simulation.until(() => over(loses)() && over(keeps)(), 20 * SECOND);
    await assertUndisturbed(keeps, loses);
    assert.equal(simulation.pseudo.counts.lost, 1);
    await simulation.end();
    assert.equal(store.blobs.size, 0);
  }
});

test('without room for a copy the sequence is computed again', async () => {
  const simulation = new Simulation({ numPages: 8, swap: new HeldBytes(100) });
  const requests = [1, 2].map((seed) => simulation.submit({ maxTokens: 250, promptIds: ids(150, seed) }));
  await simulation.until(() => requests.every((request) => over(request)()), 20 * SECOND);
  assert.ok(simulation.pseudo.counts.preempted > 0);
  assert.equal(simulation.pseudo.counts.swapped, 0);
  await assertUndisturbed(...requests);
  await simulation.end();
});

test('cancelling a sequence that was copied out lets go of its bytes at once', async () => {
  const store = new HeldBytes();
  const { simulation, keeps, loses } = await pressed(store);
  simulation.cancel(loses);
  assert.equal(store.blobs.size, 0);
  await simulation.until(over(keeps), 10 * SECOND);
  await assertUndisturbed(keeps);
  await simulation.end();
});

test('a state that a broken step has left is computed again, and not kept', async () => {
  const store = new HeldBytes();
  const simulation = new Simulation({ swap: store });
  const request = simulation.submit({ maxTokens: 40, promptIds: ids(100, 3) });
  await simulation.until(() => request.sink.ids.length > 10, SECOND);
  simulation.runner.failNext.push({ error: fail('native_failure', 'broke'), kind: 'again' });
  await simulation.until(over(request), 10 * SECOND);
  assert.equal(simulation.pseudo.counts.preempted, 1);
  assert.equal(simulation.pseudo.counts.swapped, 0);
  await assertUndisturbed(request);
  await simulation.end();
});
