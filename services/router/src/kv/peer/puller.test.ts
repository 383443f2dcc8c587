import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { FakeClock, type PageName, parseHostPort } from '@guildhall/common';
import { eventually, freePort } from '@guildhall/common/testing';
import { pages } from '@guildhall/proto';
import { TcpFront } from '../../../../../test/fakes/tcp-front.ts';
import {
  makePuller,
  MARK,
  metricOf,
  PAGE_BYTES,
  Prompt,
  type Pulling,
  startHolder,
  startHostile,
  STATE_BYTES,
} from '../../testing/peer-rig.ts';
import type { Blob } from '../blob.ts';
import type { PullRequest, PullResult } from './puller.ts';
import { PART_BYTES, type PullFault } from './wire.ts';

const prompt = new Prompt(3);
const open: (() => void | Promise<void>)[] = [];
after(async () => {
  for (const close of open) await close();
});

function pullerOf(options: Parameters<typeof makePuller>[0] = {}): Pulling {
  const pulling = makePuller(options);
  open.push(() => pulling.close());
  return pulling;
}

function requestTo(address: string, given: Partial<PullRequest> = {}): PullRequest {
  return {
    holder: { routerId: 'router-2', address },
    pages: prompt.wanted(),
    stateName: prompt.name(2),
    signal: new AbortController().signal,
    ...given,
  };
}

type FetchCall = Parameters<pages.PagesServer['fetch']>[0];

function send(call: FetchCall, part: pages.FetchReply['part']): void {
  call.write({ part });
}

function headOf(blob: Blob, given: Partial<pages.BlobHead> = {}): pages.BlobHead {
  return {
    kind: blob.kind === 'page' ? pages.BlobKind.BLOB_KIND_PAGE : pages.BlobKind.BLOB_KIND_STATE,
    name: Buffer.from(blob.name, 'latin1'),
    index: 0,
    size: BigInt(blob.size),
    checksum: blob.checksum,
    tokenIds: [...blob.tokens],
    value: blob.value,
    ...given,
  };
}

function sendParts(call: FetchCall, data: Uint8Array, end = data.length): void {
  for (let at = 0; at < end; at += PART_BYTES) {
    send(call, { $case: 'data', value: Buffer.from(data.subarray(at, Math.min(end, at + PART_BYTES))) });
  }
}

function sendBlob(call: FetchCall, blob: Blob, given: Partial<pages.BlobHead> = {}): void {
  send(call, { $case: 'head', value: headOf(blob, given) });
  sendParts(call, blob.data);
}

/** The first page as it should be: what a fault comes after. */
function sendFirst(call: FetchCall): void {
  sendBlob(call, prompt.blob('page', 0));
}

const second = prompt.blob('page', 1);

