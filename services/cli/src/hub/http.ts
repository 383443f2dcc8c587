import { fail, isGuildhallError, type Clock, type GuildhallError } from '@guildhall/common';
import { VERSION } from '../version.ts';
import type { Endpoint } from './endpoint.ts';

/** Time without a byte after which an attempt counts as dead. */
const STALL_MS = 60_000;
const MAX_REDIRECTS = 8;
const MAX_ATTEMPTS = 6;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
const LONGEST_RETRY_AFTER_MS = 300_000;
const RETRIED = new Set([408, 425, 429, 500, 502, 503, 504]);

/** What of the outside world requests need. */
export interface HttpContext {
  endpoint: Endpoint;
  clock: Clock;
  signal: AbortSignal;
  /** Told when an attempt failed and when the next one comes. */
  onRetry?: ((message: string) => void) | null;
  /** Time without a byte after which an attempt counts as dead, milliseconds. */
  stallMs?: number;
}

/** An attempt that may succeed when it is made again. */
export class Retryable extends Error {
  override readonly name = 'Retryable';
  readonly retryAfterMs: number | null;

  constructor(message: string, retryAfterMs: number | null = null) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

/**
 * Makes attempts until one succeeds. An attempt that throws Retryable or a network error is made again after a pause
 * that doubles; any other error ends it.
 * @param progressed asked after a failure: true starts the count of failures again.
 * @throws hub_unavailable when too many attempts failed in a row, cancelled.
 */
export async function withRetries<T>(
  context: Omit<HttpContext, 'endpoint'>,
  what: string,
  attempt: () => Promise<T>,
  progressed: () => boolean = () => false,
): Promise<T> {
  for (let failures = 0; ;) {
    try {
      return await attempt();
    } catch (err) {
      if (context.signal.aborted) throw fail('cancelled', 'the pull was stopped', { cause: err });
      if (isGuildhallError(err) || !isTransient(err)) throw err;
      failures = progressed() ? 1 : failures + 1;
      const reason = reasonOf(err);
      if (failures >= MAX_ATTEMPTS) {
        throw fail('hub_unavailable', `${what}: ${reason} (${failures} attempts)`, { cause: err });
      }
      const pause = pauseMs(err, failures);
      context.onRetry?.(`${what}: ${reason}; trying again in ${(pause / 1000).toFixed(1)} s`);
      await context.clock.sleep(pause, context.signal);
    }
  }
}

function isTransient(err: unknown): boolean {
  if (err instanceof Retryable) return true;
  // fetch reports every failure of the network as a TypeError with a cause, and an aborted attempt as an AbortError.
  return err instanceof Error && (err.name === 'TypeError' || err.name === 'AbortError');
}

function reasonOf(err: unknown): string {
  if (!(err instanceof Error)) return String(err);
  const cause = err.cause instanceof Error ? err.cause : null;
  return cause === null ? err.message : `${err.message} (${(cause as NodeJS.ErrnoException).code ?? cause.message})`;
}

function pauseMs(err: unknown, failures: number): number {
  if (err instanceof Retryable && err.retryAfterMs !== null) return Math.min(err.retryAfterMs, LONGEST_RETRY_AFTER_MS);
  const pause = Math.min(FIRST_DELAY_MS * 2 ** (failures - 1), LONGEST_DELAY_MS);
  return pause * (0.5 + Math.random() / 2);
}

/** A response that is being read, with the guard that ends it when nothing comes. */
export interface OpenResponse {
  status: number;
  headers: Headers;
  /** Body, chunk by chunk; throws Retryable when the connection ends or stalls. */
  chunks: AsyncIterable<Uint8Array>;
  /** Ends the connection where the body is not wanted. */
  close(): void;
}

/**
 * One GET: follows redirects, gives the token to the endpoint's own origin only, and turns refusals into errors.
 * @param url address at the endpoint.
 * @param statuses which statuses the caller can use; others are errors.
 * @throws hub_denied, hub_not_found, hub_invalid; Retryable and network errors where another attempt may help.
 */
export async function get(
  context: HttpContext,
  url: URL,
  headers: Record<string, string>,
  statuses: readonly number[] = [200],
): Promise<OpenResponse> {
  const guard = new StallGuard(context);
  try {
    const response = await follow(context, url, headers, guard);
    if (!statuses.includes(response.status)) throw await refusal(context, url, response);
    const encoding = response.headers.get('content-encoding');
    if (encoding !== null && encoding !== 'identity') {
      throw fail('hub_invalid', `${url.pathname}: the answer is encoded as ${encoding}, which was not asked for`);
    }
    return {
      status: response.status,
      headers: response.headers,
      chunks: chunksOf(response, guard),
      close: () => guard.close(),
    };
  } catch (err) {
    guard.close();
    throw err;
  }
}

async function follow(
  context: HttpContext,
  url: URL,
  headers: Record<string, string>,
  guard: StallGuard,
): Promise<Response> {
  const { url: endpoint, token } = context.endpoint;
  let target = url;
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const own = target.origin === endpoint.origin;
    const response = await fetch(target, {
      redirect: 'manual',
      signal: guard.signal,
      headers: {
        'user-agent': `guildhall/${VERSION}`,
        'accept-encoding': 'identity',
        ...headers,
        ...(own && token !== null ? { authorization: `Bearer ${token}` } : {}),
      },
    });
    guard.alive();
    const location = response.headers.get('location');
    if (response.status < 300 || response.status >= 400 || response.status === 304 || location === null)
      return response;
    await response.body?.cancel();
    target = redirected(target, location);
  }
  throw fail('hub_invalid', `${url.pathname}: more than ${MAX_REDIRECTS} redirects`);
}

