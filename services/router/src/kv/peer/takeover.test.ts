import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createMetrics, FakeClock, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { pages } from '@guildhall/proto';
import { crc32cReference } from '../../testing/crc32c.ts';
import { MemoryStore } from '../../testing/memory-store.ts';
import { crc32cOf, IDENTITY, makePuller, metricOf, startHostile } from '../../testing/peer-rig.ts';
import { sequenceOf } from '../../testing/sequences.ts';
import { tokenDigest } from '../sequence-record.ts';
import { TakeOver, type TakeOverOptions, type TakeOverOutcome } from './takeover.ts';

const PAGE = 1000;
const STATE = 500;
const open: (() => void | Promise<void>)[] = [];
after(async () => {
  for (const close of open) await close();
});

/** 100 prompt tokens and 30 generated ones, of which 129 are computed: three pages. */
const sequence = (): ReturnType<typeof sequenceOf> =>
  sequenceOf({ numPrompt: 100, maxTokens: 60, generatedIds: Int32Array.from({ length: 30 }, (_, i) => i) });
const COMPUTED = 129;

type FetchCall = Parameters<pages.PagesServer['fetch']>[0];

function send(call: FetchCall, part: pages.FetchReply['part']): void {
  call.write({ part });
}

function sendHead(call: FetchCall, given: Partial<pages.SequenceHead> = {}): void {
  const seq = sequence();
  const digest = tokenDigest({ copyTokens: seq.copyTokens.bind(seq) }, given.numComputed ?? COMPUTED);
  const value = { numComputed: COMPUTED, tokenDigest: digest, numPages: 3, firstOwnPage: 0, ...given };
  send(call, { $case: 'sequence', value });
}

function sendBlob(call: FetchCall, index: number | 'state', given: Partial<pages.BlobHead> = {}): void {
  const isState = index === 'state';
  const data = Buffer.alloc(isState ? STATE : PAGE, isState ? 99 : index + 1);
  const value: pages.BlobHead = {
    kind: isState ? pages.BlobKind.BLOB_KIND_STATE : pages.BlobKind.BLOB_KIND_PAGE,
    name: Buffer.alloc(0),
    index: isState ? 0 : index,
    size: BigInt(data.length),
    checksum: crc32cReference(data),
    tokenIds: [],
    value: 0,
    ...given,
  };
  send(call, { $case: 'head', value });
  send(call, { $case: 'data', value: data });
}

function takeOver(options: Partial<TakeOverOptions> = {}) {
  const store = new MemoryStore();
  const metrics = createMetrics('router');
  const pulling = makePuller();
  open.push(() => pulling.close());
  const { puller, channels } = pulling;
  const taking = new TakeOver({
    channels,
    puller,
    cache: null,
    store,
    checksum: crc32cOf,
    clock: systemClock,
    metrics,
    logger: silentLogger(),
    identity: IDENTITY,
    pageBytes: PAGE,
    stateBytes: STATE,
    maxPulls: 4,
    stallMs: 30_000,
    limitMs: 60_000,
    ...options,
  });
  return { taking, store, metrics };
}

const everything = (call: FetchCall): void => {
  sendHead(call);
  for (const index of [0, 1, 2, 'state'] as const) sendBlob(call, index);
  call.end();
};

test('a whole sequence becomes a record of the store', async () => {
  const server = await startHostile(everything);
  open.push(() => server.stop());
  const { taking, store } = takeOver();
  const from = { routerId: 'router-1', address: server.address, handle: 'h', numComputed: COMPUTED };
  const record = await taking.take(sequence(), from, new AbortController().signal);
  assert.ok(record !== null);
  assert.deepEqual(
    [record.numComputed, record.numPages, record.firstOwnPage, record.bytes, record.hasState, record.shared],
    [COMPUTED, 3, 0, 3 * PAGE + STATE, true, []],
  );
  assert.deepEqual(
    [...store.heldBytes].map(([key, data]) => [key.slice(key.lastIndexOf('/') + 1), data[0], data.length]),
    [
      ['0', 1, PAGE],
      ['1', 2, PAGE],
      ['2', 3, PAGE],
      ['state', 99, STATE],
    ],
  );
  taking.discard(record);
  assert.equal(store.heldBytes.size, 0);
});

const digest = Buffer.alloc(32, 1);
const faults: [string, TakeOverOutcome, (call: FetchCall) => void][] = [
  ['other tokens', 'corrupt', (call) => sendHead(call, { tokenDigest: digest })],
  ['a digest of another length', 'corrupt', (call) => sendHead(call, { tokenDigest: Buffer.alloc(0) })],
  ['more tokens than there are', 'corrupt', (call) => sendHead(call, { numComputed: 131, numPages: 3 })],
  ['all tokens as computed', 'corrupt', (call) => sendHead(call, { numComputed: 130, numPages: 3 })],
  ['no tokens', 'corrupt', (call) => sendHead(call, { numComputed: 0, numPages: 0 })],
  ['a table of another length', 'corrupt', (call) => sendHead(call, { numPages: 4 })],
  ['a huge table', 'corrupt', (call) => sendHead(call, { numPages: 0xffffffff })],
  ['shared pages without a cache', 'corrupt', (call) => sendHead(call, { firstOwnPage: 1 })],
  ['a second head', 'corrupt', (call) => [sendHead(call), sendHead(call)]],
  ['a blob before the head', 'corrupt', (call) => sendBlob(call, 0)],
  ['pages in another order', 'corrupt', (call) => [sendHead(call), sendBlob(call, 1)]],
  ['a state instead of a page', 'corrupt', (call) => [sendHead(call), sendBlob(call, 'state')]],
  ['a page of another size', 'corrupt', (call) => [sendHead(call), sendBlob(call, 0, { size: 2n ** 40n })]],
  ['a wrong checksum', 'checksum', (call) => [sendHead(call), sendBlob(call, 0, { checksum: 1 })]],
  ['a page too many', 'corrupt', (call) => [sendHead(call), ...[0, 1, 2, 3].map((index) => sendBlob(call, index))]],
  [
    'nothing but pages',
    'truncated',
    (call) => {
      sendHead(call);
      for (const index of [0, 1, 2]) sendBlob(call, index);
      call.end();
    },
  ],
  ['nothing', 'truncated', (call) => call.end()],
  ['nothing but a head', 'truncated', (call) => [sendHead(call), call.end()]],
  ['a page and no end', 'stalled', (call) => [sendHead(call), sendBlob(call, 0)]],
];

for (const [what, outcome, misbehave] of faults) {
  test(`a router that gives: ${what}`, async () => {
    const server = await startHostile(misbehave);
    open.push(() => server.stop());
    const clock = new FakeClock();
    const { taking, store, metrics } = takeOver({ clock });
    const from = { routerId: 'router-1', address: server.address, handle: 'h', numComputed: COMPUTED };
    const taken = taking.take(sequence(), from, new AbortController().signal);
    if (outcome === 'stalled') {
      await eventually(() => store.heldBytes.size === 1, 'the page to come');
      await clock.advance(30_001);
    }
    assert.equal(await taken, null);
    assert.equal(await metricOf(metrics, 'guildhall_sequence_takeovers_total', `"${outcome}"`), 1);
    assert.equal(store.heldBytes.size, 0);
  });
}
