import type { ChannelCredentials, ClientDuplexStream, Metadata, ServiceError } from '@grpc/grpc-js';
import { Client, status } from '@grpc/grpc-js';
import {
  channelOptions,
  type Clock,
  errorMessage,
  fail,
  fromGrpc,
  openIdentityStream,
  type Timer,
} from '@guildhall/common';
import type { Lane, ReplyHeader } from '@guildhall/native';
import { experts } from '@guildhall/proto';

/** Range of protocol versions that this router speaks. */
export const PROTOCOL_MIN = 1;
export const PROTOCOL_MAX = 1;

const STREAM_PATH = experts.ExpertsService.stream.path;
const HELLO_LIMIT_MS = 5000;
const BACKOFF_FIRST_MS = 50;
const BACKOFF_CAP_MS = 2000;
/** After a refusal there is nothing to hurry for: only a restart of the worker can change it. */
const REFUSED_RETRY_MS = 5000;

/** A peer that sends nonsense is not asked for more at once. */
const UNREADABLE_RETRY_MS = 500;

/** Tags of the frames in ServerFrame, as their first byte. */
const TAG_REPLY = 0x12;

/** What came of one message: its reply, or the loss of the stream before it. */
export type ReplyOutcome = { kind: 'reply'; header: ReplyHeader; frame: Buffer } | { kind: 'lost'; reason: string };

export type ReplySink = (outcome: ReplyOutcome) => void;

/** Who this router is, to its workers. */
export interface RouterIdentity {
  routerId: string;
  incarnation: bigint;
  modelFingerprint: string;
  numericsId: string;
  rowFormat: experts.RowFormat;
  combineMode: experts.CombineMode;
  /** Largest message that it takes, bytes. */
  maxMessageBytes: number;
  hiddenSize: number;
  numLayers: number;
  numExperts: number;
  /** Smallest message limit of a worker with which a row can be sent, bytes. */
  leastMessageBytes: number;
}

export interface LaneStreamOptions {
  address: string;
  lane: Lane;
  identity: RouterIdentity;
  credentials: ChannelCredentials;
  metadata: Metadata;
  clock: Clock;
  parseReplyHeader: (frame: Uint8Array) => ReplyHeader;
  /** Ready or not any more. */
  onState: () => void;
  onHeld: (held: experts.Held) => void;
  /** A reply that nobody waits for. */
  onStray: () => void;
  onProblem: (reason: string) => void;
}

/**
 * States: `connecting` (call open, hello sent), `ready` (hello answered and accepted), `waiting` (for the next
 * attempt), `closed`. Every loss fails what is outstanding at once and leads to `waiting`.
 */
export type LaneState = 'connecting' | 'ready' | 'waiting' | 'closed';

/** Key of a message among those of one lane: replies must repeat it. */
export function messageKey(m: {
  step: number;
  layer: number;
  microBatch: number;
  attempt: number;
  part: number;
}): string {
  return `${m.step}.${m.layer}.${m.microBatch}.${m.attempt}.${m.part}`;
}

/** One bidirectional stream to one worker, on a connection of its own, opened again whenever it breaks. */
export class LaneStream {
  readonly #options: LaneStreamOptions;
  readonly #client: Client;
  readonly #pending = new Map<string, ReplySink>();
  #state: LaneState = 'waiting';
  #call: ClientDuplexStream<Buffer, Buffer> | null = null;
  #timer: Timer | null = null;
  #failures = 0;
  #hello: experts.HelloReply | null = null;
  #lastProblem = 'not connected yet';

  constructor(options: LaneStreamOptions) {
    this.#options = options;
    const limits = channelOptions({ maxMessageBytes: options.identity.maxMessageBytes });
    this.#client = new Client(options.address, options.credentials, limits);
  }

  /** Begins to connect; once. */
  open(): void {
    this.#connect();
  }

  get state(): LaneState {
    return this.#state;
  }

  get ready(): boolean {
    return this.#state === 'ready';
  }

  /** Why it is not ready. */
  get problem(): string {
    return this.#lastProblem;
  }

  /** The worker's answer to the hello; null while not ready. */
  get hello(): experts.HelloReply | null {
    return this.#hello;
  }

