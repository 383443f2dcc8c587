import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Client, type ClientDuplexStream, Metadata, Server, type ServerDuplexStream } from '@grpc/grpc-js';
import { fail, fromGrpc, type GuildhallError, toGrpc } from '../errors.ts';
import { authMetadata, sameSecret } from './auth.ts';
import { channelCredentials, channelOptions, MAX_MESSAGE_BYTES, WINDOW_BYTES } from './channel.ts';
import { identityBidiDefinition, openIdentityStream } from './identity.ts';
import { bindGrpcServer, createGrpcServer, type GrpcServerConfig, shutDownGrpcServer } from './server.ts';
import { ServerWindow } from './window.ts';

const PATH = '/test.Echo/Stream';
const PLAIN: GrpcServerConfig = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };
const LIMIT = { maxMessageBytes: 1 << 20 };
const dir = mkdtempSync(join(tmpdir(), 'guildhall-grpc-'));
after(() => rmSync(dir, { recursive: true }));

type Handler = (stream: ServerDuplexStream<Buffer, Buffer>) => void;

const echo: Handler = (stream) => {
  stream.on('data', (message: Buffer) => void stream.write(message));
  stream.on('end', () => stream.end());
  stream.on('error', () => undefined);
};

async function serve(
  config: GrpcServerConfig,
  handler: Handler = echo,
): Promise<{ address: string; stop: () => Promise<void> }> {
  const server = createGrpcServer(config, LIMIT);
  server.addService({ stream: identityBidiDefinition(PATH) }, { stream: handler });
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  return { address, stop: () => shutDownGrpcServer(server, 0) };
}

interface Call {
  stream: ClientDuplexStream<Buffer, Buffer>;
  next(): Promise<Buffer>;
  failed: Promise<GuildhallError>;
  close(): void;
}

function call(address: string, config: GrpcServerConfig, metadata = authMetadata(config), limit = LIMIT): Call {
  const client = new Client(address, channelCredentials(config), {
    ...channelOptions(limit),
    'grpc.ssl_target_name_override': 'worker.test',
  });
  const stream = openIdentityStream(client, PATH, metadata);
  const failed = new Promise<GuildhallError>((resolve) => stream.on('error', (err) => resolve(fromGrpc(err))));
  return {
    stream,
    failed,
    next: () => new Promise((resolve) => stream.once('data', resolve)),
    close: () => client.close(),
  };
}

test('bytes cross a stream as they are, whatever their size', async () => {
  const server = await serve(PLAIN);
  const client = call(server.address, PLAIN);
  for (const size of [0, 1, 16_383, 300_000, LIMIT.maxMessageBytes]) {
    const message = Buffer.alloc(size, size % 251);
    const answer = client.next();
    client.stream.write(message);
    assert.ok((await answer).equals(message), `${size} bytes`);
  }
  client.stream.end();
  client.close();
  await server.stop();
});

test('the receive windows are 8 MiB for streams and connections, and a bind checks it', async () => {
  const server = createGrpcServer(PLAIN, LIMIT);
  const window = new ServerWindow(server);
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  assert.deepEqual(await window.verify(address, null), { stream: WINDOW_BYTES, connection: WINDOW_BYTES });
  await shutDownGrpcServer(server, 0);
});

test('a server whose windows did not take effect does not start', async () => {
  const server = createGrpcServer(PLAIN, LIMIT);
  const internals = server as unknown as { commonServerOptions: { settings: { initialWindowSize: number } } };
  internals.commonServerOptions.settings.initialWindowSize = 65_535;
  await assert.rejects(bindGrpcServer(server, '127.0.0.1:0'), {
    code: 'internal',
    message: /receive windows are 65535/,
  });
});

test('a server of another origin is refused', async () => {
  await assert.rejects(bindGrpcServer(new Server(), '127.0.0.1:0'), { code: 'internal' });
});

test('a message over the limit ends its own stream, not the server', async () => {
  const server = await serve(PLAIN);
  const big = call(server.address, PLAIN, new Metadata(), { maxMessageBytes: LIMIT.maxMessageBytes * 4 });
  const other = call(server.address, PLAIN);
  big.stream.write(Buffer.alloc(LIMIT.maxMessageBytes + 1));
  assert.equal((await big.failed).code, 'overloaded');
  const answer = other.next();
  other.stream.write(Buffer.from('still here'));
  assert.equal((await answer).toString(), 'still here');
  other.stream.end();
  big.close();
  other.close();
  await server.stop();
});

test('limits outside 64 KiB to 64 MiB are refused', () => {
  for (const maxMessageBytes of [-1, 0, 1000, MAX_MESSAGE_BYTES + 1, Number.NaN]) {
    assert.throws(() => createGrpcServer(PLAIN, { maxMessageBytes }), { code: 'config_invalid' });
    assert.throws(() => channelOptions({ maxMessageBytes }), { code: 'config_invalid' });
  }
});

