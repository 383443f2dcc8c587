import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, test } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { authMetadata, channelCredentials, fromGrpc, type GuildhallError, packNames } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { pages } from '@guildhall/proto';
import type { ParkedRecord } from '../kv/parked.ts';
import { MAX_NAMES, PART_BYTES } from '../kv/peer/wire.ts';
import { crc32cReference } from '../testing/crc32c.ts';
import {
  type Holder,
  IDENTITY,
  makePuller,
  metricOf,
  NO_TOKEN,
  PAGE_BYTES,
  Prompt,
  startHolder,
  STATE_BYTES,
} from '../testing/peer-rig.ts';

const prompt = new Prompt(6);
const open: (() => void | Promise<void>)[] = [];
after(async () => {
  for (const close of open) await close();
});

async function holderOf(options: Parameters<typeof startHolder>[0] = {}): Promise<Holder> {
  const holder = await startHolder(options);
  for (let i = 0; i < 6; i++) holder.source.store.put(prompt.blob('page', i));
  holder.source.store.put(prompt.blob('state', 5));
  open.push(() => holder.stop());
  return holder;
}

function pullerOf(options: Parameters<typeof makePuller>[0] = {}): ReturnType<typeof makePuller> {
  const pulling = makePuller(options);
  open.push(() => pulling.close());
  return pulling;
}

/** A client with the small windows that HTTP/2 begins with. */
function clientOf({ address }: Holder): pages.PagesClient {
  const client = new pages.PagesClient(address, channelCredentials(NO_TOKEN), { 'grpc.use_local_subchannel_pool': 1 });
  open.push(() => client.close());
  return client;
}

function named(pageNames: Buffer, stateName: Buffer = Buffer.alloc(0)): pages.FetchRequest {
  return {
    modelFingerprint: IDENTITY.fingerprint,
    numericsId: IDENTITY.numericsId,
    what: { $case: 'named', value: { pageNames, stateName } },
  };
}

interface Answer {
  replies: pages.FetchReply[];
  error: GuildhallError | null;
}

/** Everything that a call gives. */
async function fetchAll(client: pages.PagesClient, request: pages.FetchRequest): Promise<Answer> {
  const answer: Answer = { replies: [], error: null };
  const call = client.fetch(request, new Metadata());
  await new Promise<void>((resolve) => {
    call.on('data', (reply: pages.FetchReply) => answer.replies.push(reply));
    call.on('end', () => resolve());
    call.on('error', (err) => {
      answer.error = fromGrpc(err);
      resolve();
    });
  });
  return answer;
}

/** Heads of an answer, and the bytes behind each. */
function blobsOf({ replies }: Answer): { head: pages.BlobHead; data: Buffer }[] {
  const blobs: { head: pages.BlobHead; parts: Buffer[] }[] = [];
  for (const { part } of replies) {
    if (part?.$case === 'head') blobs.push({ head: part.value, parts: [] });
    else if (part?.$case === 'data') {
      assert.ok(part.value.length <= PART_BYTES);
      blobs.at(-1)?.parts.push(part.value);
    }
  }
  return blobs.map(({ head, parts }) => ({ head, data: Buffer.concat(parts) }));
}

test('pages and state come over whole, in order, and both sides count the bytes', async () => {
  const holder = await holderOf();
  const { puller, store, metrics } = pullerOf();
  const signal = new AbortController().signal;
  const result = await puller.pull({
    holder: { routerId: 'router-2', address: holder.address },
    pages: prompt.wanted(),
    stateName: prompt.name(5),
    signal,
  });
  const bytes = 6 * PAGE_BYTES + STATE_BYTES;
  assert.deepEqual({ ...result, ms: 0 }, { outcome: 'complete', pages: 6, state: true, bytes, ms: 0 });
  for (let i = 0; i < 6; i++) {
    const { data, ...info } = prompt.blob('page', i);
    const got = store.get('page', prompt.name(i));
    assert.ok(got !== null && Buffer.from(data).equals(got.data), `page ${i}`);
    assert.deepEqual({ ...got, data: null }, { ...info, data: null });
    assert.equal(got.data.byteLength, got.data.buffer.byteLength, 'memory of its own');
  }
  assert.deepEqual(store.get('state', prompt.name(5))?.data.length, STATE_BYTES);
  assert.equal(await metricOf(holder.metrics, 'guildhall_kv_served_bytes_total'), bytes);
  assert.equal(await metricOf(metrics, 'guildhall_kv_pulled_bytes_total'), bytes);
  assert.equal(await metricOf(metrics, 'guildhall_kv_pulls_total', '"complete"'), 1);
});