/** What hostile or broken holders do after a good first page, and what it counts as. */
const faults: [string, PullFault, (call: FetchCall) => void][] = [
  [
    'ends inside of a blob',
    'truncated',
    (call) => {
      send(call, { $case: 'head', value: headOf(second) });
      sendParts(call, second.data, PART_BYTES);
      call.end();
    },
  ],
  [
    'ends behind a head',
    'truncated',
    (call) => {
      send(call, { $case: 'head', value: headOf(second) });
      call.end();
    },
  ],
  [
    'a checksum that is not that of the bytes',
    'checksum',
    (call) => {
      sendBlob(call, second, { checksum: (second.checksum ^ 1) >>> 0 });
      call.end();
    },
  ],
  ['a name that was not asked for', 'corrupt', (call) => sendBlob(call, second, { name: Buffer.alloc(16, 7) })],
  ['a name of another length', 'corrupt', (call) => sendBlob(call, second, { name: Buffer.alloc(17) })],
  ['the same page again', 'corrupt', (call) => sendFirst(call)],
  ['a page as a state', 'corrupt', (call) => sendBlob(call, second, { kind: pages.BlobKind.BLOB_KIND_STATE })],
  ['a page of no kind', 'corrupt', (call) => sendBlob(call, second, { kind: pages.BlobKind.BLOB_KIND_UNSPECIFIED })],
  ['a huge size', 'corrupt', (call) => send(call, { $case: 'head', value: headOf(second, { size: 2n ** 62n }) })],
  ['a size of nothing', 'corrupt', (call) => send(call, { $case: 'head', value: headOf(second, { size: 0n }) })],
  [
    'tokens of another prompt',
    'corrupt',
    (call) => {
      sendBlob(call, second, { tokenIds: [...second.tokens.subarray(0, 63), 999_999] });
    },
  ],
  ['fewer tokens', 'corrupt', (call) => sendBlob(call, second, { tokenIds: [...second.tokens.subarray(0, 63)] })],
  [
    'more bytes than the head said',
    'corrupt',
    (call) => {
      sendBlob(call, second);
      send(call, { $case: 'data', value: Buffer.alloc(10) });
    },
  ],
  [
    'a part that goes past the end',
    'corrupt',
    (call) => {
      send(call, { $case: 'head', value: headOf(second) });
      sendParts(call, Buffer.alloc(PAGE_BYTES + 1));
    },
  ],
  [
    'a part of nothing',
    'corrupt',
    (call) => {
      send(call, { $case: 'head', value: headOf(second) });
      send(call, { $case: 'data', value: Buffer.alloc(0) });
    },
  ],
  [
    'a head inside of a blob',
    'corrupt',
    (call) => {
      send(call, { $case: 'head', value: headOf(second) });
      sendParts(call, second.data, PART_BYTES);
      send(call, { $case: 'head', value: headOf(prompt.blob('page', 2)) });
    },
  ],
  ['bytes without a head', 'corrupt', (call) => send(call, { $case: 'data', value: Buffer.alloc(10) })],
  [
    'the head of a sequence',
    'corrupt',
    (call) => {
      const value = { numComputed: 1, tokenDigest: Buffer.alloc(32), numPages: 1, firstOwnPage: 0 };
      send(call, { $case: 'sequence', value });
    },
  ],
  ['an empty message', 'corrupt', (call) => send(call, undefined)],
  ['nothing more', 'stalled', () => undefined],
  [
    'nothing more inside of a blob',
    'stalled',
    (call) => {
      send(call, { $case: 'head', value: headOf(second) });
      sendParts(call, second.data, PART_BYTES);
    },
  ],
];

for (const [what, fault, misbehave] of faults) {
  test(`a holder that sends: ${what}`, async () => {
    const hostile = await startHostile((call) => {
      sendFirst(call);
      misbehave(call);
    });
    open.push(() => hostile.stop());
    const clock = new FakeClock();
    const { puller, store, metrics, log } = pullerOf({ clock });
    const pull = async (): Promise<PullResult> => {
      const pulled = puller.pull(requestTo(hostile.address));
      if (fault === 'stalled') await silence(clock, () => store.blobs.size === 1);
      return await pulled;
    };
    const result = await pull();
    assert.equal(result.outcome, fault);
    await assertFault({ puller, store, metrics, log }, fault, 1);
    assertSame(store, what === 'more bytes than the head said' ? 2 : 1);
    // The same again is counted, and not logged again.
    store.blobs.clear();
    assert.equal((await pull()).outcome, fault);
    assert.equal(log.length, 1);
  });
}

/** Lets the time of a stall pass once `sent` says that everything has come that will. */
async function silence(clock: FakeClock, sent: () => boolean): Promise<void> {
  await eventually(sent, 'what is sent to come');
  await clock.advance(30_001);
}

/** The store holds the first `count` pages of the prompt and nothing else. */
function assertSame(store: Pulling['store'], count: number): void {
  assert.equal(store.blobs.size, count);
  for (let i = 0; i < count; i++) {
    const [whole, got] = [prompt.blob('page', i), store.get('page', prompt.name(i))];
    assert.ok(got !== null && Buffer.from(whole.data).equals(got.data), `page ${i}`);
    assert.deepEqual([got.checksum, [...got.tokens]], [whole.checksum, [...whole.tokens]]);
  }
}

