import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { TLSSocket } from 'node:tls';
import {
  type Clock,
  type ErrorCode,
  errorMessage,
  fail,
  formatHostPort,
  toGuildhallError,
  toHttp,
} from '@guildhall/common';
import { AttemptLimit } from './attempt-limit.ts';
import type { Authority } from './authority.ts';
import {
  type About,
  type Admission,
  type ClusterSettings,
  JOIN_PROTOCOL,
  joinRequest,
  MESSAGE_LIMIT_BYTES,
  readMessage,
  renewRequest,
} from './join-messages.ts';
import { type MemberRecord, type MemberStore, redisHash } from './members.ts';
import type { TokenStore } from './tokens.ts';

/** How long a member's certificate counts; it is renewed long before. */
export const MEMBER_DAYS = 30;
const LIMITS = { requests: 60, failures: 10 };
const MAX_CONNECTIONS = 128;
const REQUEST_LIMIT_MS = 10_000;
const CREDENTIAL_ERRORS: ReadonlySet<ErrorCode> = new Set(['join_token_invalid', 'join_token_expired', 'forbidden']);

export interface JoinServerOptions {
  /** Address that it binds; port 0 takes a free one. */
  host: string;
  port: number;
  /** Its own certificate with the authority after it, and the key; PEM. */
  certificate: string;
  key: string;
  authority: Authority;
  tokens: TokenStore;
  members: MemberStore;
  version: string;
  settings: () => ClusterSettings;
  /** Ids that the head machine's own processes have. */
  reservedIds: readonly string[];
  /** Addresses that only processes of the head machine may have certificates for. */
  headAddresses: readonly string[];
  /** Lets a new member into Redis; what it throws fails the join. */
  admit: (member: Pick<MemberRecord, 'id' | 'redisHash'>) => Promise<void>;
  clock: Clock;
  /** Told in a line what happened. */
  onEvent: (message: string) => void;
}

/** Lets machines into the cluster: HTTPS with the cluster's own authority, tokens for new ones, mTLS for members. */
export class JoinServer {
  readonly address: string;
  readonly #server: Server;

  private constructor(server: Server, address: string) {
    this.#server = server;
    this.address = address;
  }