test('sending stops at the first page that is gone', async () => {
  const holder = await holderOf();
  holder.source.store.blobs.delete(`p${prompt.name(2)}`);
  const answer = await fetchAll(clientOf(holder), named(packNames(prompt.names.first(6)), packNames([prompt.name(5)])));
  assert.equal(answer.error, null);
  assert.deepEqual(
    blobsOf(answer).map(({ head }) => head.name.toString('latin1')),
    [prompt.name(0), prompt.name(1)],
  );
  const { puller, store } = pullerOf();
  const result = await puller.pull({
    holder: { routerId: 'router-2', address: holder.address },
    pages: prompt.wanted(),
    stateName: prompt.name(5),
    signal: new AbortController().signal,
  });
  assert.equal(result.outcome, 'partial');
  assert.equal(store.blobs.size, 2);
});

test('another checkpoint or numerics class is refused with both values', async () => {
  const client = clientOf(await holderOf());
  const request = named(packNames([prompt.name(0)]));
  for (const [change, code, field] of [
    [{ modelFingerprint: 'other' }, 'fingerprint_mismatch', 'model_fingerprint'],
    [{ numericsId: 'other' }, 'numerics_mismatch', 'numerics_id'],
  ] as const) {
    const { replies, error } = await fetchAll(client, { ...request, ...change });
    assert.equal(replies.length, 0);
    assert.deepEqual([error?.code, error?.field], [code, field]);
    const own = code === 'numerics_mismatch' ? IDENTITY.numericsId : IDENTITY.fingerprint;
    assert.ok(error?.message.includes('other') && error.message.includes(own), error?.message);
  }
});

const tooMany = Buffer.alloc(16 * (MAX_NAMES + 1));
for (const [what, request, code] of [
  ['too many names', named(tooMany), 'invalid_value'],
  ['names cut off', named(Buffer.alloc(17)), 'invalid_value'],
  ['two state names', named(Buffer.alloc(16), Buffer.alloc(32)), 'invalid_value'],
  ['half a state name', named(Buffer.alloc(16), Buffer.alloc(8)), 'invalid_value'],
  ['nothing', { ...named(Buffer.alloc(0)), what: undefined }, 'missing_field'],
  [
    'an unknown handle',
    {
      ...named(Buffer.alloc(0)),
      what: { $case: 'sequence' as const, value: { handle: 'x'.repeat(1000), firstPage: 0 } },
    },
    'not_found',
  ],
] as const) {
  test(`refused: ${what}`, async () => {
    const holder = await holderOf();
    const { replies, error } = await fetchAll(clientOf(holder), request);
    assert.deepEqual([replies.length, error?.code], [0, code]);
    assert.deepEqual(holder.source.reads, []);
    assert.equal(await metricOf(holder.metrics, 'guildhall_kv_fetches_total', '"refused"'), 1);
  });
}

test('without the cluster token nothing is given', async () => {
  const holder = await holderOf({ clusterToken: 'secret-of-the-cluster' });
  const request = {
    holder: { routerId: 'router-2', address: holder.address },
    pages: prompt.wanted(),
    stateName: null,
    signal: new AbortController().signal,
  };
  const stranger = pullerOf();
  assert.equal((await stranger.puller.pull(request)).outcome, 'refused');
  assert.equal(stranger.store.blobs.size, 0);
  const member = pullerOf({ clusterToken: 'secret-of-the-cluster' });
  assert.equal((await member.puller.pull(request)).outcome, 'complete');
});

test('more fetches than the limit are refused as overloaded, and taken again later', async () => {
  const holder = await holderOf({ maxFetches: 2 });
  const gate = Promise.withResolvers<void>();
  holder.source.gate = gate.promise;
  const client = clientOf(holder);
  const request = named(packNames([prompt.name(0)]));
  const running = [fetchAll(client, request), fetchAll(client, request)];
  await eventually(() => holder.source.reads.length >= 2, 'two fetches to run');
  assert.equal((await fetchAll(client, request)).error?.code, 'overloaded');
  gate.resolve();
  for (const answer of await Promise.all(running)) assert.equal(blobsOf(answer).length, 1);
  assert.equal((await fetchAll(client, request)).error, null);
  assert.equal(await metricOf(holder.metrics, 'guildhall_kv_fetches_total', '"overloaded"'), 1);
});

