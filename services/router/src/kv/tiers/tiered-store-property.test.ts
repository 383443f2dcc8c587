import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Blob, blobKey } from '../blob.ts';
import { crc32cReference as crc32c } from '../../testing/crc32c.ts';
import {
  filesBelow,
  openStore,
  sameBlob,
  type StoreEvents,
  temporaryFolder,
  testBlob,
} from '../../testing/store-rig.ts';
import type { TieredStore } from './tiered-store.ts';

const HOST = 12_000;
const DISK = 10 * 4096;
const QUEUE = 8000;

const blobs: Blob[] = Array.from({ length: 24 }, (_, i) =>
  testBlob(`${i >> 1}`, 200 + ((i * 997) % 6000), 1 + ((i * 31) % 50), i % 2 === 0 ? 'page' : 'state'),
);
const sequences = ['s0', 's1', 's2'];

type Step =
  | { act: 'put' | 'get' | 'delete' | 'touch'; blob: number }
  | { act: 'hold'; sequence: number; size: number }
  | { act: 'held' | 'release'; sequence: number }
  | { act: 'prefetch'; from: number }
  | { act: 'turn' | 'idle' | 'restart' };

const blob = fc.nat(blobs.length - 1);
const sequence = fc.nat(sequences.length - 1);
const steps = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ act: fc.constant('put' as const), blob }) },
    { weight: 6, arbitrary: fc.record({ act: fc.constant('get' as const), blob }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constantFrom('delete' as const, 'touch' as const), blob }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constant('hold' as const), sequence, size: fc.nat(9000) }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constantFrom('held' as const, 'release' as const), sequence }) },
    { weight: 1, arbitrary: fc.record({ act: fc.constant('prefetch' as const), from: blob }) },
    { weight: 4, arbitrary: fc.record({ act: fc.constantFrom('turn' as const, 'idle' as const) }) },
    { weight: 1, arbitrary: fc.record({ act: fc.constant('restart' as const) }) },
  ),
  { maxLength: 120 },
);

/** A store under a random course of events, and what has to be true of it. */
class Course {
  store!: TieredStore;
  events!: StoreEvents;
  readonly #path: string;
  /** Bytes that must be there; absent while a hold is under way. */
  readonly #held = new Map<string, Uint8Array>();
  /** Holds and releases of each key. */
  readonly #changes = new Map<string, number>();
  readonly #running = new Set<Promise<unknown>>();

  constructor(path: string) {
    this.#path = path;
  }

  async open(): Promise<void> {
    const options = { hostBytes: HOST, diskBytes: DISK, queueBytes: QUEUE };
    ({ store: this.store, events: this.events } = await openStore(this.#path, options));
  }

  async take(step: Step): Promise<void> {
    switch (step.act) {
      case 'put':
        this.store.put(blobs[step.blob] as Blob);
        break;
      case 'get':
        this.#start(this.#get(blobs[step.blob] as Blob));
        break;
      case 'delete':
      case 'touch': {
        const { kind, name } = blobs[step.blob] as Blob;
        this.store[step.act](kind, name);
        if (step.act === 'delete') assert.equal(this.store.where(kind, name), null);
        break;
      }
      case 'hold':
        this.#start(this.#hold(sequences[step.sequence] as string, step.size));
        break;
      case 'held':
        this.#start(this.#checkHeld(sequences[step.sequence] as string));
        break;
      case 'release':
        this.#change(sequences[step.sequence] as string);
        this.store.release(sequences[step.sequence] as string);
        break;
      case 'prefetch':
        this.#start(this.store.prefetch(blobs.slice(step.from), new AbortController().signal));
        break;
      case 'turn':
        await turn();
        break;
      case 'idle':
        await this.settle();
        break;
      case 'restart':
        await this.settle();
        await this.store.close();
        this.#held.clear();
        await this.open();
    }
    const [host, disk] = this.store.usage();
    assert.ok((host?.usedBytes ?? 0) <= HOST, 'host memory');
    assert.ok((disk?.usedBytes ?? 0) <= DISK, 'disk');
    assert.ok((disk?.pendingBytes ?? 0) <= 2 * QUEUE + 18_000, 'bytes that wait: blobs, and holds');
  }

  /** Waits for everything, and checks the accounts. */
  async settle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    await this.store.idle();
    for (const key of this.#held.keys()) await this.#checkHeld(key);
    const files = filesBelow(this.#path);
    const bytes = files.reduce((sum, path) => sum + 4096 * Math.ceil(statSync(join(this.#path, path)).size / 4096), 0);
    assert.equal(this.store.usage()[1]?.usedBytes, bytes);
    const entries = [...this.store.entries()].map(({ kind, name }) => blobKey(kind, name)).sort();
    assert.deepEqual(entries, [...new Set([...this.events.there.host, ...this.events.there.disk])].sort());
    assert.deepEqual(this.events.nonsense, []);
    assert.deepEqual(this.events.faults, []);
  }

  #start(work: Promise<unknown>): void {
    const running = work.finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #get(expected: Blob): Promise<void> {
    const before = this.store.where(expected.kind, expected.name);
    const got = await this.store.get(expected.kind, expected.name);
    if (got !== null || before === 'host') assert.ok(sameBlob(got, expected), `another blob, or none from ${before}`);
  }

  async #hold(key: string, size: number): Promise<void> {
    const data = new Uint8Array(size).fill(size & 0xff);
    const change = this.#change(key);
    const done = await this.store.hold(key, data, crc32c(data));
    if (done && this.#changes.get(key) === change) this.#held.set(key, data);
  }

  #change(key: string): number {
    const change = (this.#changes.get(key) ?? 0) + 1;
    this.#changes.set(key, change);
    this.#held.delete(key);
    return change;
  }

  async #checkHeld(key: string): Promise<void> {
    const expected = this.#held.get(key);
    if (expected === undefined) return;
    const got = await this.store.held(key);
    // Unless it was released or replaced while it was read.
    if (this.#held.get(key) === expected) assert.equal(Buffer.compare(got ?? Buffer.of(), expected), 0, 'held bytes');
  }
}

test('whatever happens: limits hold, what is held stays, what comes back is what was put', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (course) => {
      const { path, remove } = temporaryFolder();
      const run = new Course(path);
      await run.open();
      try {
        for (const step of course) await run.take(step);
        await run.settle();
      } finally {
        await run.store.close();
        remove();
      }
    }),
    { numRuns: 150 },
  );
});