  /**
   * Sends a Forward frame; `sink` is called once with its reply or with the loss of the stream, unless the key is
   * forgotten before. False, and nothing sent, when not ready.
   */
  send(key: string, frame: Buffer, sink: ReplySink): boolean {
    if (this.#call === null || !this.ready) return false;
    this.#pending.set(key, sink);
    this.#call.write(frame);
    return true;
  }

  /** A reply under this key, should it still come, is dropped. */
  forget(key: string): void {
    this.#pending.delete(key);
  }

  /** Asks what the worker holds; the answer goes to onHeld. */
  queryHeld(): void {
    if (this.ready) this.#call?.write(encode({ frame: { $case: 'heldQuery', value: {} } }));
  }

  /** Gives the stream up, for a reason of the caller's, and opens it again. */
  reset(reason: string): void {
    if (this.#call !== null) this.#lose(this.#call, reason, this.#backoffMs());
  }

  close(): void {
    if (this.#state === 'closed') return;
    const call = this.#call;
    this.#timer?.cancel();
    this.#call = null;
    this.#setState('closed');
    call?.cancel();
    this.#failPending('the link was closed');
    this.#client.close();
  }

  #connect(): void {
    const { lane, identity, metadata, clock } = this.#options;
    const call = openIdentityStream(this.#client, STREAM_PATH, metadata);
    this.#call = call;
    call.on('data', (frame: Buffer) => this.#receive(call, frame));
    call.on('error', (error: ServiceError) => this.#onError(call, error));
    call.on('end', () => this.#lose(call, 'the worker ended the stream', this.#backoffMs()));
    this.#setState('connecting');
    this.#timer = clock.setTimer(HELLO_LIMIT_MS, () => {
      this.#lose(call, `no answer to the hello within ${HELLO_LIMIT_MS} ms`, this.#backoffMs());
    });
    call.write(encode({ frame: { $case: 'hello', value: helloOf(identity, lane) } }));
  }

  #receive(call: ClientDuplexStream<Buffer, Buffer>, frame: Buffer): void {
    if (call !== this.#call) return;
    try {
      if (frame[0] === TAG_REPLY) this.#onReply(frame);
      else this.#onControl(experts.ServerFrame.decode(frame));
    } catch (err) {
      this.#lose(call, `a frame that cannot be read: ${errorMessage(err)}`, UNREADABLE_RETRY_MS);
    }
  }

  #onReply(frame: Buffer): void {
    const header = this.#options.parseReplyHeader(frame);
    const key = messageKey(header);
    const sink = header.routerIncarnation === this.#options.identity.incarnation ? this.#pending.get(key) : undefined;
    if (sink === undefined) return this.#options.onStray();
    this.#pending.delete(key);
    sink({ kind: 'reply', header, frame });
  }

  #onControl({ frame }: experts.ServerFrame): void {
    if (frame?.$case === 'hello') return this.#onHello(frame.value);
    if (frame?.$case === 'held') return this.#options.onHeld(frame.value);
    throw fail('protocol_mismatch', 'expected a hello, a reply or a held');
  }

  #onHello(hello: experts.HelloReply): void {
    if (this.#state !== 'connecting') throw fail('protocol_mismatch', 'a second hello');
    const refusal = refusalOf(hello, this.#options.identity);
    if (refusal !== null) {
      if (this.#call !== null) this.#lose(this.#call, refusal, REFUSED_RETRY_MS);
      return;
    }
    this.#timer?.cancel();
    this.#hello = hello;
    this.#failures = 0;
    this.#setState('ready');
  }

  #onError(call: ClientDuplexStream<Buffer, Buffer>, error: ServiceError): void {
    const refused = error.code === status.FAILED_PRECONDITION || error.code === status.UNAUTHENTICATED;
    this.#lose(call, fromGrpc(error).message, refused ? REFUSED_RETRY_MS : this.#backoffMs());
  }

  #backoffMs(): number {
    return Math.min(BACKOFF_CAP_MS, BACKOFF_FIRST_MS * 2 ** this.#failures);
  }

  #lose(call: ClientDuplexStream<Buffer, Buffer>, reason: string, retryMs: number): void {
    if (call !== this.#call) return;
    this.#timer?.cancel();
    this.#call = null;
    this.#hello = null;
    this.#failures += 1;
    call.cancel();
    if (reason !== this.#lastProblem) this.#options.onProblem(reason);
    this.#lastProblem = reason;
    this.#timer = this.#options.clock.setTimer(retryMs, () => this.#connect());
    this.#setState('waiting');
    this.#failPending(reason);
  }

  #failPending(reason: string): void {
    const sinks = [...this.#pending.values()];
    this.#pending.clear();
    for (const sink of sinks) sink({ kind: 'lost', reason });
  }

  #setState(state: LaneState): void {
    this.#state = state;
    this.#options.onState();
  }
}

function encode(frame: experts.ClientFrame): Buffer {
  return Buffer.from(experts.ClientFrame.encode(frame).finish());
}

function helloOf(identity: RouterIdentity, lane: Lane): experts.Hello {
  return {
    protocolMin: PROTOCOL_MIN,
    protocolMax: PROTOCOL_MAX,
    routerId: identity.routerId,
    routerIncarnation: identity.incarnation,
    modelFingerprint: identity.modelFingerprint,
    numericsId: identity.numericsId,
    lane: lane === 'decode' ? experts.Lane.LANE_DECODE : experts.Lane.LANE_PREFILL,
    rowFormat: identity.rowFormat,
    combineMode: identity.combineMode,
    maxMessageBytes: identity.maxMessageBytes,
  };
}

/** Why a worker cannot be used, with both values; null when it can. */
function refusalOf(hello: experts.HelloReply, identity: RouterIdentity): string | null {
  if (hello.protocol < PROTOCOL_MIN || hello.protocol > PROTOCOL_MAX) {
    return `protocol ${hello.protocol} of the worker, this router speaks ${PROTOCOL_MIN} to ${PROTOCOL_MAX}`;
  }
  const differing = (
    [
      ['checkpoint', hello.modelFingerprint, identity.modelFingerprint],
      ['numerics class', hello.numericsId, identity.numericsId],
      ['hidden size', hello.hiddenSize, identity.hiddenSize],
      ['number of layers', hello.numLayers, identity.numLayers],
      ['number of experts', hello.numExperts, identity.numExperts],
    ] as const
  ).find(([, theirs, ours]) => theirs !== ours);
  if (differing !== undefined) return `${differing[0]} ${differing[1]} of the worker, ${differing[2]} of this router`;
  if (hello.maxMessageBytes < identity.leastMessageBytes) {
    return `the worker takes messages of ${hello.maxMessageBytes} bytes, a row needs ${identity.leastMessageBytes}`;
  }
  return null;
}
