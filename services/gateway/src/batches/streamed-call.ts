import { once } from 'node:events';
import type { ClientWritableStream, ServiceError } from '@grpc/grpc-js';
import { fromGrpc } from '@guildhall/common';

/** A call that is sent as many messages, as fast as they are taken, and answered once. */
export class StreamedCall<Message, Reply> {
  readonly #call: ClientWritableStream<Message>;
  readonly #answer = Promise.withResolvers<Reply>();

  constructor(open: (callback: (error: ServiceError | null, reply: Reply) => void) => ClientWritableStream<Message>) {
    this.#answer.promise.catch(() => undefined);
    this.#call = open((error, reply) => {
      if (error === null) this.#answer.resolve(reply);
      else this.#answer.reject(fromGrpc(error));
    });
    this.#call.on('error', () => undefined);
  }

  /** Waits until more is taken. An answer before the end is a refusal, and thrown. */
  async send(message: Message): Promise<void> {
    if (!this.#call.write(message)) await Promise.race([once(this.#call, 'drain'), this.#answer.promise]);
  }

  /** Ends the call and waits for its answer. */
  async end(): Promise<Reply> {
    this.#call.end();
    return await this.#answer.promise;
  }

  cancel(): void {
    this.#call.cancel();
  }
}
