import { once } from 'node:events';
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { FuzzRequest } from './requests.ts';

/** A request without its whole answer for so long hangs, ms; far more than the slowest machine needs. */
export const HANG_MS = 120_000;

/** An answer, whole. */
export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** Sends requests as they are: no library puts their paths, headers or bodies right. */
export class FuzzClient {
  readonly #host: string;
  readonly #port: number;
  #agent = new Agent({ keepAlive: true });

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.#host = hostname;
    this.#port = Number(port);
  }

  /** The answer, or null where the connection was closed without one. Throws when there is neither in time. */
  async send(request: FuzzRequest): Promise<Answer | null> {
    let timer: NodeJS.Timeout | undefined;
    const hang = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no whole answer within ${HANG_MS} ms`)), HANG_MS);
    });
    const sent = request.raw === null ? this.#send(request) : this.#sendRaw(request.raw);
    try {
      return await Promise.race([sent, hang]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes the connections that are kept. */
  closeIdle(): void {
    this.#agent.destroy();
    this.#agent = new Agent({ keepAlive: true });
  }

  async #send(request: FuzzRequest, again = false): Promise<Answer> {
    const { method, target, headers, body } = request;
    const place = { host: this.#host, port: this.#port, method, path: target, agent: this.#agent };
    const sent = httpRequest(place);
    for (const [name, value] of headers) sent.appendHeader(name, value);
    if (body !== null) sent.setHeader('content-length', body.length);
    const answered = once(sent, 'response') as Promise<[IncomingMessage]>;
    sent.end(body ?? undefined);
    let response: IncomingMessage;
    try {
      [response] = await answered;
    } catch (err) {
      // The server may close a kept connection just when it is taken.
      if (sent.reusedSocket && !again) return this.#send(request, true);
      throw err;
    }
    // What is left of a body that nobody wants.
    sent.on('error', () => undefined);
    return { status: response.statusCode ?? 0, headers: response.headers, body: await buffer(response) };
  }

  async #sendRaw(bytes: Buffer): Promise<Answer | null> {
    const socket = connect(this.#port, this.#host);
    const closed = once(socket, 'close');
    const received: Buffer[] = [];
    socket.on('data', (data: Buffer) => received.push(data)).on('error', () => undefined);
    socket.end(bytes);
    await closed;
    return firstAnswer(Buffer.concat(received));
  }
}

/** The first answer of a connection that carried nothing else than answers. */
function firstAnswer(bytes: Buffer): Answer | null {
  if (bytes.length === 0) return null;
  const text = bytes.toString('latin1').replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '');
  const end = text.indexOf('\r\n\r\n');
  const [line = '', ...fields] = text.slice(0, end).split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(line)?.[1]);
  const headers = Object.fromEntries(
    fields.map((field) => {
      const colon = field.indexOf(':');
      return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()] as const;
    }),
  );
  if (end < 0 || Number.isNaN(status)) throw new Error(`this is no answer: ${text.slice(0, 200)}`);
  const length = Number(headers['content-length'] ?? 0);
  return { status, headers, body: Buffer.from(text.slice(end + 4, end + 4 + length), 'latin1') };
}
