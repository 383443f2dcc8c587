import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Clock } from '../clock.ts';
import { fail, type GuildhallError, toGrpc } from '../errors.ts';
import { resetServerCall } from './reset.ts';

/** Messages given to the transport and not yet taken by it. */
const MAX_UNSENT = 4;

/**
 * A streaming answer that follows its reader: little is buffered, the end of the call is known at once, and a reader that
 * takes nothing for `readerLimitMs` is cut off.
 */
export class PacedCall<Reply> {
  readonly #call: ServerWritableStream<unknown, Reply>;
  readonly #clock: Clock;
  readonly #readerLimitMs: number;
  readonly #abort = new AbortController();
  readonly #stopped = Promise.withResolvers<never>();
  #unsent = 0;
  #onChange: (() => void) | null = null;

  constructor(call: ServerWritableStream<unknown, Reply>, options: { clock: Clock; readerLimitMs: number }) {
    this.#call = call;
    this.#clock = options.clock;
    this.#readerLimitMs = options.readerLimitMs;
    this.#stopped.promise.catch(() => undefined);
    call.on('cancelled', () => this.#stop(fail('cancelled', 'the caller cancelled')));
  }

  /** Aborts when nobody reads any more. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Rejects when nobody reads any more. Errors: `cancelled`, `deadline_exceeded`. */
  get stopped(): Promise<never> {
    return this.#stopped.promise;
  }

  /** Sends a message; resolves when there is room for another. Errors: `cancelled`, `deadline_exceeded`. */
  async write(message: Reply): Promise<void> {
    this.#abort.signal.throwIfAborted();
    this.#unsent += 1;
    this.#call.write(message, () => {
      this.#unsent -= 1;
      this.#onChange?.();
    });
    await this.#untilUnsent(MAX_UNSENT - 1);
  }

  /** Ends the call well, once everything is sent. Errors: as for `write`. */
  async end(): Promise<void> {
    await this.#untilUnsent(0);
    this.#call.end();
  }

  /** Ends the call with an error; nothing for one that is over. */
  fail(err: unknown): void {
    if (!this.#abort.signal.aborted) this.#call.emit('error', toGrpc(err));
  }

  async #untilUnsent(most: number): Promise<void> {
    const { signal } = this.#abort;
    while (this.#unsent > most) {
      signal.throwIfAborted();
      const limit = this.#clock.setTimer(this.#readerLimitMs, () => this.#cutOff());
      await new Promise<void>((resolve) => {
        this.#onChange = resolve;
      });
      limit.cancel();
    }
    signal.throwIfAborted();
  }

  #cutOff(): void {
    resetServerCall(this.#call);
    this.#stop(fail('deadline_exceeded', `the reader took nothing for ${this.#readerLimitMs} ms`));
  }

  #stop(reason: GuildhallError): void {
    this.#abort.abort(reason);
    this.#stopped.reject(reason);
    this.#onChange?.();
  }
}
