import { createHash } from 'node:crypto';
import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Agent, ClientRequest } from 'node:http';
import { type Clock, errorMessage, VERSION } from '@guildhall/common';
import { apiError, type ApiFailure } from './api-error.ts';
import type { ApiTls, Credentials } from './credentials.ts';

export interface ApiRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH';
  /** From the root, such as /api/v1/namespaces/x/pods. */
  path: string;
  query?: Record<string, string | number | boolean>;
  body?: unknown;
  /** Of the body; application/json by default. */
  contentType?: string;
  /** The whole request must be over by then; of a stream, its beginning. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** Default time that a request may take, in ms. */
export const REQUEST_MS = 10_000;
/** An answer that is larger is given up: a page of a list stays far below. */
const MAX_BODY_BYTES = 64 << 20;
/** One object in a watch; etcd refuses objects above 1.5 MiB. */
const MAX_LINE_BYTES = 8 << 20;
/** Silence after which the kernel asks whether the other side still lives. */
const TCP_KEEPALIVE_MS = 15_000;

/**
 * Requests to the API server over kept connections. Plain objects come back as they are: who reads them checks them.
 * Errors: `kubernetes_unavailable` and `kubernetes_refused`, whose details `apiFailureOf` reads.
 */
export class KubeClient {
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  #agent: { key: string; agent: Agent } | null = null;

  constructor(credentials: Credentials, clock: Clock) {
    this.#credentials = credentials;
    this.#clock = clock;
  }

  /** The parsed answer. */
  async json(request: ApiRequest): Promise<unknown> {
    const response = await this.#send(request);
    const text = await this.#read(response, request);
    try {
      return JSON.parse(text) as unknown;
    } catch (err) {
      throw apiError(nameOf(request), NO_ANSWER, `not JSON: ${errorMessage(err)}`, err);
    }
  }

  /** Lines of an answer that does not end by itself; `onData` hears of each byte that comes. Ends when the server ends it. */
  async *lines(request: ApiRequest, onData: () => void): AsyncGenerator<string, void, undefined> {
    const response = await this.#send(request);
    let rest = '';
    response.setEncoding('utf8');
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        onData();
        const parts = (rest + chunk).split('\n');
        rest = parts.pop() ?? '';
        if (rest.length > MAX_LINE_BYTES)
          throw apiError(nameOf(request), NO_ANSWER, `a line of more than ${MAX_LINE_BYTES} bytes`);
        for (const line of parts) if (line !== '') yield line;
      }
    } catch (err) {
      throw wrap(request, err);
    } finally {
      response.destroy();
    }
  }

  /** Ends the kept connections. */
  close(): void {
    this.#agent?.agent.destroy();
    this.#agent = null;
  }

  async #send(request: ApiRequest): Promise<IncomingMessage> {
    const response = await this.#begin(request);
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    if (status === 401) this.#credentials.forget();
    const text = await this.#read(response, request);
    throw apiError(nameOf(request), failureOf(response, text), messageOf(text));
  }

  async #begin(request: ApiRequest): Promise<IncomingMessage> {
    const { headers, tls } = await this.#credentials.current();
    const { server } = this.#credentials;
    const url = new URL(`${server.pathname.replace(/\/$/, '')}${request.path}`, server);
    for (const [key, value] of Object.entries(request.query ?? {})) url.searchParams.set(key, String(value));
    const body = request.body === undefined ? null : JSON.stringify(request.body);
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const call = send(url, {
      method: request.method,
      agent: this.#agentFor(url, tls),
      ...(request.signal === undefined ? {} : { signal: request.signal }),
      headers: {
        accept: 'application/json',
        'user-agent': `guildhall-controller/${VERSION}`,
        ...headers,
        ...(body === null
          ? {}
          : { 'content-type': request.contentType ?? 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
    });
    return this.#answered(call, body, request);
  }

  /** Resolves with the headers of the answer; they must come in time. */
  #answered(call: ClientRequest, body: string | null, request: ApiRequest): Promise<IncomingMessage> {
    const timeoutMs = request.timeoutMs ?? REQUEST_MS;
    return new Promise((resolve, reject) => {
      const limit = this.#clock.setTimer(timeoutMs, () =>
        call.destroy(apiError(nameOf(request), NO_ANSWER, `nothing within ${timeoutMs} ms`)),
      );
      call.on('response', (response) => {
        limit.cancel();
        resolve(response);
      });
      call.on('error', (err) => {
        limit.cancel();
        reject(wrap(request, err));
      });
      call.on('socket', (socket) => socket.setKeepAlive(true, TCP_KEEPALIVE_MS));
      call.end(body ?? undefined);
    });
  }

  async #read(response: IncomingMessage, request: ApiRequest): Promise<string> {
    const timeoutMs = request.timeoutMs ?? REQUEST_MS;
    const limit = this.#clock.setTimer(timeoutMs, () =>
      response.destroy(apiError(nameOf(request), NO_ANSWER, `the answer was not over after ${timeoutMs} ms`)),
    );
    const parts: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const part of response as AsyncIterable<Buffer>) {
        bytes += part.length;
        if (bytes > MAX_BODY_BYTES)
          throw apiError(nameOf(request), NO_ANSWER, `an answer of more than ${MAX_BODY_BYTES} bytes`);
        parts.push(part);
      }
    } catch (err) {
      throw wrap(request, err);
    } finally {
      limit.cancel();
    }
    return Buffer.concat(parts).toString('utf8');
  }

  /** One agent as long as the TLS material is the same; a rotated authority gets another. */
  #agentFor(url: URL, tls: ApiTls): Agent {
    const key = createHash('sha256')
      .update(JSON.stringify([url.protocol, String(tls.ca), String(tls.cert), String(tls.key), tls.servername]))
      .update(String(tls.rejectUnauthorized))
      .digest('hex');
    if (this.#agent?.key === key) return this.#agent.agent;
    this.#agent?.agent.destroy();
    const agent =
      url.protocol === 'https:' ? new HttpsAgent({ keepAlive: true, ...tls }) : new HttpAgent({ keepAlive: true });
    this.#agent = { key, agent };
    return agent;
  }
}

const NO_ANSWER: ApiFailure = { status: 0, reason: '', retryAfterMs: null };

function nameOf({ method, path }: ApiRequest): string {
  return `${method} ${path}`;
}

function wrap(request: ApiRequest, err: unknown): Error {
  const known = err instanceof Error && 'code' in err && String(err.code).startsWith('kubernetes_');
  return known ? err : apiError(nameOf(request), NO_ANSWER, errorMessage(err), err);
}

/** Seconds, or a date, of Retry-After. */
function failureOf(response: IncomingMessage, text: string): ApiFailure {
  const seconds = Number(response.headers['retry-after']);
  return {
    status: response.statusCode ?? 0,
    reason: statusObject(text)?.reason ?? '',
    retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 600) * 1000 : null,
  };
}

function messageOf(text: string): string {
  return statusObject(text)?.message ?? text.slice(0, 300).trim();
}

function statusObject(text: string): { reason?: string; message?: string } | null {
  try {
    const value = JSON.parse(text) as { kind?: string; reason?: string; message?: string } | null;
    return value?.kind === 'Status' ? value : null;
  } catch {
    return null;
  }
}
