import { Client, type ClientDuplexStream, type Server, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  authMetadata,
  bindGrpcServer,
  channelCredentials,
  channelOptions,
  type Clock,
  createGrpcServer,
  fail,
  MAX_MESSAGE_BYTES,
  openIdentityStream,
  identityBidiDefinition,
  toGrpc,
} from '@guildhall/common';
import { experts } from '@guildhall/proto';

const STREAM_PATH = experts.ExpertsService.stream.path;
const PLAIN = { tlsCert: null, tlsKey: null, tlsCa: null };

/** What a front does with a reply of the worker behind it: which frames the router gets instead, and when. */
export type Misbehaviour = (reply: experts.ForwardReply, frame: Buffer) => { frame: Buffer; afterMs: number }[];

export interface WorkerFrontOptions {
  /** host:port to listen on; port 0 takes a free one. */
  listen: string;
  /** host:port of the worker. */
  target: string;
  clusterToken: string;
  clock: Clock;
}

/**
 * Stands between routers and one worker, as a sick worker would be seen: passes every frame of the Experts service on,
 * and does to replies what it is told to.
 */
export class WorkerFront {
  readonly #options: WorkerFrontOptions;
  readonly #server: Server;
  #address = '';
  #misbehaviour: Misbehaviour | null = null;
  /** Replies that were not passed on as they came. */
  changed = 0;

  private constructor(options: WorkerFrontOptions) {
    this.#options = options;
    this.#server = createGrpcServer(
      { ...PLAIN, clusterToken: options.clusterToken },
      { maxMessageBytes: MAX_MESSAGE_BYTES },
    );
    this.#server.addService(
      { stream: identityBidiDefinition(STREAM_PATH) },
      { stream: (call: ServerDuplexStream<Buffer, Buffer>) => this.#join(call) },
    );
  }

  static async start(options: WorkerFrontOptions): Promise<WorkerFront> {
    const front = new WorkerFront(options);
    front.#address = await bindGrpcServer(front.#server, options.listen);
    return front;
  }

  /** What the worker must advertise. */
  get address(): string {
    return this.#address;
  }

  /** What is done to replies from now on; null passes them on as they come. */
  misbehave(how: Misbehaviour | null): void {
    this.#misbehaviour = how;
  }

  close(): void {
    this.#server.forceShutdown();
  }

  #join(call: ServerDuplexStream<Buffer, Buffer>): void {
    const { target, clusterToken } = this.#options;
    const limits = channelOptions({ maxMessageBytes: MAX_MESSAGE_BYTES });
    const client = new Client(target, channelCredentials(PLAIN), limits);
    const worker = openIdentityStream(client, STREAM_PATH, authMetadata({ clusterToken }));
    call.on('data', (frame: Buffer) => worker.write(frame));
    call.on('end', () => worker.end());
    call.on('error', () => worker.cancel());
    call.on('cancelled', () => worker.cancel());
    call.on('close', () => client.close());
    worker.on('data', (frame: Buffer) => this.#pass(call, frame));
    worker.on('end', () => call.end());
    worker.on('error', (error) => breakStream(call, worker, error.message));
  }

  #pass(call: ServerDuplexStream<Buffer, Buffer>, frame: Buffer): void {
    const how = this.#misbehaviour;
    const decoded = how === null ? undefined : experts.ServerFrame.decode(frame).frame;
    const given = decoded?.$case === 'reply' && how !== null ? how(decoded.value, frame) : [{ frame, afterMs: 0 }];
    if (given.length !== 1 || given[0]?.frame !== frame || given[0].afterMs > 0) this.changed += 1;
    for (const { frame: bytes, afterMs } of given) {
      if (afterMs === 0) write(call, bytes);
      else this.#options.clock.setTimer(afterMs, () => write(call, bytes));
    }
  }
}

function write(call: ServerDuplexStream<Buffer, Buffer>, frame: Buffer): void {
  if (!call.destroyed && !call.cancelled) call.write(frame);
}

function breakStream(
  call: ServerDuplexStream<Buffer, Buffer>,
  worker: ClientDuplexStream<Buffer, Buffer>,
  reason: string,
): void {
  worker.destroy();
  if (!call.destroyed) call.emit('error', toGrpc(fail('peer_unavailable', reason)));
}
