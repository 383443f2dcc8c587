import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, beforeEach, test } from 'node:test';
import { fail, FakeClock, systemClock } from '@guildhall/common';
import { S3Server } from '../../../../test/fakes/s3-server.ts';
import { s3Place, S3Store } from './s3-store.ts';

const PART = 1000;
const BUCKET = 'files';
/** A server of another make, such as `http://127.0.0.1:5000`, with the credentials and the bucket of this test. */
const OTHER = process.env['GUILDHALL_TEST_S3'] ?? null;
const fake = new S3Server();
let store: S3Store;
let saved: Record<string, string | undefined>;

before(async () => {
  await fake.start();
  const env = OTHER === null ? fake.env : { ...fake.env, AWS_ENDPOINT_URL_S3: OTHER };
  saved = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]));
  // The SDK takes its credentials from the process's environment.
  Object.assign(process.env, env);
  // The server of another make wants parts as large as AWS does.
  store = await S3Store.open(
    { bucket: BUCKET, prefix: 'a/b/' },
    process.env,
    systemClock,
    OTHER === null ? PART : 5 << 20,
  );
});
after(async () => {
  store.close();
  for (const [name, value] of Object.entries(saved)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  await fake.stop();
});
beforeEach(() => {
  fake.seen.length = 0;
});

async function* chunks(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function readAll(name: string, from = store): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of from.read(name)) parts.push(part);
  return Buffer.concat(parts);
}

const onFake = { skip: OTHER !== null };

test('places are read, and what is none is not', () => {
  assert.deepEqual(s3Place('s3://my-bucket'), { bucket: 'my-bucket', prefix: '' });
  assert.deepEqual(s3Place('s3://my-bucket/'), { bucket: 'my-bucket', prefix: '' });
  assert.deepEqual(s3Place('s3://my-bucket/a/b/'), { bucket: 'my-bucket', prefix: 'a/b/' });
  for (const bad of ['my-bucket', 's3://', 's3:///x', 's3://UPPER/x', 'http://x/y', 's3://a b'])
    assert.equal(s3Place(bad), null, bad);
});

test('bytes come back as they went, of any size and however they are cut', async () => {
  const part = OTHER === null ? PART : 5 << 20;
  for (const size of [0, 1, part - 1, part, part + 1, 3 * part, 3 * part + 7]) {
    const bytes = randomBytes(size);
    for (const cut of [Math.max(1, part >> 3) + 3, 4 * part]) {
      assert.equal(await store.write(`files/${size}`, chunks(bytes, cut), 1e9), size);
      assert.ok((await readAll(`files/${size}`)).equals(bytes), `${size} bytes in pieces of ${cut}`);
    }
  }
});

test('what is larger than a part goes up in parts of that size, in order', onFake, async () => {
  await store.write('files/large', chunks(randomBytes(2 * PART + 5), 77), 1e9);
  const puts = fake.seen.filter(({ method }) => method === 'PUT').map(({ path }) => /partNumber=(\d+)/.exec(path)?.[1]);
  assert.deepEqual(puts, ['1', '2', '3']);
  assert.equal(fake.uploads.size, 0);
});

test('a source that fails or is too large leaves neither an object nor parts', onFake, async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield randomBytes(2 * PART + 1);
    assert.equal(fake.uploads.size, 1, 'the upload is under way');
    assert.ok(!fake.names.includes(`${BUCKET}/a/b/files/broken`), 'and nothing is to be seen of it');
    throw fail('cancelled', 'the client went away');
  }
  await assert.rejects(store.write('files/broken', broken(), 1e9), { code: 'cancelled' });
  await assert.rejects(store.write('files/broken', chunks(randomBytes(5 * PART), 300), 3 * PART), {
    code: 'body_too_large',
  });
  await assert.rejects(store.write('files/broken', chunks(randomBytes(20), 3), 19), { code: 'body_too_large' });
  assert.ok(!fake.names.some((name) => name.includes('broken')));
  assert.equal(fake.uploads.size, 0);
});

test('a file that is replaced keeps its old bytes until the new ones are all there', onFake, async () => {
  const old = randomBytes(10);
  await store.write('files/kept', chunks(old, 10), 1e9);
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield randomBytes(PART);
    assert.ok((await readAll('files/kept')).equals(old));
    yield randomBytes(1);
  }
  await store.write('files/kept', slow(), 1e9);
  assert.equal((await readAll('files/kept')).length, PART + 1);
});

test('objects are removed, one and all below a name, and no others', async () => {
  const names = [
    'parts/one/1',
    'parts/one/2',
    'parts/one/3',
    'parts/one/4',
    'parts/one/5',
    'parts/onerous',
    'parts/two/1',
  ];
  for (const name of names) await store.write(name, chunks(Buffer.from(name), 4), 100);
  await store.removeAll('parts/one');
  for (const name of names.slice(0, 5)) await assert.rejects(readAll(name), { code: 'not_found' }, name);
  assert.equal(String(await readAll('parts/onerous')), 'parts/onerous');
  await store.remove('parts/two/1');
  await store.remove('parts/two/1');
  await assert.rejects(readAll('parts/two/1'), { code: 'not_found' });
});

test('a read goes on where the connection broke', onFake, async () => {
  const bytes = randomBytes(5000);
  await store.write('files/cut', chunks(bytes, 5000), 1e9);
  fake.cut = { key: `${BUCKET}/a/b/files/cut`, afterBytes: 1234 };
  assert.ok((await readAll('files/cut')).equals(bytes));
  const gets = fake.seen.filter(({ method }) => method === 'GET').map(({ range }) => range);
  assert.deepEqual(gets, [null, 'bytes=1234-']);
});

test('refusals and a server that is away are said, without waiting for ever', onFake, async () => {
  fake.statuses.push(503);
  assert.equal(await store.write('files/x', chunks(Buffer.from('x'), 1), 10), 1, 'asked again');
  fake.statuses.push(503, 503, 503, 503);
  await assert.rejects(store.write('files/x', chunks(Buffer.from('x'), 1), 10), { code: 'storage_unavailable' });
  const gone = new FakeClock();
  const away = await S3Store.open({ bucket: BUCKET, prefix: '' }, { AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9' }, gone);
  await assert.rejects(away.write('x', chunks(Buffer.from('x'), 1), 10), { code: 'storage_unavailable' });
  away.close();
});
