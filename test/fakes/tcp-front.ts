import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Transform } from 'node:stream';

/**
 * A TCP listener in front of a server of this process, so that the server can die as its clients would see a killed
 * process: every connection breaks at once and the address refuses new ones.
 */
export class TcpFront {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** What clients get instead of the bytes that the server sends; may change them in place. */
  readonly #alter: (chunk: Buffer) => Buffer;
  #address = '';
  /** Milliseconds that each piece of up to 64 KiB takes, each way. */
  delayMs = 0;

  private constructor(port: number, alter: (chunk: Buffer) => Buffer) {
    this.#alter = alter;
    this.#server = createServer((client) => this.#join(client, connect(port, '127.0.0.1')));
  }

  /** Listens on a free port of 127.0.0.1 for a server on `port`. */
  static async start(port: number, alter: (chunk: Buffer) => Buffer = (chunk) => chunk): Promise<TcpFront> {
    const front = new TcpFront(port, alter);
    front.#server.listen(0, '127.0.0.1');
    await once(front.#server, 'listening');
    const bound = front.#server.address();
    if (bound === null || typeof bound === 'string') throw new TypeError('no port');
    front.#address = `127.0.0.1:${bound.port}`;
    return front;
  }

  get address(): string {
    return this.#address;
  }

  /** Breaks all connections and stops listening. */
  kill(): void {
    this.#server.close();
    this.cut();
  }

  /** Breaks all connections; new ones are taken. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Resolves when nothing is open any more. */
  async closed(): Promise<void> {
    await Promise.all([...this.#sockets].map((socket) => once(socket, 'close')));
  }

  #join(client: Socket, server: Socket): void {
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on('error', () => undefined);
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    client.pipe(this.#slowly()).pipe(server);
    const alter = new Transform({ transform: (chunk: Buffer, _encoding, done) => done(null, this.#alter(chunk)) });
    server.pipe(this.#slowly()).pipe(alter).pipe(client);
  }

  #slowly(): Transform {
    return new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        if (this.delayMs === 0) done(null, chunk);
        else setTimeout(() => done(null, chunk), this.delayMs);
      },
    });
  }
}
