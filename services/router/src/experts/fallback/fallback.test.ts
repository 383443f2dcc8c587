import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import type { ExpertLoad, Lane, TensorSource } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import { fakeExpertRow } from '../../../../../test/fakes/fake-expert.ts';
import { choices, DispatchRig } from '../../testing/dispatch-rig.ts';
import { ReferenceBuffers, referenceReplyHeader } from '../../testing/reference-buffers.ts';
import { ExpertViews } from '../placement-view.ts';
import type { WorkerLink } from '../worker-link.ts';
import { FallbackViews } from './fallback-views.ts';
import { LocalFallback, type LocalFallbackOptions } from './local-fallback.ts';

const NO_WEIGHTS: TensorSource = { dtype: 'F32', shape: [1, 1], data: new Uint8Array(4), scale: null, rows: null };

/** A shard that computes what the fake workers do, of what it was given. */
class FakeShard {
  readonly held = new Set<string>();
  most = 0;
  /** Lanes that a forward began in. */
  readonly begun: Lane[] = [];
  /** What forwards of a lane wait for. */
  readonly gates: Partial<Record<Lane, Promise<void>>> = {};

  async loadAll(layer: number, loads: readonly ExpertLoad[]): Promise<void> {
    for (const { expert } of loads) this.held.add(`${layer}/${expert}`);
    this.most = Math.max(this.most, this.held.size);
    return Promise.resolve();
  }

  unload(layer: number, expert: number): boolean {
    return this.held.delete(`${layer}/${expert}`);
  }

  async forward(frame: Uint8Array, _queueUs: number, lane: Lane): Promise<Buffer> {
    this.begun.push(lane);
    await this.gates[lane];
    const { frame: sent } = experts.ClientFrame.decode(frame);
    assert.ok(sent?.$case === 'forward');
    const { layer, rows, ...forward } = sent.value;
    const input = new Float32Array(Uint8Array.from(rows).buffer);
    const output: Float32Array[] = [];
    let entry = 0;
    for (let row = 0; row < forward.numRows; row++) {
      for (const end = entry + forward.rowEntries.readUInt16LE(2 * row); entry < end; entry++) {
        const expert = forward.experts.readUInt16LE(2 * entry);
        assert.ok(this.held.has(`${layer}/${expert}`), `expert ${expert} is not loaded`);
        output.push(fakeExpertRow(layer, expert, input.subarray(8 * row, 8 * row + 8)));
      }
    }
    const bytes = Buffer.concat(output.map((row) => Buffer.from(row.buffer)));
    return replyTo(sent.value, { status: 1, numRows: entry, rows: bytes });
  }
}

function replyTo(forward: experts.Forward, fields: Partial<experts.ForwardReply>): Buffer {
  const { routerIncarnation, step, layer, microBatch, attempt, part } = forward;
  const header = { routerIncarnation, step, layer, microBatch, attempt, part };
  const value = experts.ForwardReply.fromPartial({ ...header, ...fields });
  return Buffer.from(experts.ServerFrame.encode({ frame: { $case: 'reply', value } }).finish());
}

function makeFallback(given: Partial<LocalFallbackOptions> = {}): { fallback: LocalFallback; shard: FakeShard } {
  const shard = new FakeShard();
  const fallback = new LocalFallback({
    id: 'router-1',
    shard,
    capacity: 4,
    read: async () => Promise.resolve({ gate: NO_WEIGHTS, up: NO_WEIGHTS, down: NO_WEIGHTS }),
    native: {
      parseReplyHeader: referenceReplyHeader,
      packStatusReply: (frame, _status, error) => {
        const { frame: sent } = experts.ClientFrame.decode(frame);
        assert.ok(sent?.$case === 'forward');
        return replyTo(sent.value, { status: experts.ReplyStatus.REPLY_STATUS_FAILED, error });
      },
    },
    observer: { fallback: () => undefined },
    logger: silentLogger(),
    ...given,
  });
  return { fallback, shard };
}

test('what no worker holds is computed here, with as many experts at a time as there is memory for', async () => {
  const { fallback: peer, shard } = makeFallback();
  const fallback = { peer, afterMs: 0, fromMs: () => 0 };
  await DispatchRig.run({ workers: [{ held: [0, 1] }], remote: { fallback } }, async (rig) => {
    await rig.using(...rig.workers);
    const buffers = new ReferenceBuffers(choices(20), 8);
    for (const layer of [0, 1, 0]) {
      const step = await rig.layer(buffers, layer);
      const here = step.rowsOf.reduce((sum, rows) => sum + (rows.get('router-1') ?? 0), 0);
      const there = step.rowsOf.reduce((sum, rows) => sum + (rows.get('fake-1') ?? 0), 0);
      assert.ok(here > 0 && there > 0);
      assert.equal(here + there, 60);
    }
    assert.equal(shard.most, 4);
    assert.equal(rig.hedges.length, 0);
  });
});

test('decode is computed here while prefill is held up, as it is until decode goes on', async () => {
  const { fallback: peer, shard } = makeFallback();
  const fallback = { peer, afterMs: 0, fromMs: () => 0 };
  await DispatchRig.run({ workers: [], remote: { fallback } }, async (rig) => {
    const gate = Promise.withResolvers<void>();
    shard.gates.prefill = gate.promise;
    const prefill = rig.layer(new ReferenceBuffers(choices(20), 8), 0, { lane: 'prefill' });
    await eventually(() => shard.begun.includes('prefill'), 'prefill to begin');
    let layers = 0;
    const decode = (async () => {
      for (; layers < 4; layers++) await rig.layer(new ReferenceBuffers(choices(8), 8), layers % 2);
    })();
    await eventually(() => layers === 4, 'decode to go on', 10_000);
    gate.resolve();
    await Promise.all([prefill, decode]);
  });
});

