import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Client, type ClientDuplexStream, type ServerDuplexStream } from '@grpc/grpc-js';
import { makeCertificates } from '../../../../test/harness/certificates.ts';
import { eventually } from '../testing/index.ts';
import { TlsFiles } from '../tls-files.ts';
import { authMetadata } from './auth.ts';
import { channelCredentials, channelOptions } from './channel.ts';
import { identityBidiDefinition, openIdentityStream } from './identity.ts';
import { bindGrpcServer, createGrpcServer, shutDownGrpcServer } from './server.ts';

const PATH = '/test.Echo/Stream';
const LIMIT = { maxMessageBytes: 1 << 20, tlsRefreshMs: 20 };
const dir = mkdtempSync(join(tmpdir(), 'guildhall-rotation-'));
after(() => rmSync(dir, { recursive: true }));

const old = makeCertificates(dir, 'old');
const fresh = makeCertificates(dir, 'fresh');

/** Files of one process, replaced by renaming as cert-manager and Kubernetes do. */
class Mounted {
  readonly config;
  readonly #base: string;

  constructor(name: string) {
    this.#base = join(dir, name);
    const file = (suffix: string): string => `${this.#base}-${suffix}`;
    this.config = { clusterToken: null, tlsCert: file('tls.crt'), tlsKey: file('tls.key'), tlsCa: file('ca.crt') };
    this.put({ cert: old.cert, key: old.key, ca: [old.ca] });
  }

  put({ cert, key, ca }: { cert?: string; key?: string; ca?: string[] }): void {
    if (cert !== undefined) this.#replace('tls.crt', cert);
    if (key !== undefined) this.#replace('tls.key', key);
    if (ca === undefined) return;
    writeFileSync(`${this.#base}-bundle`, ca.map((path) => readFileSync(path, 'utf8')).join(''));
    this.#replace('ca.crt', `${this.#base}-bundle`);
  }

  #replace(name: string, from: string): void {
    copyFileSync(from, `${this.#base}-next`);
    renameSync(`${this.#base}-next`, `${this.#base}-${name}`);
  }
}

function echo(stream: ServerDuplexStream<Buffer, Buffer>): void {
  stream.on('data', (message: Buffer) => void stream.write(message));
  stream.on('error', () => undefined);
  stream.on('end', () => stream.end());
}

interface Echo {
  say(): Promise<boolean>;
  close(): void;
}

function connect(address: string, { config }: Mounted): Echo {
  const client = new Client(address, channelCredentials(config, LIMIT), channelOptions(LIMIT));
  const stream: ClientDuplexStream<Buffer, Buffer> = openIdentityStream(client, PATH, authMetadata(config));
  let broken = false;
  stream.on('error', () => (broken = true));
  return {
    say: () =>
      new Promise((resolve) => {
        if (broken) return resolve(false);
        stream.once('data', () => resolve(true)).once('error', () => resolve(false));
        stream.write(Buffer.from('still there?'));
      }),
    close: () => client.close(),
  };
}

/** Whether a connection of its own, made now, is taken. */
async function isTaken(address: string, mounted: Mounted): Promise<boolean> {
  const echo = connect(address, mounted);
  const taken = await echo.say();
  echo.close();
  return taken;
}

test('authority and certificates are rotated under a stream: it goes on, and new connections use what is new', async () => {
  const [ours, theirs, stranger] = [new Mounted('server'), new Mounted('client'), new Mounted('stranger')];
  const server = createGrpcServer(ours.config, LIMIT);
  server.addService({ stream: identityBidiDefinition(PATH) }, { stream: echo });
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  const running = connect(address, theirs);
  try {
    assert.ok(await running.say());
    // First everybody trusts both authorities, then everybody gets a new certificate, then the old authority goes.
    for (const mounted of [ours, theirs]) mounted.put({ ca: [old.ca, fresh.ca] });
    assert.ok(await isTaken(address, theirs));
    theirs.put({ cert: fresh.cert, key: fresh.key });
    await eventually(() => isTaken(address, theirs), 'the server to trust the new authority');
    ours.put({ cert: fresh.cert, key: fresh.key });
    assert.ok(await isTaken(address, theirs));
    for (const mounted of [ours, theirs]) mounted.put({ ca: [fresh.ca] });
    stranger.put({ ca: [old.ca, fresh.ca] });
    await eventually(async () => !(await isTaken(address, stranger)), 'the old certificate to be refused');
    await eventually(() => isTaken(address, theirs), 'the new one to be taken');
    assert.ok(await running.say(), 'a stream from before is still there');
  } finally {
    running.close();
    await shutDownGrpcServer(server, 0);
  }
});

test('a server without an authority of its own takes callers without certificates', async () => {
  const { config } = new Mounted('open');
  const server = createGrpcServer({ ...config, tlsCa: null }, LIMIT);
  server.addService({ stream: identityBidiDefinition(PATH) }, { stream: echo });
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  const client = new Client(
    address,
    channelCredentials({ ...config, tlsCert: null, tlsKey: null }),
    channelOptions(LIMIT),
  );
  try {
    const stream = openIdentityStream(client, PATH, authMetadata(config));
    const answer = new Promise((resolve) => stream.once('data', resolve).once('error', resolve));
    stream.write(Buffer.from('hello'));
    assert.deepEqual(await answer, Buffer.from('hello'));
  } finally {
    client.close();
    await shutDownGrpcServer(server, 0);
  }
});

test('files that do not fit each other, or are gone, change nothing until they are whole again', () => {
  const mounted = new Mounted('half');
  const file = (path: string, field: string): { path: string; field: string } => ({ path, field });
  const { tlsCert, tlsKey, tlsCa } = mounted.config;
  const files = new TlsFiles({ cert: file(tlsCert, 'tlsCert'), key: file(tlsKey, 'tlsKey'), ca: file(tlsCa, 'tlsCa') });
  const before = files.current();
  assert.equal(files.current(), before);
  mounted.put({ cert: fresh.cert });
  assert.equal(files.current(), before);
  assert.match(files.problem ?? '', /cannot be used/);
  mounted.put({ key: fresh.key });
  assert.notEqual(files.current(), before);
  assert.equal(files.problem, null);
  const whole = files.current();
  rmSync(tlsCa);
  assert.equal(files.current(), whole);
  assert.match(files.problem ?? '', /cannot be read/);
  assert.throws(() => new TlsFiles({ cert: null, key: null, ca: file(tlsCa, 'tlsCa') }), {
    code: 'config_invalid',
    field: 'tlsCa',
  });
});
