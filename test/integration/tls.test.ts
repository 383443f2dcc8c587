import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
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

test('a certificate without its key is an error that names the flag', async () => {
  const gateway = cluster.spawn('gateway', [`--model=${cluster.options.model}`, `--https-cert=${own.cert}`]);
  assert.equal(await gateway.exit(), 1);
  assert.match(gateway.output, /--https-key/);
});
