import http from 'node:http';
import https from 'node:https';
import type { Clock } from '@guildhall/common';
import { type ApiName, apiPath, bodyOf, type BodyOptions } from './api.ts';
import { AnswerReader } from './answer-reader.ts';
import { type RequestFailure, transportFailure } from './errors.ts';
import type { Message } from '../workload/workload.ts';

/** The server that is measured. */
export interface Target {
  /** Without a path and a slash at the end. */
  url: string;
  api: ApiName;
  headers: Readonly<Record<string, string>>;
  timeoutMs: number;
}

/** One request as it is handed to the client. */
export interface OutgoingRequest {
  messages: readonly Message[];
  body: BodyOptions;
  keepText: boolean;
  onText: (atMs: number) => void;
}

/** Times of one request on the monotonic clock, in milliseconds, and what came. */
export interface Answered {
  sentMs: number;
  endMs: number;
  answer: AnswerReader;
  /** Null when the answer is whole; `aborted` when the run was stopped. */
  failure: RequestFailure | 'aborted' | null;
}

/** Sends a request. Implementations never throw. */
export type Send = (request: OutgoingRequest, signal: AbortSignal) => Promise<Answered>;

/** Longest part of an error's body that is read. */
const ERROR_BYTES = 64 * 1024;

/** Sends requests by HTTP/1.1, each on a connection of its own while it runs, with connections kept for the next ones. */
export class HttpClient {
  readonly #target: Target;
  readonly #clock: Clock;
  readonly #agent: http.Agent;
  readonly #url: URL;

  constructor(target: Target, clock: Clock) {
    this.#target = target;
    this.#clock = clock;
    this.#url = new URL(apiPath(target.api), target.url);
    const options = { keepAlive: true, maxSockets: Infinity, maxFreeSockets: 1024, scheduling: 'fifo' } as const;
    this.#agent = this.#url.protocol === 'https:' ? new https.Agent(options) : new http.Agent(options);
  }

  /** Closes the connections that are kept. */
  close(): void {
    this.#agent.destroy();
  }

  readonly send: Send = (request, signal) => {
    const { api, headers, timeoutMs } = this.#target;
    const answer = new AnswerReader(api, request.keepText, request.onText);
    const body = Buffer.from(bodyOf(api, request.messages, request.body));
    return new Promise((resolve) => {
      const sentMs = this.#clock.monotonicMs();
      const timer = this.#clock.setTimer(timeoutMs, () => end({ kind: 'timeout', message: `after ${timeoutMs} ms` }));
      const onAbort = (): void => end('aborted');
      let ended = false;
      const end = (failure: Answered['failure']): void => {
        if (ended) return;
        ended = true;
        timer.cancel();
        signal.removeEventListener('abort', onAbort);
        if (failure !== null) outgoing.destroy();
        resolve({ sentMs, endMs: this.#clock.monotonicMs(), answer, failure });
      };
      const { request: start } = this.#url.protocol === 'https:' ? https : http;
      const outgoing = start(this.#url, {
        method: 'POST',
        agent: this.#agent,
        headers: {
          'content-type': 'application/json',
          accept: 'text/event-stream',
          'content-length': body.length,
          ...headers,
        },
      });
      outgoing.on('error', (error: NodeJS.ErrnoException) => end(transportFailure(error)));
      outgoing.on('response', (response) => this.#read(response, answer, end));
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      outgoing.end(body);
    });
  };

  #read(response: http.IncomingMessage, answer: AnswerReader, end: (failure: RequestFailure | null) => void): void {
    const { statusCode = 0, headers } = response;
    response.on('error', (error: NodeJS.ErrnoException) => end(transportFailure(error)));
    response.on('aborted', () => end({ kind: 'connection_lost', message: 'the connection broke within the answer' }));
    const streams = statusCode === 200 && (headers['content-type'] ?? '').startsWith('text/event-stream');
    if (!streams) {
      const kind = statusCode === 200 ? ('bad_answer' as const) : (`http_${statusCode}` as const);
      readText(response, (text) => end({ kind, message: shorten(text) || `status ${statusCode}` }));
      return;
    }
    response.on('data', (bytes: Buffer) => {
      answer.feed(bytes, this.#clock.monotonicMs());
      if (answer.failure !== null) end(answer.failure);
    });
    response.on('end', () => {
      answer.end();
      end(answer.failure);
    });
  }
}

function readText(response: http.IncomingMessage, done: (text: string) => void): void {
  const parts: Buffer[] = [];
  let size = 0;
  response.on('data', (bytes: Buffer) => {
    if (size < ERROR_BYTES) parts.push(bytes);
    size += bytes.length;
    // Nobody needs the rest of a page that is no answer.
    if (size >= ERROR_BYTES) done(Buffer.concat(parts).toString());
  });
  response.on('end', () => done(Buffer.concat(parts).toString()));
}

/** The message of an error's body, in one line. */
function shorten(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: string } | string };
    const message = typeof error === 'string' ? error : error?.message;
    if (message !== undefined) return message.slice(0, 300);
  } catch {
    // Not JSON: the text itself says what it is.
  }
  return text.replace(/\s+/g, ' ').trim().slice(0, 300);
}