  /** Throws `config_invalid` when the address cannot be bound. */
  static async start(options: JoinServerOptions): Promise<JoinServer> {
    const desk = new Desk(options);
    const server = createServer(
      {
        cert: options.certificate,
        key: options.key,
        ca: options.authority.certificate,
        requestCert: true,
        // New machines have no certificate yet; /v1/renew looks at it itself.
        rejectUnauthorized: false,
        minVersion: 'TLSv1.2',
        maxHeaderSize: 8192,
        headersTimeout: REQUEST_LIMIT_MS,
        requestTimeout: REQUEST_LIMIT_MS,
        handshakeTimeout: REQUEST_LIMIT_MS,
        keepAliveTimeout: 1000,
      },
      (request, response) => void desk.serve(request, response),
    );
    server.maxConnections = MAX_CONNECTIONS;
    server.on('tlsClientError', () => undefined);
    server.listen({ host: options.host, port: options.port, exclusive: true });
    try {
      await once(server, 'listening');
    } catch (err) {
      const where = formatHostPort(options.host, options.port);
      throw fail('config_invalid', `the join server cannot listen on ${where}: ${errorMessage(err)}`, { cause: err });
    }
    const bound = server.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : options.port;
    return new JoinServer(server, formatHostPort(options.host, port));
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

/** Answers requests. */
class Desk {
  readonly #o: JoinServerOptions;
  readonly #limit: AttemptLimit;

  constructor(options: JoinServerOptions) {
    this.#o = options;
    this.#limit = new AttemptLimit(LIMITS, options.clock);
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const caller = plainAddress(request.socket.remoteAddress);
    try {
      this.#limit.take(caller);
      reply(response, 200, await this.#route(request, caller));
    } catch (err) {
      const known = toGuildhallError(err);
      if (CREDENTIAL_ERRORS.has(known.code)) {
        this.#limit.failed(caller);
        this.#o.onEvent(`${caller} was not let in: ${known.message}`);
      }
      if (known.code === 'internal') this.#o.onEvent(`a request of ${caller} failed: ${errorMessage(known.cause)}`);
      const { status, body } = toHttp(known);
      const { retryAfterMs } = known.details;
      if (typeof retryAfterMs === 'number') response.setHeader('retry-after', Math.ceil(retryAfterMs / 1000));
      // What is left of a body that was too large is not read.
      if (known.code === 'body_too_large') response.setHeader('connection', 'close');
      reply(response, status, body);
    }
  }

  async #route(request: IncomingMessage, caller: string): Promise<About | Admission> {
    const { clock, version, settings } = this.#o;
    switch (`${request.method} ${request.url}`) {
      case 'GET /v1/about':
        return { protocol: JOIN_PROTOCOL, version, cluster: settings().name, nowMs: clock.nowMs() };
      case 'POST /v1/join':
        return await this.#join(await readBody(request), caller);
      case 'POST /v1/renew':
        return await this.#renew(request.socket as TLSSocket, await readBody(request), caller);
      default:
        throw fail('not_found', 'the join server has GET /v1/about, POST /v1/join and POST /v1/renew');
    }
  }

  async #join(body: string, caller: string): Promise<Admission> {
    const { authority, tokens, members, clock, reservedIds, admit, onEvent } = this.#o;
    const message = readMessage(joinRequest, body);
    // Nothing is said about the cluster before the token is known to be good.
    const token = tokens.check(message.token);
    checkVersion(message, this.#o.version);
    this.#checkAddresses(message.addresses, caller);
    const redisPassword = randomBytes(24).toString('hex');
    let chain = '';
    const wish = { id: message.id, addresses: message.addresses, reserved: reservedIds };
    const member = await members.add(wish, async (id) => {
      const nowMs = clock.nowMs();
      const issued = await authority.sign(message.csr, { ...this.#validity(id, message.addresses), nowMs });
      chain = issued.chain;
      const { serial, expiresAtMs } = issued;
      const rest = { serials: [serial], joinedAtMs: nowMs, expiresAtMs, token: token.id };
      const record = { ...rest, redisHash: redisHash(redisPassword) };
      await admit({ id, redisHash: record.redisHash });
      return record;
    });
    onEvent(`${member.id} joined from ${caller} with token ${token.id}`);
    return this.#admission(member, chain, redisPassword);
  }

  async #renew(socket: TLSSocket, body: string, caller: string): Promise<Admission> {
    const { authority, members, clock } = this.#o;
    const member = this.#memberBehind(socket);
    const message = readMessage(renewRequest, body);
    checkVersion(message, this.#o.version);
    this.#checkAddresses(message.addresses, caller);
    const { addresses } = message;
    const issued = await authority.sign(message.csr, {
      ...this.#validity(member.id, addresses),
      nowMs: clock.nowMs(),
    });
    const { serial, expiresAtMs } = issued;
    const renewed = await members.renewed(member.id, { serial, expiresAtMs, addresses });
    return this.#admission(renewed, issued.chain, null);
  }

  #validity(name: string, addresses: readonly string[]): { name: string; addresses: string[]; days: number } {
    return { name, addresses: [...new Set([...addresses, '127.0.0.1', '::1'])], days: MEMBER_DAYS };
  }

  #admission(member: MemberRecord, certificate: string, redisPassword: string | null): Admission {
    const { id, expiresAtMs } = member;
    return { id, certificate, expiresAtMs, redisPassword, cluster: this.#o.settings() };
  }

  /** The member whose certificate a connection shows. Throws `forbidden`. */
  #memberBehind(socket: TLSSocket): MemberRecord {
    const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
    if (certificate === undefined)
      throw fail('forbidden', 'renewing needs a certificate of this cluster that has not run out');
    const serial = certificate.serialNumber.toLowerCase();
    const member = this.#o.members.list().find((one) => one.serials.includes(serial));
    if (member === undefined) throw fail('forbidden', 'this certificate was replaced, or is not a member’s');
    if (member.removed) throw fail('forbidden', `${member.id} was removed from the cluster`);
    return member;
  }

  #checkAddresses(addresses: readonly string[], caller: string): void {
    const { headAddresses } = this.#o;
    if (headAddresses.includes(caller) || caller === '127.0.0.1' || caller === '::1') return;
    const claimed = addresses.find((address) => headAddresses.includes(address));
    if (claimed !== undefined)
      throw fail('forbidden', `${claimed} is the address of the head machine, and the request came from ${caller}`);
  }
}

function checkVersion(message: { protocol: number; version: string }, version: string): void {
  if (message.protocol === JOIN_PROTOCOL) return;
  throw fail(
    'protocol_mismatch',
    `this cluster runs Guildhall ${version} (join protocol ${JOIN_PROTOCOL}), the machine ${message.version} (${message.protocol})`,
  );
}

/** IPv4 addresses as such, also on a socket that takes both kinds. */
export function plainAddress(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:(?=\d+\.)/, '');
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MESSAGE_LIMIT_BYTES) throw fail('body_too_large', `a message may have ${MESSAGE_LIMIT_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
  });
  response.end(text);
}
