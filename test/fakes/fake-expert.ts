import type { Http2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Server, ServerCredentials, ServerDuplexStream } from '@grpc/grpc-js';
import {
  bindGrpcServer,
  createGrpcServer,
  fail,
  identityBidiDefinition,
  newIncarnation,
  toGrpc,
} from '@guildhall/common';
import { experts } from '@guildhall/proto';

/** What the fake does with a Forward instead of serving it. */
export type FakeAction =
  | { kind: 'busy' }
  | { kind: 'not-held'; experts?: number[] }
  | { kind: 'invalid' }
  | { kind: 'failed' }
  /** Bytes that are no frame. */
  | { kind: 'garbage' }
  /** A reply that says it has more rows than it has bytes. */
  | { kind: 'lying' }
  /** The reply, twice. */
  | { kind: 'twice' }
  /** The reply of another incarnation of the router, then the right one. */
  | { kind: 'stray' }
  /** Served when the promise resolves. */
  | { kind: 'wait'; until: Promise<void> }
  /** Served after so many milliseconds. */
  | { kind: 'delay'; ms: number }
  /** Never answered. */
  | { kind: 'hang' }
  /** The stream breaks. */
  | { kind: 'cut' }
  /** The whole worker dies. */
  | { kind: 'die' };

/** One Forward that came in. */
export interface FakeCall {
  lane: 'decode' | 'prefill';
  step: number;
  layer: number;
  microBatch: number;
  attempt: number;
  part: number;
  epoch: number;
  numRows: number;
  /** Expert of each entry, and how many entries each row has. */
  experts: number[];
  rowEntries: number[];
  bytes: number;
}

export interface FakeExpertOptions {
  id?: string;
  fingerprint?: string;
  numericsId?: string;
  hidden?: number;
  numLayers?: number;
  numExperts?: number;
  maxMessageBytes?: number;
  /** Experts held in every layer; all by default. */
  held?: readonly number[];
  clusterToken?: string | null;
  /** Row of one expert; `fakeExpertRow` by default. */
  compute?: (layer: number, expert: number, row: Float32Array) => Float32Array;
  /** What to do with a Forward by its rows, [rows][hidden]; null as `failNext` and `always` say. */
  decide?: (rows: Float32Array) => FakeAction | null;
}

/** What the fake computes: a function of the row, the expert and the layer, exact in f32 for small integers. */
export function fakeExpertRow(layer: number, expert: number, row: Float32Array): Float32Array {
  return row.map((value) => value * (expert + 1) + layer);
}

const { ReplyStatus, Lane } = experts;

/**
 * A worker made for tests: a real gRPC server of the Experts service with f32 rows in the exact mode, that records
 * what it is sent and can be told to fail next.
 */
export class FakeExpert {
  readonly id: string;
  readonly incarnation = newIncarnation();
  readonly hellos: experts.Hello[] = [];
  readonly calls: FakeCall[] = [];
  /** What to do with the next Forwards, taken from the front; then they are served. */
  readonly failNext: FakeAction[] = [];
  /** What to do with a Forward when `failNext` is empty; null serves it. */
  always: FakeAction | null = null;
  address = '';
  readonly #options: Required<Omit<FakeExpertOptions, 'id'>>;
  readonly #server: Server;
  readonly #streams = new Set<ServerDuplexStream<Buffer, Buffer>>();
  readonly #sockets = new Set<Socket>();
  #held: Set<string>;