test('a reader that does not read is cut off, and its place is free', async () => {
  const holder = await holderOf({ maxFetches: 1, readerLimitMs: 200 });
  const client = clientOf(holder);
  const long = new Prompt(50, 2);
  for (let i = 0; i < 50; i++) holder.source.store.put(long.blob('page', i));
  const call = client.fetch(named(packNames(long.names.first(50))), new Metadata());
  const ended = new Promise<GuildhallError>((resolve) => call.on('error', (err) => resolve(fromGrpc(err))));
  call.once('data', () => call.pause());
  await eventually(
    () => metricOf(holder.metrics, 'guildhall_kv_fetches_total', '"stalled"'),
    'the reader to be cut off',
  );
  // What the client and the transport have taken, and little more.
  assert.ok(holder.source.reads.length < 30, `${holder.source.reads.length} pages were read`);
  call.resume();
  assert.equal((await ended).code, 'cancelled');
  // Nothing is sent here, so that how fast this test reads does not matter.
  const empty = await fetchAll(client, named(Buffer.alloc(16)));
  assert.deepEqual([empty.error, empty.replies.length], [null, 0]);
});

test('a cancelled fetch reads no further', async () => {
  const holder = await holderOf();
  const gate = Promise.withResolvers<void>();
  holder.source.gate = gate.promise;
  const call = clientOf(holder).fetch(named(packNames(prompt.names.first(6))), new Metadata());
  call.on('error', () => undefined);
  await eventually(() => holder.source.reads.length > 0, 'the fetch to begin');
  call.cancel();
  await eventually(() => holder.source.signal?.aborted, 'the holder to know');
  gate.resolve();
  await eventually(() => metricOf(holder.metrics, 'guildhall_kv_fetches_total', '"cancelled"'), 'the fetch to end');
  assert.equal(holder.source.reads.length, 1);
});

test('a source that breaks ends its own call with an error', async () => {
  let reads = 0;
  const source = {
    read: () => {
      reads += 1;
      return Promise.reject(new RangeError('a defect'));
    },
  };
  const holder = await holderOf({ source });
  const { error } = await fetchAll(clientOf(holder), named(packNames(prompt.names.first(3))));
  assert.equal(error?.code, 'internal');
  assert.ok(!error.message.includes('defect'));
  assert.equal(reads, 1);
});

/** A record of `numPages` pages, the first two of them shared. */
function recordOf(numPages: number, onRelease: () => void): ParkedRecord {
  const blob = (fill: number): { data: Uint8Array; checksum: number } => {
    const data = Buffer.alloc(PAGE_BYTES, fill);
    return { data, checksum: crc32cReference(data) };
  };
  return {
    numComputed: 64 * numPages - 10,
    tokenDigest: createHash('sha256').update('tokens').digest(),
    numPages,
    firstOwnPage: 2,
    page: async (index) => blob(index),
    state: async () => blob(200),
    release: onRelease,
  };
}

test('a parked sequence gives its own pages and its state, until it is released', async () => {
  const holder = await holderOf();
  const client = clientOf(holder);
  let released = 0;
  const handle = holder.parked.park(recordOf(4, () => (released += 1)));
  const request = (firstPage: number): pages.FetchRequest => ({
    ...named(Buffer.alloc(0)),
    what: { $case: 'sequence', value: { handle, firstPage } },
  });
  const answer = await fetchAll(client, request(0));
  assert.equal(answer.error, null);
  const head = answer.replies[0]?.part;
  assert.ok(head?.$case === 'sequence');
  assert.deepEqual(
    { ...head.value, tokenDigest: head.value.tokenDigest.toString('hex') },
    {
      numComputed: 246,
      tokenDigest: createHash('sha256').update('tokens').digest('hex'),
      numPages: 4,
      firstOwnPage: 2,
    },
  );
  const blobs = blobsOf(answer);
  assert.deepEqual(
    blobs.map(({ head: { kind, index, size } }) => [kind, index, Number(size)]),
    [
      [pages.BlobKind.BLOB_KIND_PAGE, 2, PAGE_BYTES],
      [pages.BlobKind.BLOB_KIND_PAGE, 3, PAGE_BYTES],
      [pages.BlobKind.BLOB_KIND_STATE, 0, PAGE_BYTES],
    ],
  );
  for (const {
    head: { checksum },
    data,
  } of blobs)
    assert.equal(crc32cReference(data), checksum);
  assert.deepEqual(blobsOf(await fetchAll(client, request(3))).length, 2);
  const release = (): Promise<boolean> =>
    new Promise((resolve, reject) => {
      client.release({ handle }, authMetadata(NO_TOKEN), (err, reply) => (err ? reject(err) : resolve(reply.released)));
    });
  assert.equal(await release(), true);
  assert.equal(await release(), false);
  assert.equal(released, 1);
  assert.equal((await fetchAll(client, request(0))).error?.code, 'not_found');
});