test('without the cluster token a call is refused before its handler runs', async () => {
  let calls = 0;
  const config = { ...PLAIN, clusterToken: 'right-token' };
  const server = await serve(config, (stream) => {
    calls += 1;
    echo(stream);
  });
  for (const metadata of [
    new Metadata(),
    authMetadata({ clusterToken: 'wrong-token' }),
    authMetadata({ clusterToken: 'right-toke' }),
  ]) {
    const client = call(server.address, PLAIN, metadata);
    client.stream.write(Buffer.from('hello'));
    assert.equal((await client.failed).code, 'unauthorized');
    client.close();
  }
  assert.equal(calls, 0);
  const client = call(server.address, config);
  const answer = client.next();
  client.stream.write(Buffer.from('hello'));
  assert.equal((await answer).toString(), 'hello');
  client.stream.end();
  client.close();
  await server.stop();
});

test('secrets are compared whole', () => {
  assert.ok(sameSecret('abc', 'abc'));
  assert.ok(!sameSecret('abc', 'abcd'));
  assert.ok(!sameSecret('', 'abc'));
});

test('an error of a handler reaches the caller with its code and field', async () => {
  const server = await serve(PLAIN, (stream) => {
    stream.emit('error', toGrpc(fail('fingerprint_mismatch', 'have a, got b', { field: 'model_fingerprint' })));
  });
  const client = call(server.address, PLAIN);
  const err = await client.failed;
  assert.deepEqual([err.code, err.field, err.message], ['fingerprint_mismatch', 'model_fingerprint', 'have a, got b']);
  client.close();
  await server.stop();
});

test('an address that is taken is a configuration error', async () => {
  const server = await serve(PLAIN);
  await assert.rejects(bindGrpcServer(createGrpcServer(PLAIN, LIMIT), server.address), {
    code: 'config_invalid',
    field: 'listen',
  });
  await server.stop();
});

function makeCertificates(): GrpcServerConfig {
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
  const subject = ['-subj', '/CN=worker.test', '-addext', 'subjectAltName=DNS:worker.test'];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      '-keyout',
      key,
      '-out',
      cert,
      ...subject,
    ],
    { stdio: 'ignore' },
  );
  return { clusterToken: null, tlsCert: cert, tlsKey: key, tlsCa: cert };
}

test('with certificates both sides show theirs, and plaintext is refused', async () => {
  const config = makeCertificates();
  const server = await serve(config);
  const client = call(server.address, config);
  const answer = client.next();
  client.stream.write(Buffer.from('hello'));
  assert.equal((await answer).toString(), 'hello');
  client.stream.end();
  client.close();
  for (const stranger of [PLAIN, { ...config, tlsCert: null, tlsKey: null }]) {
    const refused = call(server.address, stranger);
    refused.stream.write(Buffer.from('hello'));
    assert.equal((await refused.failed).code, 'peer_unavailable');
    refused.close();
  }
  await server.stop();
});

test('a name may stand in for the address that certificates do not carry', async () => {
  const config = makeCertificates();
  const server = await serve(config);
  const ask = async (tlsServerName: string | null): Promise<string> => {
    const client = new Client(server.address, channelCredentials({ ...config, tlsServerName }), channelOptions(LIMIT));
    const stream = openIdentityStream(client, PATH, authMetadata(config));
    const answer = new Promise<string>((resolve) => {
      stream.once('data', (data: Buffer) => resolve(data.toString()));
      stream.on('error', (err) => resolve(fromGrpc(err).code));
    });
    stream.write(Buffer.from('hello'));
    const said = await answer;
    client.close();
    return said;
  };
  assert.equal(await ask('worker.test'), 'hello');
  assert.equal(await ask('other.test'), 'peer_unavailable');
  assert.equal(await ask(null), 'peer_unavailable', 'the address is in no certificate');
  await server.stop();
});

test('TLS files are checked at the start', () => {
  assert.throws(() => createGrpcServer({ ...PLAIN, tlsCert: join(dir, 'none') }, LIMIT), {
    code: 'config_invalid',
    field: 'tlsKey',
  });
  const missing = { ...PLAIN, tlsCert: join(dir, 'none'), tlsKey: join(dir, 'none') };
  assert.throws(() => createGrpcServer(missing, LIMIT), {
    code: 'config_invalid',
    field: 'tlsCert',
    message: /cannot be read/,
  });
  assert.throws(() => channelCredentials({ ...PLAIN, tlsCa: join(dir, 'none') }), {
    code: 'config_invalid',
    field: 'tlsCa',
  });
});