/** A fault was counted and logged once, and its holder is avoided. */
async function assertFault(
  { puller, metrics, log }: Pick<Pulling, 'puller' | 'store' | 'metrics' | 'log'>,
  fault: PullFault,
  times: number,
): Promise<void> {
  assert.equal(await metricOf(metrics, 'guildhall_kv_pulls_total', `"${fault}"`), times);
  assert.equal(await metricOf(metrics, 'guildhall_kv_faults_total', `"${fault}"`), times);
  assert.equal(log.length, 1, log.join(''));
  assert.ok(log[0]?.includes(fault) && log[0].includes('router-2'));
  assert.equal(puller.worthwhile('router-2', 1000, 1e9), false);
  assert.equal(await metricOf(metrics, 'guildhall_kv_pulls_total', '"avoided"'), 1);
  assert.equal(puller.worthwhile('router-3', 1000, 1e9), true);
  assert.equal(puller.running, 0);
}

test('a holder that stalls before its first message', async () => {
  let calls = 0;
  const hostile = await startHostile(() => (calls += 1));
  open.push(() => hostile.stop());
  const clock = new FakeClock();
  const pulling = pullerOf({ clock });
  const pulled = pulling.puller.pull(requestTo(hostile.address));
  await silence(clock, () => calls > 0);
  assert.equal((await pulled).outcome, 'stalled');
  await assertFault(pulling, 'stalled', 1);
  assert.equal(pulling.store.blobs.size, 0);
});

test('a holder that sends a byte now and then runs into the limit of the whole transfer', async () => {
  const hostile = await startHostile((call) => {
    send(call, { $case: 'head', value: headOf(second) });
    const trickle = setInterval(() => send(call, { $case: 'data', value: Buffer.alloc(1) }), 20);
    call.on('cancelled', () => clearInterval(trickle));
  });
  open.push(() => hostile.stop());
  const pulling = pullerOf({ limitMs: 500 });
  assert.equal((await pulling.puller.pull(requestTo(hostile.address))).outcome, 'stalled');
  await assertFault(pulling, 'stalled', 1);
  assert.equal(pulling.store.blobs.size, 0);
});

/** A good holder of the prompt, with a front that may change or break what it sends. */
async function frontedHolder(
  alter?: (chunk: Buffer) => Buffer,
): Promise<{ front: TcpFront; served: Awaited<ReturnType<typeof startHolder>> }> {
  const served = await startHolder();
  for (let i = 0; i < 3; i++) served.source.store.put(prompt.blob('page', i));
  served.source.store.put(prompt.blob('state', 2));
  const front = await TcpFront.start(parseHostPort(served.address).port, alter);
  open.push(async () => {
    front.kill();
    await served.stop();
  });
  return { front, served };
}

test('a bit that flips on the way is found', async () => {
  let flipped = 0;
  const { front } = await frontedHolder((chunk) => {
    const at = chunk.indexOf(MARK);
    if (at >= 0 && flipped++ === 0) chunk[at] = (chunk[at] ?? 0) ^ 0x10;
    return chunk;
  });
  const pulling = pullerOf();
  assert.equal((await pulling.puller.pull(requestTo(front.address))).outcome, 'checksum');
  await assertFault(pulling, 'checksum', 1);
  assert.equal(pulling.store.blobs.size, 0);
});

test('a holder that dies in the middle: what came before stays', async () => {
  const { front, served } = await frontedHolder();
  const pulling = pullerOf();
  const gate = Promise.withResolvers<void>();
  const put = pulling.store.put.bind(pulling.store);
  pulling.store.put = (blob) => {
    // The holder can read no further once the first page is here.
    served.source.gate ??= gate.promise;
    front.kill();
    return put(blob);
  };
  assert.equal((await pulling.puller.pull(requestTo(front.address))).outcome, 'holder_gone');
  await assertFault(pulling, 'holder_gone', 1);
  assert.ok(pulling.store.get('page', prompt.name(0)) !== null);
  gate.resolve();
});

test('a holder that is not there', async () => {
  const pulling = pullerOf();
  assert.equal((await pulling.puller.pull(requestTo(`127.0.0.1:${await freePort()}`))).outcome, 'holder_gone');
  await assertFault(pulling, 'holder_gone', 1);
});

