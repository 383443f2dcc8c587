import type { ServerResponse } from 'node:http';
import { type Clock, fail, type Timer, toGuildhallError, toHttp } from '@guildhall/common';

export interface SseOptions {
  response: ServerResponse;
  /** Called once, before the head is written. */
  onOpen: () => void;
  /** Headers beside those of an event stream; asked for when the head is written. */
  headers: () => Record<string, string>;
  clock: Clock;
  /** A comment is sent when nothing was for so long. */
  keepAliveMs: number;
  /** A client that reads nothing for so long counts as gone; 0 for never. */
  stallMs: number;
  signal: AbortSignal;
  /** What is sent when nothing was for so long; a comment by default. */
  keepAlive?: string;
}

/** One event with a name of its own. */
export interface NamedEvent {
  name: string;
  value: unknown;
}

/**
 * One server-sent event stream. The head is written with the first event or comment, so that a request that fails
 * before has a plain HTTP status. Writers wait while the client does not read: nothing is queued here beyond what
 * the socket takes.
 */
export class SseStream {
  readonly #options: SseOptions;
  readonly #timer: Timer;
  #opened = false;
  #quiet = false;
  #draining: Promise<void> | null = null;

  constructor(options: SseOptions) {
    this.#options = options;
    this.#timer = options.clock.setInterval(options.keepAliveMs, () => this.#keepAlive());
  }

  get opened(): boolean {
    return this.#opened;
  }

  /** Sends one event and waits until the client takes more. Throws the signal's reason when it aborts. */
  async send(value: unknown): Promise<void> {
    await this.#write(`data: ${JSON.stringify(value)}\n\n`);
  }

  /** Sends events that have names, as `send` does. */
  async sendNamed(events: readonly NamedEvent[]): Promise<void> {
    if (events.length > 0) await this.#write(events.map(eventText).join(''));
  }

  /** Sends last events whatever the signal says, as far as the client still reads, and ends the stream, be it empty. */
  end(events: readonly NamedEvent[] = []): void {
    const { response } = this.#options;
    if (!response.destroyed) {
      this.#open();
      if (events.length > 0) response.write(events.map(eventText).join(''));
    }
    this.#end();
  }

  /** Ends the stream as OpenAI does. */
  async done(): Promise<void> {
    await this.#write('data: [DONE]\n\n');
    this.#end();
  }

  /** Ends the stream with an error event. */
  failed(err: unknown): void {
    if (!this.#options.response.destroyed)
      this.#options.response.write(`data: ${JSON.stringify(toHttp(err).body)}\n\n`);
    this.#end();
  }

  /** Stops the timer of a stream that was never opened. */
  dispose(): void {
    this.#timer.cancel();
  }

  #end(): void {
    this.dispose();
    this.#options.response.end();
  }

  #open(): void {
    if (this.#opened) return;
    this.#opened = true;
    const { response, onOpen, headers } = this.#options;
    onOpen();
    response.writeHead(200, {
      ...headers(),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
  }

  async #write(text: string): Promise<void> {
    const { signal, response } = this.#options;
    if (signal.aborted) throw toGuildhallError(signal.reason);
    this.#open();
    this.#quiet = false;
    if (!response.write(text)) await (this.#draining ??= this.#drained());
  }

  async #drained(): Promise<void> {
    const { response, signal, clock, stallMs } = this.#options;
    try {
      await new Promise<void>((resolve, reject) => {
        const onStall = (): void => {
          finish(() => reject(fail('cancelled', `the client has read nothing for ${stallMs} ms`)));
          response.destroy();
        };
        const stall = stallMs === 0 ? null : clock.setTimer(stallMs, onStall);
        const finish = (settle: () => void): void => {
          stall?.cancel();
          response.off('drain', onDrain).off('close', onClose);
          signal.removeEventListener('abort', onAbort);
          settle();
        };
        const onDrain = (): void => finish(resolve);
        const onClose = (): void => finish(() => reject(fail('cancelled', 'the client closed the connection')));
        const onAbort = (): void => finish(() => reject(toGuildhallError(signal.reason)));
        response.once('drain', onDrain).once('close', onClose);
        signal.addEventListener('abort', onAbort, { once: true });
        if (response.destroyed) onClose();
      });
    } finally {
      this.#draining = null;
    }
  }

  #keepAlive(): void {
    const { response, signal } = this.#options;
    const wasQuiet = this.#quiet;
    this.#quiet = true;
    if (!wasQuiet || this.#draining !== null || signal.aborted || response.destroyed) return;
    this.#open();
    response.write(this.#options.keepAlive ?? ': keep-alive\n\n');
  }
}

function eventText({ name, value }: NamedEvent): string {
  return `event: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
}
