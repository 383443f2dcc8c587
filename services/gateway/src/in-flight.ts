import type { Socket } from 'node:net';
import { type Clock, fail, type GuildhallError, type Metrics, type Timer, toGuildhallError } from '@guildhall/common';
import { AdmissionQueue, type Waiter } from './limits/admission-queue.ts';
import { type Reason, refusal } from './limits/reasons.ts';

export interface InFlightOptions {
  /** Completions at a time. */
  maxInFlight: number;
  /** Completions that wait for a place at most. */
  maxQueued: number;
  /** How long one of them waits at most, ms. */
  queueMs: number;
  clock: Clock;
  metrics: Metrics;
}

/** Who asks for a place. */
export interface PlaceRequest extends Waiter {
  /** Aborts when nobody wants the place any more, and is aborted at shutdown. */
  controller: AbortController;
  /** What the answer goes to; work in the background has none. */
  connection: Socket | null;
}

interface Waiting extends PlaceRequest {
  beganMs: number;
  enter: () => void;
  refuse: (error: unknown) => void;
  timer: Timer | null;
}

const MAX_RETRY_S = 30;
/** A drain is over when no request has come for so long. */
const QUIET_MS = 1000;

/** Completions that run now, and those that wait until they may: counts them, refuses too many, and ends them at shutdown. */
export class InFlight {
  readonly #o: InFlightOptions;
  readonly #running = new Map<AbortController, string>();
  readonly #places = new Map<string, number>();
  readonly #queue: AdmissionQueue<Waiting>;
  #streams = 0;
  /** Connections on which an answer said that another request may follow. */
  readonly #kept = new WeakSet<Socket>();
  #state: 'open' | 'lingering' | 'closing' | 'closed' = 'open';
  #entered = 0;
  #onEmpty: (() => void) | null = null;

  constructor(options: InFlightOptions) {
    this.#o = options;
    this.#queue = new AdmissionQueue(options.maxQueued);
  }

  get size(): number {
    return this.#running.size;
  }

  /** Completions that wait for a place. */
  get queued(): number {
    return this.#queue.size;
  }

  /** True once the gateway is to go; it may still take requests for a while. */
  get draining(): boolean {
    return this.#state !== 'open';
  }

  /** An answer on this connection says that another request may follow. */
  keep(connection: Socket): void {
    this.#kept.add(connection);
  }

