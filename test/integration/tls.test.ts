import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, get, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import {
  authMetadata,
  channelCredentials,
  channelOptions,
  fromGrpc,
  type GuildhallError,
  isGuildhallError,
} from '@guildhall/common';
import { router } from '@guildhall/proto';
import { makeCertificates, type Certificates } from '../harness/certificates.ts';
import { Cluster } from '../harness/cluster.ts';
import { streamTokens } from '../harness/stream.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;
let scratch: string;
let own: Certificates;
let foreign: Certificates;

before(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-tls-'));
  own = makeCertificates(scratch, 'own');
  foreign = makeCertificates(scratch, 'foreign');
  const env = { GUILDHALL_TLS_CERT: own.cert, GUILDHALL_TLS_KEY: own.key, GUILDHALL_TLS_CA: own.ca };
  cluster = await Cluster.start({ workers: 2, env });
});
after(async () => {
  await cluster?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** Asks the router about itself; resolves with its id, rejects with the error. */
async function info(
  tls: { cert: Certificates | null; ca: Certificates | null },
  token: string | null,
): Promise<string> {
  const config = {
    tlsCert: tls.cert?.cert ?? null,
    tlsKey: tls.cert?.key ?? null,
    tlsCa: tls.ca?.ca ?? null,
    clusterToken: token,
  };
  const { address } = await (cluster.routers[0] ?? assert.fail()).listening();
  const client = new router.RouterClient(
    address,
    channelCredentials(config),
    channelOptions({ maxMessageBytes: 1 << 20 }),
  );
  try {
    return await new Promise<string>((resolve, reject) => {
      client.getInfo({}, authMetadata(config), { deadline: Date.now() + 5000 }, (error, answer) => {
        if (error === null) resolve(answer.routerId);
        else reject(fromGrpc(error) as GuildhallError);
      });
    });
  } finally {
    client.close();
  }
}

test('tokens flow over mutual TLS', async () => {
  const tokens = await streamTokens(cluster, { prompt: 'Hello!', maxTokens: 10, seed: 1 });
  assert.equal(tokens.length, 10);
  assert.equal(await info({ cert: own, ca: own }, cluster.token), 'router-1');
});

test('a caller without the token, with another certificate, or with none is refused', async () => {
  const refused = (error: unknown): boolean => isGuildhallError(error);
  await assert.rejects(
    info({ cert: own, ca: own }, 'another-token'),
    (error) => isGuildhallError(error) && error.code === 'unauthorized',
  );
  await assert.rejects(
    info({ cert: own, ca: own }, null),
    (error) => isGuildhallError(error) && error.code === 'unauthorized',
  );
  await assert.rejects(info({ cert: foreign, ca: own }, cluster.token), refused);
  await assert.rejects(info({ cert: null, ca: own }, cluster.token), refused);
  await assert.rejects(info({ cert: null, ca: null }, cluster.token), refused);
});

test('a caller that trusts another authority refuses the router', async () => {
  await assert.rejects(info({ cert: own, ca: foreign }, cluster.token));
});

test('the gateway speaks HTTPS where it has a certificate', async () => {
  const args = [
    '--id=gateway-tls',
    `--model=${cluster.options.model}`,
    `--https-cert=${own.cert}`,
    `--https-key=${own.key}`,
  ];
  const gateway = cluster.spawn('gateway', args);
  const { address } = await gateway.listening();
  const request = get(`https://${address}/health`, { ca: readFileSync(own.ca) });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  response.resume();
  await once(response, 'end');
  await assert.rejects(fetch(`http://${address}/health`));
  await gateway.stop();
});

/** A folder as Kubernetes mounts a secret: its files are links through `..data`, which is replaced in one step. */
class MountedSecret {
  readonly cert: string;
  readonly key: string;
  readonly #dir: string;
  #versions = 0;

  constructor(dir: string, certificates: Certificates) {
    this.#dir = dir;
    mkdirSync(dir);
    this.put(certificates);
    [this.cert, this.key] = [join(dir, 'tls.crt'), join(dir, 'tls.key')];
    symlinkSync('..data/tls.crt', this.cert);
    symlinkSync('..data/tls.key', this.key);
  }

  put({ cert, key }: Certificates): void {
    this.#versions += 1;
    const version = `..${this.#versions}`;
    mkdirSync(join(this.#dir, version));
    copyFileSync(cert, join(this.#dir, version, 'tls.crt'));
    copyFileSync(key, join(this.#dir, version, 'tls.key'));
    symlinkSync(version, join(this.#dir, '..new'));
    renameSync(join(this.#dir, '..new'), join(this.#dir, '..data'));
  }
}

/** Common name of the certificate that a new connection is shown. */
async function shownBy(address: string, ca: string): Promise<string> {
  const port = Number(address.slice(address.lastIndexOf(':') + 1));
  const socket = connect({ host: '127.0.0.1', port, ca: readFileSync(ca) });
  await once(socket, 'secureConnect');
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

interface Stream {
  /** Certificate of the connection that it came over. */
  shown: string;
  done: Promise<string>;
}

/** Begins a stream over `agent` and resolves with its first bytes. */
async function beginStream(address: string, agent: Agent, maxTokens: number): Promise<Stream> {
  const sent = request(`https://${address}/v1/completions`, { agent, method: 'POST' });
  sent.setHeader('content-type', 'application/json');
  const body = { model: 'tls', prompt: 'Hello', max_tokens: maxTokens, ignore_eos: true, stream: true };
  sent.end(JSON.stringify(body));
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  if (response.statusCode !== 200) response.resume();
  assert.equal(response.statusCode, 200);
  const shown = String((response.socket as TLSSocket).getPeerCertificate().subject.CN);
  let text = '';
  const done = once(
    response.on('data', (data: Buffer) => (text += data.toString())),
    'end',
  ).then(() => text);
  await once(response, 'data');
  return { shown, done };
}

test('a certificate that is rotated counts for new connections; kept ones, streams and a drain go on', async () => {
  const secret = new MountedSecret(join(scratch, 'mounted'), own);
  const gateway = cluster.spawn('gateway', [
    ...['--id=gateway-rotated', `--model=${cluster.options.model}`, '--served-model-name=tls'],
    ...[`--https-cert=${secret.cert}`, `--https-key=${secret.key}`, '--drain-ms=60000'],
  ]);
  const { address } = await gateway.listening();
  const kept = new Agent({ keepAlive: true, maxSockets: 1, ca: readFileSync(own.ca) });
  const whole = async (stream: Stream): Promise<void> => assert.match(await stream.done, /data: \[DONE\]\n\n$/);
  await until('the gateway to know the router', () => shownBy(address, own.ca).then((name) => name === 'own'));
  await until('a stream', () =>
    beginStream(address, kept, 4)
      .then(whole)
      .then(() => true),
  );
  secret.put(foreign);
  const streams = new Set<string>();
  await until('new connections to have the new certificate', async () => {
    const stream = await beginStream(address, kept, 20);
    await whole(stream);
    streams.add(stream.shown);
    return shownBy(address, foreign.ca).then(
      (name) => name === 'foreign',
      () => false,
    );
  });
  const last = await beginStream(address, kept, 100);
  streams.add(last.shown);
  assert.deepEqual([...streams], ['own'], 'the connection from before has served all of it');
  gateway.kill('SIGTERM');
  await whole(last);
  assert.equal(await gateway.exit(), 0);
  kept.destroy();
});

test('a certificate without its key is an error that names the flag', async () => {
  const gateway = cluster.spawn('gateway', [`--model=${cluster.options.model}`, `--https-cert=${own.cert}`]);
  assert.equal(await gateway.exit(), 1);
  assert.match(gateway.output, /--https-key/);
});
