// The X.509 library needs this polyfill to be there first.
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { request } from 'node:https';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect as connectTls } from 'node:tls';
import { after, before, test } from 'node:test';
import { X509CertificateGenerator } from '@peculiar/x509';
import { type ErrorCode, FakeClock, isGuildhallError } from '@guildhall/common';
import { makeRequest } from './authority.ts';
import { join, parseHeadUrl, renew, trustHead } from './join-client.ts';
import { MESSAGE_LIMIT_BYTES } from './join-messages.ts';
import { JoinRig } from './testing/join-rig.ts';

let rig: JoinRig;
before(async () => {
  rig = await JoinRig.start();
});
after(() => rig?.stop());

const isCode =
  (code: ErrorCode, text = /./) =>
  (error: unknown): boolean => {
    assert.ok(isGuildhallError(error), String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    return true;
  };

/** A request as somebody would send it who does not use our client. */
async function raw(
  method: string,
  path: string,
  body: string,
  localAddress = '127.0.0.1',
): Promise<{ status: number; code: string; retryAfter: string | undefined }> {
  const outgoing = request({
    host: '127.0.0.1',
    port: rig.port,
    method,
    path,
    agent: false,
    localAddress,
    ca: rig.dir.authority().certificate,
  });
  outgoing.end(body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  let text = '';
  for await (const part of response) text += String(part);
  const { error } = JSON.parse(text) as { error?: { code: string } };
  return { status: response.statusCode ?? 0, code: error?.code ?? '', retryAfter: response.headers['retry-after'] };
}

test('a machine with a token gets a certificate, an id and what the cluster is', async () => {
  const token = await rig.token();
  const answer = await rig.join(token, null, ['127.0.0.1', '10.0.0.9']);
  assert.match(answer.id, /^expert-\d+$/);
  assert.equal(answer.cluster.clusterToken, 'the-cluster-token');
  const leaf = new X509Certificate(answer.certificate);
  assert.ok(leaf.verify(new X509Certificate(rig.dir.authority().certificate).publicKey));
  assert.equal(leaf.subject, `CN=${answer.id}`);
  assert.equal(leaf.checkIP('10.0.0.9'), '10.0.0.9');
  assert.ok(rig.admitted.includes(answer.id));
  const record = rig.dir.members.find(answer.id);
  assert.equal(record?.token, token.id);
  assert.ok(!JSON.stringify(record).includes(answer.redisPassword ?? 'none'));
});

test('ids are given once, and a wish for one that is taken is refused with what to do', async () => {
  const token = await rig.token();
  const [one, other] = [await rig.join(token), await rig.join(token)];
  assert.notEqual(one.id, other.id);
  await rig.join(token, 'expert-70');
  await assert.rejects(rig.join(token, 'expert-70'), isCode('id_in_use', /cluster remove expert-70/));
  await assert.rejects(rig.join(token, 'router-1'), isCode('id_in_use'));
  await rig.dir.members.remove('expert-70');
  assert.equal((await rig.join(token, 'expert-70')).id, 'expert-70');
});

test('an unknown, a revoked and an expired token are refused, each for what it is', async () => {
  const token = await rig.token();
  await assert.rejects(rig.join({ ...token, secret: 'x'.repeat(32) }), isCode('join_token_invalid'));
  await rig.dir.tokens.revoke(token.id);
  await assert.rejects(rig.join(token), isCode('join_token_invalid', /revoked/));
  const short = await rig.token(0);
  await assert.rejects(rig.join(short), isCode('join_token_expired', /expired at/));
});

test('nothing is sent to a server with another authority', async () => {
  const other = await JoinRig.start();
  const sent: string[] = [];
  try {
    const hash = rig.dir.authority().hash;
    await assert.rejects(other.trust(hash), isCode('authority_mismatch', /nothing was sent/));
    // One that is no TLS server at all sees no more than the handshake.
    const plain = createServer((socket: Socket) => socket.on('data', (data) => sent.push(data.toString('latin1'))));
    plain.listen(0, '127.0.0.1');
    await once(plain, 'listening');
    const address = plain.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const attempt = trustHead({ host: '127.0.0.1', port }, hash, rig.clock);
    const [socket] = (await once(plain, 'connection')) as [Socket];
    socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await assert.rejects(attempt, isCode('peer_unavailable'));
    plain.close();
    assert.ok(!sent.join('').includes('POST'));
  } finally {
    await other.stop();
  }
  assert.equal(other.events.length, 0);
});

test('a clock that is far off is named, not hidden behind a certificate error', async () => {
  const head = { host: '127.0.0.1', port: rig.port };
  const hash = rig.dir.authority().hash;
  const years = new FakeClock(rig.clock.nowMs() - 3 * 365 * 86_400_000);
  await assert.rejects(trustHead(head, hash, years), isCode('clock_skew', /counts from .* to .*clock of this machine/));
  const rig2 = await JoinRig.start();
  try {
    const token = await rig2.token();
    const trusted = await rig2.trust();
    const { pem } = await makeRequest('new');
    const off = new FakeClock(rig2.clock.nowMs() + 6 * 60_000);
    const message = {
      version: '0.1.0',
      token: { id: token.id, secret: token.secret },
      id: null,
      addresses: ['127.0.0.1'],
      csr: pem,
    };
    await assert.rejects(join(trusted, message, off), isCode('clock_skew'));
    assert.deepEqual(rig2.dir.members.list(), []);
  } finally {
    await rig2.stop();
  }
});

test('a member renews with its certificate; the one before it still counts, older ones and strangers do not', async () => {
  const { id, certificate, key } = await rig.join(await rig.token());
  const head = await rig.trust();
  const ask = async (own: { certificate: string; key: string }): Promise<{ certificate: string; key: string }> => {
    const next = await makeRequest(id);
    const answer = await renew(head, own, { version: '0.1.0', addresses: ['127.0.0.1'], csr: next.pem });
    assert.equal(answer.id, id);
    assert.equal(answer.redisPassword, null);
    return { certificate: answer.certificate, key: next.key };
  };
  const first = { certificate, key };
  const second = await ask(first);
  await ask(second);
  // The answer to the last request may be lost: the certificate before it gets another one.
  await ask(second);
  await assert.rejects(ask(first), isCode('forbidden'));
  const stranger = await JoinRig.start();
  try {
    const theirs = await stranger.join(await stranger.token());
    await assert.rejects(ask(theirs), isCode('forbidden'));
  } finally {
    await stranger.stop();
  }
});

test('a certificate that only has the serial number of a member is not one', async () => {
  const { id } = await rig.join(await rig.token());
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const forged = await X509CertificateGenerator.createSelfSigned({
    serialNumber: rig.dir.members.find(id)?.serials[0] ?? assert.fail(),
    name: [{ CN: [id] }],
    signingAlgorithm: algorithm,
    keys: {
      privateKey: pair.privateKey.toCryptoKey(algorithm, false, ['sign']),
      publicKey: pair.publicKey.toCryptoKey(algorithm, true, ['verify']),
    },
  });
  const own = {
    certificate: forged.toString('pem'),
    key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
  const { pem } = await makeRequest(id);
  const attempt = renew(await rig.trust(), own, { version: '0.1.0', addresses: ['127.0.0.1'], csr: pem });
  await assert.rejects(attempt, isCode('forbidden', /certificate of this cluster/));
});

test('a member that was removed does not renew', async () => {
  const { id, certificate, key } = await rig.join(await rig.token());
  await rig.dir.members.remove(id);
  const { pem } = await makeRequest(id);
  const attempt = renew(
    await rig.trust(),
    { certificate, key },
    { version: '0.1.0', addresses: ['127.0.0.1'], csr: pem },
  );
  await assert.rejects(attempt, isCode('forbidden', /removed/));
});

test('a certificate for the address of the head is for machines that are the head', async () => {
  const { id, secret } = await rig.token();
  const { pem } = await makeRequest('new');
  const message = { protocol: 1, version: '0.1.0', addresses: ['10.0.0.1'], csr: pem, id: null, token: { id, secret } };
  const answer = await raw('POST', '/v1/join', JSON.stringify(message), '127.0.0.2');
  assert.equal(answer.code, 'forbidden');
  assert.equal((await raw('POST', '/v1/join', JSON.stringify(message), '127.0.0.1')).status, 200);
});

test('messages are bounded, and what is no message is said to be none', async () => {
  assert.deepEqual((await raw('POST', '/v1/join', 'x'.repeat(MESSAGE_LIMIT_BYTES + 1))).code, 'body_too_large');
  assert.equal((await raw('POST', '/v1/join', '{')).code, 'invalid_json');
  assert.equal((await raw('POST', '/v1/join', '{}')).code, 'invalid_value');
  assert.equal((await raw('POST', '/v1/renew', '{}')).code, 'forbidden');
  assert.equal((await raw('GET', '/', '')).status, 404);
});

test('plain text gets no answer', async () => {
  const socket = connect({ host: '127.0.0.1', port: rig.port });
  socket.write('GET /v1/about HTTP/1.1\r\nhost: x\r\n\r\n');
  let answer = '';
  socket.on('data', (data) => (answer += data.toString('latin1'))).on('error', () => undefined);
  await once(socket, 'close');
  assert.ok(!answer.includes('HTTP/1.1 200'));
});

test('guesses are counted: after ten an address has to wait, whatever it sends', async () => {
  const guessed = await JoinRig.start();
  try {
    const token = await guessed.token();
    const attempt = (): Promise<unknown> => guessed.join({ ...token, secret: 'x'.repeat(32) });
    for (let guess = 0; guess < 10; guess++) await assert.rejects(attempt(), isCode('join_token_invalid'));
    await assert.rejects(guessed.join(token), isCode('rate_limited', /wait/));
    await guessed.clock.advance(60_000);
    await guessed.join(token);
  } finally {
    await guessed.stop();
  }
});

test('a machine with another join protocol is told both versions', async () => {
  const body = { protocol: 2, version: '9.9.9', addresses: ['127.0.0.1'], csr: '', id: null, token: await rig.token() };
  const { id, secret } = body.token;
  const answer = await raw('POST', '/v1/join', JSON.stringify({ ...body, token: { id, secret } }));
  assert.equal(answer.code, 'protocol_mismatch');
});

test('URLs of a head', () => {
  assert.deepEqual(parseHeadUrl('https://10.0.0.1'), { host: '10.0.0.1', port: 7443 });
  assert.deepEqual(parseHeadUrl('https://10.0.0.1:443'), { host: '10.0.0.1', port: 443 });
  assert.deepEqual(parseHeadUrl('https://[fd00::1]:9000/'), { host: 'fd00::1', port: 9000 });
  for (const text of ['http://10.0.0.1', 'https://10.0.0.1/x', 'nonsense', 'https://me@10.0.0.1'])
    assert.throws(() => parseHeadUrl(text), isCode('config_invalid'), text);
});

test('the server speaks no TLS older than 1.2', async () => {
  const socket = connectTls({ host: '127.0.0.1', port: rig.port, rejectUnauthorized: false, maxVersion: 'TLSv1.1' });
  await assert.rejects(once(socket, 'secureConnect'));
});