  private constructor(options: FakeExpertOptions) {
    const { id = 'fake-1', ...rest } = options;
    this.id = id;
    this.#options = {
      fingerprint: 'fingerprint',
      numericsId: 'f32-fma-v1/f32/act-f32/row-f32/kv-f32/exact',
      hidden: 8,
      numLayers: 2,
      numExperts: 8,
      maxMessageBytes: 1 << 18,
      held: Array.from({ length: rest.numExperts ?? 8 }, (_, expert) => expert),
      clusterToken: null,
      compute: fakeExpertRow,
      decide: () => null,
      ...rest,
    };
    const { numLayers, held, clusterToken } = this.#options;
    this.#held = new Set(Array.from({ length: numLayers }, (_, layer) => held.map((e) => `${layer}/${e}`)).flat());
    const security = { tlsCert: null, tlsKey: null, tlsCa: null, clusterToken };
    this.#server = createGrpcServer(security, { maxMessageBytes: 64 << 20 });
    this.#watchSockets();
    this.#server.addService(
      { stream: identityBidiDefinition(experts.ExpertsService.stream.path) },
      { stream: (call: ServerDuplexStream<Buffer, Buffer>) => this.#serve(call) },
    );
  }

  static async start(options: FakeExpertOptions = {}): Promise<FakeExpert> {
    const fake = new FakeExpert(options);
    fake.address = await bindGrpcServer(fake.#server, '127.0.0.1:0');
    return fake;
  }

  get numStreams(): number {
    return this.#streams.size;
  }

  holds(layer: number, expert: number): boolean {
    return this.#held.has(`${layer}/${expert}`);
  }

  /** Replaces the experts held, in every layer, and tells every router so. */
  setHeld(held: readonly number[], tell = true): void {
    const { numLayers } = this.#options;
    this.#held = new Set(Array.from({ length: numLayers }, (_, layer) => held.map((e) => `${layer}/${e}`)).flat());
    if (tell) for (const call of this.#streams) this.#sendHeld(call);
  }

  /** Breaks every stream; the server goes on listening. */
  cut(): void {
    for (const call of this.#streams) cutStream(call);
  }

  /** Ends at once, with all connections, as the kernel ends those of a process that was killed. */
  die(): void {
    this.#server.forceShutdown();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** A forced shutdown of grpc-js says goodbye to its peers; a process that dies does not. */
  #watchSockets(): void {
    const internals = this.#server as unknown as { createHttp2Server: (credentials: ServerCredentials) => Http2Server };
    const create = internals.createHttp2Server.bind(this.#server);
    internals.createHttp2Server = (credentials) => {
      const server = create(credentials);
      server.on('connection', (socket: Socket) => {
        this.#sockets.add(socket);
        socket.on('close', () => this.#sockets.delete(socket));
      });
      return server;
    };
  }

  #serve(call: ServerDuplexStream<Buffer, Buffer>): void {
    let lane: FakeCall['lane'] | null = null;
    this.#streams.add(call);
    const gone = (): void => void this.#streams.delete(call);
    call.on('close', gone).on('cancelled', gone).on('error', gone);
    call.on('end', () => call.end());
    call.on('data', (bytes: Buffer) => {
      const { frame } = experts.ClientFrame.decode(bytes);
      if (frame?.$case === 'hello') {
        lane = frame.value.lane === Lane.LANE_PREFILL ? 'prefill' : 'decode';
        this.hellos.push(frame.value);
        this.#sendHello(call);
      } else if (frame?.$case === 'heldQuery') {
        this.#sendHeld(call);
      } else if (frame?.$case === 'forward' && lane !== null) {
        void this.#forward(call, lane, frame.value, bytes.length);
      }
    });
  }

  #sendHello(call: ServerDuplexStream<Buffer, Buffer>): void {
    const { fingerprint, numericsId, hidden, numLayers, numExperts, maxMessageBytes } = this.#options;
    const value: experts.HelloReply = {
      protocol: 1,
      workerId: this.id,
      workerIncarnation: this.incarnation,
      modelFingerprint: fingerprint,
      numericsId,
      maxMessageBytes,
      maxQueued: 16,
      hiddenSize: hidden,
      numLayers,
      numExperts,
    };
    send(call, { $case: 'hello', value });
  }

  #sendHeld(call: ServerDuplexStream<Buffer, Buffer>): void {
    const { numLayers, numExperts } = this.#options;
    const layers = Array.from({ length: numLayers }, (_, layer) => ({
      layer,
      experts: Array.from({ length: numExperts }, (_e, expert) => expert).filter((expert) => this.holds(layer, expert)),
    }));
    send(call, { $case: 'held', value: { ackedEpoch: 1n, layers } });
  }

  async #forward(
    call: ServerDuplexStream<Buffer, Buffer>,
    lane: FakeCall['lane'],
    forward: experts.Forward,
    bytes: number,
  ): Promise<void> {
    const { step, layer, microBatch, attempt, part, epoch, numRows } = forward;
    const wanted = readU16(forward.experts);
    const rowEntries = readU16(forward.rowEntries);
    this.calls.push({
      lane,
      step,
      layer,
      microBatch,
      attempt,
      part,
      epoch,
      numRows,
      experts: wanted,
      rowEntries,
      bytes,
    });
    const action = this.#options.decide(floats(forward.rows)) ?? this.failNext.shift() ?? this.always;
    if (action?.kind === 'wait') await action.until;
    else if (action?.kind === 'delay') await sleep(action.ms);
    else if (action !== null && !this.#misbehave(call, forward, wanted, action)) return;
    const lacking = [...new Set(wanted)].filter((expert) => !this.holds(layer, expert));
    if (lacking.length > 0)
      reply(call, forward, { status: ReplyStatus.REPLY_STATUS_NOT_HELD, notHeld: writeU16(lacking) });
    else this.#answer(call, forward, wanted, rowEntries);
  }

  /** Carries an action out; true when the Forward is to be served as well. */
  #misbehave(
    call: ServerDuplexStream<Buffer, Buffer>,
    forward: experts.Forward,
    wanted: number[],
    action: FakeAction,
  ): boolean {
    switch (action.kind) {
      case 'busy':
        reply(call, forward, { status: ReplyStatus.REPLY_STATUS_BUSY });
        return false;
      case 'not-held':
        reply(call, forward, {
          status: ReplyStatus.REPLY_STATUS_NOT_HELD,
          notHeld: writeU16(action.experts ?? [...new Set(wanted)]),
        });
        return false;
      case 'invalid':
        reply(call, forward, { status: ReplyStatus.REPLY_STATUS_INVALID, error: 'told to refuse' });
        return false;
      case 'failed':
        reply(call, forward, { status: ReplyStatus.REPLY_STATUS_FAILED, error: 'told to fail' });
        return false;
      case 'garbage':
        call.write(Buffer.from([0x12, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3]));
        return false;
      case 'lying':
        reply(call, forward, { status: ReplyStatus.REPLY_STATUS_OK, numRows: 1 << 20, rows: Buffer.alloc(4) });
        return false;
      case 'stray': {
        const routerIncarnation = forward.routerIncarnation + 1n;
        reply(call, { ...forward, routerIncarnation }, { status: ReplyStatus.REPLY_STATUS_OK });
        return true;
      }
      case 'twice':
        this.#answer(call, forward, wanted, readU16(forward.rowEntries));
        return true;
      case 'hang':
        return false;
      case 'cut':
        cutStream(call);
        return false;
      case 'die':
        this.die();
        return false;
      case 'wait':
      case 'delay':
        return true;
    }
  }

  #answer(
    call: ServerDuplexStream<Buffer, Buffer>,
    forward: experts.Forward,
    wanted: readonly number[],
    rowEntries: readonly number[],
  ): void {
    const { hidden, compute } = this.#options;
    const input = floats(forward.rows);
    const output = new Float32Array(wanted.length * hidden);
    let entry = 0;
    for (const [row, count] of rowEntries.entries()) {
      const values = input.subarray(row * hidden, (row + 1) * hidden);
      for (const end = entry + count; entry < end; entry++) {
        output.set(compute(forward.layer, wanted[entry] ?? -1, values), entry * hidden);
      }
    }
    const rows = Buffer.from(output.buffer, output.byteOffset, output.byteLength);
    reply(call, forward, { status: ReplyStatus.REPLY_STATUS_OK, numRows: wanted.length, rows });
  }
}

function cutStream(call: ServerDuplexStream<Buffer, Buffer>): void {
  call.emit('error', toGrpc(fail('peer_unavailable', 'the stream was cut')));
}

function send(call: ServerDuplexStream<Buffer, Buffer>, frame: NonNullable<experts.ServerFrame['frame']>): void {
  if (!call.destroyed && !call.cancelled) call.write(Buffer.from(experts.ServerFrame.encode({ frame }).finish()));
}

function reply(
  call: ServerDuplexStream<Buffer, Buffer>,
  forward: experts.Forward,
  fields: Partial<experts.ForwardReply>,
): void {
  const { routerIncarnation, step, layer, microBatch, attempt, part } = forward;
  const value = experts.ForwardReply.fromPartial({
    routerIncarnation,
    step,
    layer,
    microBatch,
    attempt,
    part,
    computeUs: 10,
    queueUs: 1,
    ...fields,
  });
  send(call, { $case: 'reply', value });
}

function readU16(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length >> 1 }, (_, i) => bytes.readUInt16LE(2 * i));
}

function writeU16(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt16LE(value, 2 * i);
  return bytes;
}

/** A copy, since the rows of a message may lie at any offset. */
function floats(bytes: Buffer): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer);
}
