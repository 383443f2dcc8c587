import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, type ClientOptions, Metadata, type ServiceError } from '@grpc/grpc-js';
import { service } from 'grpc-health-check';
import { FakeClock } from '../clock.ts';
import { authMetadata } from './auth.ts';
import { channelCredentials } from './channel.ts';
import { GrpcHealth } from './health.ts';
import { bindGrpcServer, createGrpcServer, shutDownGrpcServer } from './server.ts';

const CONFIG = { clusterToken: 'long-enough', tlsCert: null, tlsKey: null, tlsCa: null };
const { Check: check, Watch: watch } = service as Record<string, never> as unknown as Record<
  string,
  { path: string; requestSerialize: (v: unknown) => Buffer; responseDeserialize: (b: Buffer) => { status: string } }
>;

function ask(client: Client, name: string, metadata: Metadata): Promise<string> {
  assert.ok(check !== undefined);
  const { path, requestSerialize, responseDeserialize } = check;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, { service: name }, metadata, (err, answer) =>
      err === null ? resolve(answer?.status ?? '') : reject(err),
    );
  });
}

test('health is asked without the cluster token, by the server and by each service, and follows readiness', async () => {
  const clock = new FakeClock();
  let ready = false;
  const server = createGrpcServer(CONFIG, { maxMessageBytes: 1 << 20 });
  const health = new GrpcHealth(server, { services: ['guildhall.v1.Router'], ready: () => ready, clock });
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  const client = new Client(address, channelCredentials(CONFIG), {} satisfies ClientOptions);
  const anybody = new Metadata();
  try {
    for (const name of ['', 'guildhall.v1.Router']) assert.equal(await ask(client, name, anybody), 'NOT_SERVING');
    ready = true;
    await clock.advance(1000);
    for (const name of ['', 'guildhall.v1.Router']) assert.equal(await ask(client, name, anybody), 'SERVING');
    const unknown = await ask(client, 'guildhall.v1.Nothing', anybody).catch((err: ServiceError) => err.code);
    assert.equal(unknown, 5);
    health.close();
    assert.equal(await ask(client, '', anybody), 'NOT_SERVING');
  } finally {
    client.close();
    await shutDownGrpcServer(server, 0);
  }
});

test('a stream of health, which costs memory for as long as it is open, needs the cluster token', async () => {
  assert.ok(watch !== undefined);
  const { path, requestSerialize, responseDeserialize } = watch;
  const server = createGrpcServer(CONFIG, { maxMessageBytes: 1 << 20 });
  const health = new GrpcHealth(server, { services: [], ready: () => true, clock: new FakeClock() });
  const address = await bindGrpcServer(server, '127.0.0.1:0');
  const client = new Client(address, channelCredentials(CONFIG), {});
  const first = (metadata: Metadata): Promise<unknown> =>
    new Promise((resolve) => {
      const stream = client.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        { service: '' },
        metadata,
      );
      stream.once('data', ({ status }: { status: string }) => {
        resolve(status);
        stream.cancel();
      });
      stream.on('error', (err: ServiceError) => resolve(err.code));
    });
  try {
    assert.equal(await first(new Metadata()), 16);
    assert.equal(await first(authMetadata(CONFIG)), 'SERVING');
  } finally {
    health.close();
    client.close();
    await shutDownGrpcServer(server, 0);
  }
});