function redirected(from: URL, location: string): URL {
  const to = URL.parse(location, from.href);
  if (to === null || !['http:', 'https:'].includes(to.protocol)) {
    throw fail('hub_invalid', `${from.pathname}: it redirects to something that is no http address`);
  }
  if (from.protocol === 'https:' && to.protocol === 'http:') {
    throw fail('hub_invalid', `${from.pathname}: it redirects from https to plain http at ${to.host}`);
  }
  return to;
}

/** The error for a status that the caller cannot use. Bodies are not quoted: they are pages, or hold signed links. */
async function refusal(context: HttpContext, url: URL, response: Response): Promise<GuildhallError | Retryable> {
  const { status, headers } = response;
  await response.body?.cancel();
  const where = `${url.host}${url.pathname}`;
  const code = headers.get('x-error-code');
  const words = headers.get('x-error-message')?.slice(0, 200);
  const said = words === undefined ? '' : `: ${words.replaceAll(/[^\x20-\x7e]/g, '?')}`;
  if (RETRIED.has(status)) return new Retryable(`${where} answered ${status}`, retryAfterMs(headers, context.clock));
  if (status === 404 || code === 'RepoNotFound' || code === 'RevisionNotFound' || code === 'EntryNotFound') {
    return fail('hub_not_found', `${where}: ${code ?? 'not found'}${said}`);
  }
  if (status === 401 || status === 403) {
    const sent = context.endpoint.token === null ? 'no token was sent' : 'the token does not allow it';
    return fail('hub_denied', `${where}: ${code ?? `refused with ${status}`}, ${sent}${said}`);
  }
  return fail('hub_invalid', `${where} answered ${status}${said}`);
}

function retryAfterMs(headers: Headers, clock: Clock): number | null {
  const text = headers.get('retry-after');
  if (text === null) return null;
  if (/^\d{1,6}$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(at - clock.nowMs(), 0);
}

async function* chunksOf(response: Response, guard: StallGuard): AsyncGenerator<Uint8Array> {
  try {
    if (response.body === null) return;
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      guard.alive();
      yield chunk;
    }
  } catch (err) {
    throw new Retryable(guard.stalled ? 'nothing came for too long' : `the connection broke: ${reasonOf(err)}`);
  } finally {
    guard.close();
  }
}

/** Aborts an attempt when nothing was heard for a while, or when the pull is stopped. */
class StallGuard {
  readonly #stall = new AbortController();
  readonly #context: HttpContext;
  #timer: { cancel(): void } | null = null;
  readonly signal: AbortSignal;
  stalled = false;

  constructor(context: HttpContext) {
    this.#context = context;
    this.signal = AbortSignal.any([context.signal, this.#stall.signal]);
    this.alive();
  }

  alive(): void {
    this.#timer?.cancel();
    this.#timer = this.#context.clock.setTimer(this.#context.stallMs ?? STALL_MS, () => {
      this.stalled = true;
      this.#stall.abort();
    });
  }

  close(): void {
    this.#timer?.cancel();
    this.#stall.abort();
  }
}