test('both lanes share what they load, and the memory for it', async () => {
  let gate = Promise.withResolvers<void>();
  gate.resolve();
  const reads: string[] = [];
  const read = async (layer: number, expert: number): Promise<Omit<ExpertLoad, 'expert'>> => {
    reads.push(`${layer}/${expert}`);
    await gate.promise;
    return { gate: NO_WEIGHTS, up: NO_WEIGHTS, down: NO_WEIGHTS };
  };
  const { fallback: peer, shard } = makeFallback({ read });
  const fallback = { peer, afterMs: 0, fromMs: () => 0 };
  await DispatchRig.run({ workers: [], remote: { fallback } }, async (rig) => {
    /** One layer in either lane; returns what was read before anything could be loaded. */
    const both = async (decode: number, prefill: number): Promise<string[]> => {
      await rig.layer(new ReferenceBuffers(choices(20), 8), 0);
      gate = Promise.withResolvers();
      const before = reads.length;
      const done = [
        rig.layer(new ReferenceBuffers(choices(20), 8), decode),
        rig.layer(new ReferenceBuffers(choices(20), 8), prefill, { lane: 'prefill' }),
      ];
      await eventually(() => reads.length > before, 'experts to be read');
      const wanted = reads.slice(before);
      gate.resolve();
      await Promise.all(done);
      return wanted;
    };
    assert.equal((await both(1, 1)).length, 2);
    shard.most = 0;
    assert.equal((await both(0, 1)).length, 4);
    assert.equal(shard.most, 4);
  });
});

test('a step that is cancelled while this process computes for it leaves the way free for the next one', async () => {
  const { fallback: peer, shard } = makeFallback();
  const fallback = { peer, afterMs: 0, fromMs: () => 0 };
  await DispatchRig.run({ workers: [], remote: { fallback } }, async (rig) => {
    const gate = Promise.withResolvers<void>();
    shard.gates.decode = gate.promise;
    const abort = new AbortController();
    const cancelled = rig.layer(new ReferenceBuffers(choices(8), 8), 0, { signal: abort.signal });
    await eventually(() => shard.begun.length > 0, 'the computation to begin');
    abort.abort();
    await assert.rejects(cancelled, { code: 'cancelled' });
    const next = rig.layer(new ReferenceBuffers(choices(20), 8), 1);
    gate.resolve();
    await next;
    assert.equal(rig.calls.numOpen, 0);
  });
});

test('what cannot be computed here either waits for a worker', async () => {
  const { fallback: peer } = makeFallback({ read: async () => Promise.reject(new Error('the disk is gone')) });
  const fallback = { peer, afterMs: 0, fromMs: () => 0 };
  await DispatchRig.run({ workers: [{ held: [0, 1] }], remote: { fallback } }, async (rig) => {
    await rig.using(...rig.workers);
    const buffers = new ReferenceBuffers(choices(8), 8);
    const step = rig.begin(buffers);
    const { done } = step.dispatch(0, buffers, 8, rig.context());
    await eventually(() => rig.retries.includes('fault'), 'the fallback to fail');
    rig.workers[0]?.setHeld([0, 1, 2, 3, 4, 5, 6, 7]);
    await done;
    step.close();
    assert.deepEqual(rig.breakers, []);
  });
});

test('a worker that owes its rows for too long is overtaken by this process', async () => {
  const { fallback: peer } = makeFallback();
  const fallback = { peer, afterMs: 50, fromMs: () => Infinity };
  const policy = { leastDeadlineMs: 20 };
  await DispatchRig.run({ workers: [{}], remote: { fallback }, policy }, async (rig) => {
    await rig.covered();
    const buffers = new ReferenceBuffers(choices(8), 8);
    for (let i = 0; i < 40; i++) await rig.layer(buffers);
    const [stopped] = rig.workers;
    assert.ok(stopped !== undefined);
    stopped.always = { kind: 'hang' };
    const step = await rig.layer(buffers);
    assert.ok(step.rowsOf.every((rows) => rows.has('router-1')));
    assert.ok(rig.retries.includes('late'));
  });
});

test('the engine goes on once this process computes, and experts count as there until all have a worker again', async () => {
  const clock = new FakeClock();
  const shape = { numLayers: 1, numExperts: 2 };
  const worker = { id: 'a', ready: true } as WorkerLink;
  const views = new ExpertViews<WorkerLink>({ shape, clock, workers: () => [worker] });
  const fallback = new FallbackViews(views, clock, 2000);
  let changes = 0;
  fallback.onChange(() => (changes += 1));
  await clock.advance(1999);
  assert.equal(fallback.covered, false);
  assert.notEqual(fallback.uncoveredSinceMs, null);
  await clock.advance(1);
  assert.deepEqual([fallback.covered, fallback.active, fallback.uncoveredSinceMs, changes], [true, true, null, 1]);
  views.setHeld(worker, Uint8Array.of(1, 1));
  views.rebuild();
  assert.deepEqual([fallback.covered, fallback.active], [true, false]);
  assert.equal(fallback.fromMs(), Infinity);
  views.clearHeld(worker, 0, [1]);
  assert.equal(fallback.covered, false);
  assert.equal(fallback.fromMs(), clock.monotonicMs() + 2000);
  views.setHeld(worker, Uint8Array.of(1, 1));
  await clock.advance(3000);
  assert.equal(fallback.active, false);
  fallback.stop();
  views.stop();
});
