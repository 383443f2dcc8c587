import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
import { type Clock, errorMessage, fail, isGuildhallError, parseHostPort } from '@guildhall/common';
import { certificateHash } from './authority.ts';
import {
  about,
  admission,
  type Admission,
  JOIN_PROTOCOL,
  type JoinRequest,
  MESSAGE_LIMIT_BYTES,
  readError,
  readMessage,
  type RenewRequest,
} from './join-messages.ts';
import { plainAddress } from './join-server.ts';

/** Port of the join server unless the URL says another one. */
export const JOIN_PORT = 7443;
const CALL_LIMIT_MS = 15_000;
/** Certificates are backdated by ten minutes; beyond half of that something is wrong with a clock. */
const MAX_SKEW_MS = 5 * 60_000;

/** A join server that is believed: its authority is the one that the token or an earlier join named. */
export interface TrustedHead {
  host: string;
  port: number;
  /** PEM of the authority. */
  authority: string;
  /** Address of this machine on the way there: the one that others of the cluster reach. */
  localAddress: string;
}

/** Host and port of `https://HOST[:PORT]`. Throws `config_invalid`. */
export function parseHeadUrl(text: string): { host: string; port: number } {
  const url = URL.parse(text);
  const plain = url !== null && url.pathname === '/' && url.search === '' && url.username === '' && url.hash === '';
  if (url === null || url.protocol !== 'https:' || !plain)
    throw fail('config_invalid', `'${text}' is not a URL like https://10.0.0.1:${JOIN_PORT}`, { field: 'url' });
  // The default port of https is left out by URL.
  const explicit = /^https:\/\/[^/]*:443\/?$/i.test(text.trim()) ? 443 : JOIN_PORT;
  return parseHostPort(`${url.hostname}:${url.port === '' ? explicit : url.port}`);
}

/**
 * Connects, and compares the authority that the other side shows with the hash that the token came with. Nothing is
 * sent before that. Throws `authority_mismatch`, `clock_skew` and `peer_unavailable`.
 */
export async function trustHead(
  { host, port }: { host: string; port: number },
  authorityHash: string,
  clock: Clock,
): Promise<TrustedHead> {
  const socket = connect({ host, port, rejectUnauthorized: false, timeout: CALL_LIMIT_MS });
  socket.once('timeout', () => socket.destroy(new Error('no answer in time')));
  try {
    await once(socket, 'secureConnect');
    const chain = chainOf(socket);
    const root = chain.find((one) => certificateHash(one.raw) === authorityHash);
    if (root === undefined) {
      throw fail(
        'authority_mismatch',
        `the machine at ${host}:${port} is not the cluster that the token is from; nothing was sent to it`,
      );
    }
    checkValidity(chain, clock.nowMs());
    const localAddress = plainAddress(socket.localAddress);
    return { host, port, authority: toPem(root.raw), localAddress };
  } catch (err) {
    throw unreachable(err, host, port);
  } finally {
    socket.destroy();
  }
}

/** Asks for a certificate with a token, after a look at version and clock. Throws what the server answers. */
export async function join(
  head: TrustedHead,
  message: Omit<JoinRequest, 'protocol'>,
  clock: Clock,
): Promise<Admission> {
  const said = readMessage(about, await call(head, { method: 'GET', path: '/v1/about' }));
  if (said.protocol !== JOIN_PROTOCOL) {
    throw fail(
      'protocol_mismatch',
      `the cluster runs Guildhall ${said.version} (join protocol ${said.protocol}), this machine ${message.version} (${JOIN_PROTOCOL})`,
    );
  }
  const skewMs = clock.nowMs() - said.nowMs;
  if (Math.abs(skewMs) > MAX_SKEW_MS) throw skewError(clock.nowMs(), said.nowMs);
  const body = JSON.stringify({ ...message, protocol: JOIN_PROTOCOL });
  return readMessage(admission, await call(head, { method: 'POST', path: '/v1/join', body }));
}

/** Asks for a new certificate with the one in force. Throws what the server answers. */
export async function renew(
  head: TrustedHead,
  own: { certificate: string; key: string },
  message: Omit<RenewRequest, 'protocol'>,
): Promise<Admission> {
  const body = JSON.stringify({ ...message, protocol: JOIN_PROTOCOL });
  return readMessage(admission, await call(head, { method: 'POST', path: '/v1/renew', body, own }));
}

interface Call {
  method: 'GET' | 'POST';
  path: string;
  body?: string;
  own?: { certificate: string; key: string };
}

/** One request over TLS that is verified against the authority, names included. */
async function call(head: TrustedHead, { method, path, body = '', own }: Call): Promise<string> {
  const { host, port, authority } = head;
  const outgoing = request({
    host,
    port,
    method,
    path,
    agent: false,
    ca: authority,
    ...(own === undefined ? {} : { cert: own.certificate, key: own.key }),
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    timeout: CALL_LIMIT_MS,
  });
  outgoing.once('timeout', () => outgoing.destroy(new Error('no answer in time')));
  try {
    outgoing.end(body);
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    const text = await readAnswer(response);
    if (response.statusCode === 200) return text;
    throw readError(response.statusCode ?? 0, text);
  } catch (err) {
    throw unreachable(err, host, port);
  } finally {
    outgoing.destroy();
  }
}

async function readAnswer(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const part of response.setEncoding('utf8') as AsyncIterable<string>) {
    text += part;
    if (text.length > MESSAGE_LIMIT_BYTES) throw fail('body_too_large', 'the answer is too long to be a join server’s');
  }
  return text;
}

/** Certificates that the other side sent, its own first. */
function chainOf(socket: TLSSocket): DetailedPeerCertificate[] {
  const chain: DetailedPeerCertificate[] = [];
  for (let at = socket.getPeerCertificate(true); at?.raw !== undefined && chain.length < 5; at = at.issuerCertificate) {
    if (chain.includes(at)) break;
    chain.push(at);
  }
  return chain;
}

function checkValidity(chain: readonly DetailedPeerCertificate[], nowMs: number): void {
  for (const { valid_from: from, valid_to: to } of chain) {
    if (nowMs >= Date.parse(from) && nowMs <= Date.parse(to)) continue;
    throw fail(
      'clock_skew',
      `the cluster's certificate counts from ${from} to ${to}, and the clock of this machine says ${new Date(nowMs).toISOString()}; if the clock is right, start the head again: it makes a new certificate`,
    );
  }
}

function skewError(hereMs: number, thereMs: number): Error {
  const [here, there] = [hereMs, thereMs].map((ms) => new Date(ms).toISOString());
  return fail('clock_skew', `the clock of this machine says ${here}, that of the head ${there}`);
}

function toPem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function unreachable(err: unknown, host: string, port: number): Error {
  if (isGuildhallError(err)) return err;
  return fail('peer_unavailable', `the join server at ${host}:${port} cannot be reached: ${errorMessage(err)}`, {
    cause: err,
  });
}
