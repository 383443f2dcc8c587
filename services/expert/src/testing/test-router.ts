import {
  channelCredentials,
  channelOptions,
  fail,
  fromGrpc,
  type GuildhallError,
  openIdentityStream,
} from '@guildhall/common';
import { experts } from '@guildhall/proto';
import { Client, type ClientDuplexStream, Metadata } from '@grpc/grpc-js';
import type { ExpertApp } from '../app.ts';
import { STREAM_PATH } from '../rpc/service.ts';

const NO_TLS = { tlsCert: null, tlsKey: null, tlsCa: null };
const MESSAGE_LIMIT = 4 << 20;

/** Rows of one request: for each row its expert numbers. */
export interface Rows {
  layer: number;
  entries: number[][];
  rows: Float32Array;
}

/** The hello of a router that fits `app`, with changes. */
export function helloFor(
  app: Pick<ExpertApp, 'fingerprint' | 'numericsId'>,
  change: Partial<experts.Hello> = {},
): experts.Hello {
  return {
    protocolMin: 1,
    protocolMax: 1,
    routerId: 'router-1',
    routerIncarnation: 77n,
    modelFingerprint: app.fingerprint,
    numericsId: app.numericsId,
    lane: experts.Lane.LANE_DECODE,
    rowFormat: experts.RowFormat.ROW_FORMAT_F32,
    combineMode: experts.CombineMode.COMBINE_MODE_EXACT,
    maxMessageBytes: MESSAGE_LIMIT,
    ...change,
  };
}

export function clientFrame(frame: experts.ClientFrame['frame']): Buffer {
  return Buffer.from(experts.ClientFrame.encode({ frame }).finish());
}

/** A ClientFrame{Forward}, encoded by protobuf as any client would. */
export function forwardFrame(
  step: number,
  { layer, entries, rows }: Rows,
  change: Partial<experts.Forward> = {},
): Buffer {
  const flat = entries.flat();
  const value: experts.Forward = {
    routerIncarnation: 77n,
    step,
    layer,
    microBatch: 0,
    attempt: 0,
    part: 0,
    epoch: 1,
    numRows: entries.length,
    combineMode: experts.CombineMode.COMBINE_MODE_EXACT,
    traceparent: Buffer.alloc(0),
    rowEntries: Buffer.from(Uint16Array.from(entries, (row) => row.length).buffer),
    experts: Buffer.from(Uint16Array.from(flat).buffer),
    weights: Buffer.from(Float32Array.from(flat, () => 0.5).buffer),
    rows: Buffer.from(rows.buffer, rows.byteOffset, rows.byteLength),
    ...change,
  };
  return clientFrame({ $case: 'forward', value });
}

/** One stream of a router that a test plays. */
export class TestRouter {
  readonly stream: ClientDuplexStream<Buffer, Buffer>;
  /** Replies and Held frames in order of arrival. */
  readonly received: experts.ServerFrame[] = [];
  readonly failed: Promise<GuildhallError>;
  readonly #client: Client;
  readonly #waiting = new Set<() => void>();
  #ended = false;

  constructor(address: string, metadata = new Metadata()) {
    this.#client = new Client(address, channelCredentials(NO_TLS), channelOptions({ maxMessageBytes: 16 << 20 }));
    this.stream = openIdentityStream(this.#client, STREAM_PATH, metadata);
    this.stream.on('data', (bytes: Buffer) => {
      this.received.push(experts.ServerFrame.decode(bytes));
      this.#wake();
    });
    this.failed = new Promise((resolve) => {
      this.stream.on('error', (err) => {
        this.#ended = true;
        this.#wake();
        resolve(fromGrpc(err));
      });
    });
    this.stream.on('end', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /** Opens a stream and says hello; rejects with the worker's refusal. */
  static async open(app: ExpertApp, change: Partial<experts.Hello> = {}): Promise<TestRouter> {
    const router = new TestRouter(app.address);
    router.hello(helloFor(app, change));
    const reply = await Promise.race([router.take('hello'), router.failed]);
    if (reply instanceof Error) {
      router.close();
      throw reply;
    }
    return router;
  }

  hello(value: experts.Hello): void {
    this.stream.write(clientFrame({ $case: 'hello', value }));
  }

  /** Sends a request and resolves its reply. */
  async forward(step: number, rows: Rows, change: Partial<experts.Forward> = {}): Promise<experts.ForwardReply> {
    this.stream.write(forwardFrame(step, rows, change));
    return this.reply((reply) => reply.step === step);
  }

  reply(matches: (reply: experts.ForwardReply) => boolean = () => true): Promise<experts.ForwardReply> {
    return this.take('reply', matches);
  }

  async held(): Promise<experts.Held> {
    this.stream.write(clientFrame({ $case: 'heldQuery', value: {} }));
    return this.take('held');
  }

  /** Removes the first frame of a kind that matches, waiting for it. */
  async take<K extends 'hello' | 'reply' | 'held'>(
    kind: K,
    matches: (value: ValueOf<K>) => boolean = () => true,
  ): Promise<ValueOf<K>> {
    for (;;) {
      const at = this.received.findIndex(({ frame }) => frame?.$case === kind && matches(frame.value as ValueOf<K>));
      if (at >= 0) return this.received.splice(at, 1)[0]?.frame?.value as ValueOf<K>;
      if (this.#ended) throw fail('peer_unavailable', `the stream ended without a ${kind}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  close(): void {
    this.stream.cancel();
    this.#client.close();
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

type ValueOf<K> = Extract<NonNullable<experts.ServerFrame['frame']>, { $case: K }>['value'];