  /**
   * Takes a place, perhaps after a wait: urgent ones first, and fairly between tenants. Throws `queue_full`, `overloaded` when none
   * became free in time, `not_ready` when the gateway is shutting down, and the reason of the controller's abort.
   *
   * At shutdown new connections are refused first, and those that were promised to be kept only when time is up. A client may have sent
   * its next request on one of those before it could hear that the connection ends, so each is served once more, by an answer that
   * closes it.
   */
  async enter(request: PlaceRequest): Promise<void> {
    const { connection } = request;
    const promised = connection !== null && this.#kept.has(connection);
    if (this.#state === 'closed' || (this.#state === 'closing' && !promised)) throw shuttingDown();
    this.#entered += 1;
    if (request.controller.signal.aborted) throw toGuildhallError(request.controller.signal.reason);
    if (this.#running.size < this.#o.maxInFlight && this.#queue.size === 0) return this.#begin(request);
    await this.#wait(request);
  }

  leave(controller: AbortController): void {
    const tenant = this.#running.get(controller);
    if (tenant === undefined) return;
    this.#running.delete(controller);
    const places = (this.#places.get(tenant) ?? 1) - 1;
    if (places === 0) this.#places.delete(tenant);
    else this.#places.set(tenant, places);
    this.#admit();
    if (this.#running.size === 0) this.#onEmpty?.();
  }

  /** Counts an event stream; returns how many there are now. */
  openStream(): number {
    return ++this.#streams;
  }

  closeStream(): number {
    return --this.#streams;
  }

  /**
   * Goes on for `lingerMs`; then takes no new connection, waits up to `graceMs` for what runs or waits, and ends the rest with
   * `not_ready`.
   */
  async drain(lingerMs: number, graceMs: number): Promise<void> {
    const { clock } = this.#o;
    this.#state = 'lingering';
    if (lingerMs > 0) await clock.sleep(lingerMs);
    this.#state = 'closing';
    const limit = clock.setTimer(graceMs, () => this.#close());
    for (let before = -1; this.#state === 'closing' && before !== this.#entered;) {
      await this.#empty();
      before = this.#entered;
      // A client that reads the end of an answer sends its next request at once, and that is on its way now.
      if (lingerMs > 0) await clock.sleep(Math.min(lingerMs, QUIET_MS));
    }
    await this.#empty();
    limit.cancel();
    this.#close();
  }

  /** Ends everything. */
  #close(): void {
    this.#state = 'closed';
    for (const waiting of this.#queue.all()) {
      this.#queue.remove(waiting);
      this.#end(waiting, 'draining');
      waiting.refuse(shuttingDown());
    }
    for (const controller of this.#running.keys()) controller.abort(shuttingDown());
  }

  async #empty(): Promise<void> {
    if (this.#running.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    await promise;
  }

  #begin({ controller, tenant }: PlaceRequest): void {
    this.#running.set(controller, tenant);
    this.#places.set(tenant, (this.#places.get(tenant) ?? 0) + 1);
  }

  async #wait(request: PlaceRequest): Promise<void> {
    const { clock, queueMs, maxQueued } = this.#o;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting: Waiting = {
      ...request,
      beganMs: clock.monotonicMs(),
      enter: resolve,
      refuse: reject,
      timer: null,
    };
    const out = this.#queue.offer(waiting);
    if (out !== null) {
      this.#end(out, 'full');
      out.refuse(this.#refused('queue_full', `${maxQueued} requests wait already`));
      if (out === waiting) return promise;
    }
    const { signal } = request.controller;
    const onAbort = (): void => this.#giveUp(waiting, 'gone', toGuildhallError(signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    waiting.timer = clock.setTimer(queueMs, () =>
      this.#giveUp(waiting, 'timeout', this.#refused('queue_timeout', `no place became free within ${queueMs} ms`)),
    );
    this.#tell();
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #giveUp(waiting: Waiting, outcome: string, error: unknown): void {
    if (!this.#queue.remove(waiting)) return;
    this.#end(waiting, outcome);
    waiting.refuse(error);
  }

  /** Fills the places that are free. */
  #admit(): void {
    while (this.#state !== 'closed' && this.#running.size < this.#o.maxInFlight) {
      const next = this.#queue.take((tenant) => this.#places.get(tenant) ?? 0);
      if (next === null) return;
      this.#begin(next);
      this.#end(next, 'served');
      next.enter();
    }
  }

  #end(waiting: Waiting, outcome: string): void {
    const { clock, metrics } = this.#o;
    waiting.timer?.cancel();
    metrics.count('guildhall_gateway_queue_total', { outcome });
    metrics.observe('guildhall_gateway_queue_seconds', (clock.monotonicMs() - waiting.beganMs) / 1000);
    this.#tell();
  }

  #tell(): void {
    this.#o.metrics.gauge('guildhall_gateway_queued_requests', this.#queue.size);
  }

  #refused(reason: Reason, why: string): GuildhallError {
    const { maxInFlight, queueMs } = this.#o;
    const message = `this gateway runs ${maxInFlight} completions at a time, and ${why}; try again in a moment`;
    return refusal(reason, message, Math.min(MAX_RETRY_S, Math.max(1, Math.ceil(queueMs / 2000))));
  }
}

function shuttingDown(): GuildhallError {
  return fail('not_ready', 'this gateway is shutting down', { details: { reason: 'draining' } });
}
