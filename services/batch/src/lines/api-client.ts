import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { type Clock, errorMessage, fail } from '@guildhall/common';

/** An answer of the API. */
export interface ApiAnswer {
  status: number;
  requestId: string;
  body: unknown;
}

export interface ApiClientOptions {
  /** Base URLs of gateways that take requests now. */
  gateways: () => readonly string[];
  /** Shown to gateways, which then believe whom a line belongs to; null in a cluster without a token. */
  clusterToken: string | null;
  clock: Clock;
  /** A line is tried again. */
  onRetry: () => void;
}

/** Longest answer; a log-probability of every token of a long one fits. */
const MAX_ANSWER_BYTES = 64 << 20;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 30_000;
/** Statuses that say nothing about the request: there is no room, or somebody is away. */
const TRY_AGAIN: ReadonlySet<number> = new Set([429, 502, 503, 504]);

interface RawAnswer extends ApiAnswer {
  retryAfterMs: number;
}

/** Sends lines of batches to the API as any client would, on behalf of their tenants. */
export class ApiClient {
  readonly #o: ApiClientOptions;
  readonly #agents = { 'http:': new HttpAgent({ keepAlive: true }), 'https:': new HttpsAgent({ keepAlive: true }) };
  #turn = 0;

  constructor(options: ApiClientOptions) {
    this.#o = options;
  }

  /**
   * The answer to a request, whatever its status, once the API had room for it: until then it is sent again and again, ever
   * more slowly. Throws `cancelled` or what else the signal aborts with.
   */
  async send(path: string, body: unknown, tenant: string, signal: AbortSignal): Promise<ApiAnswer> {
    const { clock, onRetry } = this.#o;
    const text = JSON.stringify(body);
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS)) {
      const answer = await this.#try(path, text, tenant, signal);
      if (answer !== null && !TRY_AGAIN.has(answer.status)) return answer;
      signal.throwIfAborted();
      onRetry();
      await clock.sleep(Math.max(waitMs, Math.min(answer?.retryAfterMs ?? 0, LONGEST_WAIT_MS)), signal);
    }
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  /** Null when no gateway could be reached, or one died under the request. */
  async #try(path: string, text: string, tenant: string, signal: AbortSignal): Promise<RawAnswer | null> {
    const gateways = this.#o.gateways();
    const base = gateways[this.#turn++ % Math.max(1, gateways.length)];
    if (base === undefined) return null;
    try {
      return await this.#post(new URL(path, base), text, tenant, signal);
    } catch (err) {
      if (signal.aborted) throw err;
      return null;
    }
  }

  #post(url: URL, text: string, tenant: string, signal: AbortSignal): Promise<RawAnswer> {
    const { clusterToken } = this.#o;
    const secure = url.protocol === 'https:';
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...(clusterToken === null ? {} : { authorization: `Bearer ${clusterToken}`, 'x-guildhall-tenant': tenant }),
    };
    const agent = this.#agents[secure ? 'https:' : 'http:'];
    return new Promise((resolve, reject) => {
      const options = { method: 'POST', headers, agent, signal };
      const request = (secure ? httpsRequest : httpRequest)(url, options, (response) => {
        const parts: Buffer[] = [];
        let bytes = 0;
        response.on('data', (part: Buffer) => {
          parts.push(part);
          bytes += part.length;
          if (bytes > MAX_ANSWER_BYTES) request.destroy(fail('body_too_large', 'the answer is too long'));
        });
        response.on('error', reject);
        response.on('end', () => {
          if (!response.complete) return reject(fail('peer_unavailable', 'the answer was cut off'));
          resolve({
            status: response.statusCode ?? 0,
            requestId: String(response.headers['x-request-id'] ?? ''),
            retryAfterMs: Number(response.headers['retry-after'] ?? 0) * 1000 || 0,
            body: jsonOf(Buffer.concat(parts)),
          });
        });
      });
      request.on('error', (err) => reject(fail('peer_unavailable', errorMessage(err), { cause: err })));
      request.end(text);
    });
  }
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return { error: { message: 'the answer was no JSON', type: 'server_error', code: 'internal', param: null } };
  }
}