test('a cancelled pull is no fault, and the holder is told', async () => {
  const { front, served } = await frontedHolder();
  const { puller, store, metrics, log } = pullerOf();
  const gate = Promise.withResolvers<void>();
  const abort = new AbortController();
  const put = store.put.bind(store);
  store.put = (blob) => {
    served.source.gate ??= gate.promise;
    abort.abort();
    return put(blob);
  };
  const { outcome } = await puller.pull(requestTo(front.address, { signal: abort.signal }));
  assert.equal(outcome, 'cancelled');
  assert.deepEqual([store.blobs.size, log.length], [1, 0]);
  assert.equal(puller.worthwhile('router-2', 1000, 1e9), true);
  assert.equal(await metricOf(metrics, 'guildhall_kv_pulls_total', '"cancelled"'), 1);
  await eventually(() => metricOf(served.metrics, 'guildhall_kv_fetches_total'), 'the holder to end its call');
  gate.resolve();
});

test('a store without room ends the transfer', async () => {
  const { front } = await frontedHolder();
  const { puller, store, log } = pullerOf();
  store.room = 2;
  const result = await puller.pull(requestTo(front.address));
  assert.deepEqual([result.outcome, result.pages, store.blobs.size, log.length], ['no_room', 2, 2, 0]);
});

test('a common prefix that two requests want comes once', async () => {
  const { front, served } = await frontedHolder();
  const { puller, store } = pullerOf();
  const all = puller.pull(requestTo(front.address));
  const some = puller.pull(requestTo(front.address, { pages: prompt.wanted().slice(0, 2), stateName: null }));
  assert.deepEqual((await all).pages, 3);
  assert.deepEqual({ ...(await some), ms: 0 }, { outcome: 'complete', pages: 0, state: false, bytes: 0, ms: 0 });
  assert.equal(store.blobs.size, 4);
  const whole = 3 * PAGE_BYTES + STATE_BYTES;
  assert.equal(await metricOf(served.metrics, 'guildhall_kv_served_bytes_total'), whole);
});

test('transfers beyond the limit wait for their turn', async () => {
  const { front, served } = await frontedHolder();
  const gate = Promise.withResolvers<void>();
  served.source.gate = gate.promise;
  const { puller } = pullerOf({ maxPulls: 1 });
  const other = new Prompt(3, 5);
  const first = puller.pull(requestTo(front.address));
  const waiting = puller.pull(requestTo(front.address, { pages: other.wanted(), stateName: null }));
  const abort = new AbortController();
  const leaving = puller.pull(requestTo(front.address, { pages: new Prompt(3, 6).wanted(), signal: abort.signal }));
  await eventually(() => served.source.reads.length > 0, 'the first transfer to run');
  abort.abort();
  assert.equal((await leaving).outcome, 'cancelled');
  assert.deepEqual([puller.running, served.source.reads.length], [1, 1]);
  gate.resolve();
  assert.equal((await first).outcome, 'complete');
  assert.equal((await waiting).outcome, 'partial');
  assert.equal(puller.running, 0);
});

test('the holder keeps what is leased, for the time of the transfer', async () => {
  const { front } = await frontedHolder();
  const events: string[] = [];
  const { puller } = pullerOf({
    lease: async (holder, blobs) => {
      events.push(`lease ${holder} ${blobs.length}`);
      return async () => void events.push('release');
    },
  });
  assert.equal((await puller.pull(requestTo(front.address))).outcome, 'complete');
  await eventually(() => events.length === 2, 'the lease to end');
  assert.deepEqual(events, ['lease router-2 4', 'release']);
});

test('a lease that cannot be had changes nothing', async () => {
  const { front } = await frontedHolder();
  const { puller } = pullerOf({ lease: () => Promise.reject(new RangeError('Redis is away')) });
  assert.equal((await puller.pull(requestTo(front.address))).outcome, 'complete');
});

test('channels are shared by address and closed when idle', async () => {
  const { front } = await frontedHolder();
  const { puller, channels, store } = pullerOf();
  await Promise.all([
    puller.pull(requestTo(front.address, { pages: prompt.wanted().slice(0, 1), stateName: null })),
    puller.pull(requestTo(front.address, { pages: prompt.wanted().slice(1, 2), stateName: null })),
  ]);
  assert.deepEqual([channels.size, store.blobs.size], [1, 2]);
  channels.close();
  assert.equal(channels.size, 0);
  const missing: PageName[] = prompt
    .wanted()
    .slice(2)
    .map(({ name }) => name);
  const again: PullResult = await puller.pull(requestTo(front.address, { pages: prompt.wanted().slice(2) }));
  assert.deepEqual([again.outcome, missing.every((name) => store.where('page', name) !== null)], ['complete', true]);
});
