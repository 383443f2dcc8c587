import {
  type Clock,
  fail,
  type Logger,
  type Metrics,
  type Timer,
  toGrpc,
  toGuildhallError,
  type Tracing,
} from '@guildhall/common';
import type { Lane, NativeBinding } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import type { Metadata } from '@grpc/grpc-js';
import type { Batcher } from '../batcher.ts';
import { rowBytes, type WorkerIdentity } from '../identity.ts';
import { forEachExpert, readClientFrame } from './frames.ts';
import { ForwardTrace } from './forward-trace.ts';
import { acceptHello, COMBINE_MODES, helloReply, type Session } from './hello.ts';

/** The part of a grpc-js server stream that is used. */
export interface ByteStream {
  on(event: 'data', listener: (bytes: Buffer) => void): unknown;
  on(event: 'end' | 'cancelled', listener: () => void): unknown;
  emit(event: 'error', err: unknown): boolean;
  write(bytes: Buffer): boolean;
  end(metadata?: Metadata): unknown;
  readonly writableLength: number;
}

/** What all streams of a worker share. */
export interface StreamContext {
  identity: WorkerIdentity;
  batcher: Batcher;
  codec: Pick<NativeBinding, 'parseForwardHeader' | 'parseReplyHeader' | 'packStatusReply'>;
  /** The current Held frame. */
  held: () => Buffer;
  /** Told of each expert entry served. */
  countExpert: (layer: number, expert: number) => void;
  /** Told of each message that was computed: its expert entries, and the microseconds that they took. */
  countMessage: (lane: Lane, rows: number, us: number) => void;
  logger: Logger;
  metrics: Metrics;
  tracing: Tracing;
  clock: Clock;
}

/** What is looked at in the header of a Forward. */
type ForwardFacts = Pick<
  ReturnType<NativeBinding['parseForwardHeader']>,
  'layer' | 'numRows' | 'numEntries' | 'combineMode' | 'traceparent'
>;

/** Time within which the hello must come. */
const HELLO_LIMIT_MS = 10_000;
/** Replies that a router may leave unread, over what it may have queued. */
const UNREAD_SLACK = 64;
const { REPLY_STATUS_OK, REPLY_STATUS_BUSY, REPLY_STATUS_INVALID, REPLY_STATUS_FAILED } = experts.ReplyStatus;
/** Bytes of a reply besides its rows, at most. */
const REPLY_OVERHEAD_BYTES = 256;

/** One router's stream of one lane: hello first, then forwards in any number, each answered once. */
export class ExpertStream {
  readonly #stream: ByteStream;
  readonly #ctx: StreamContext;
  readonly #onChange: (stream: ExpertStream, open: boolean) => void;
  readonly #helloLimit: Timer;
  #session: Session | null = null;
  #open = true;
  #ended = false;
  #unanswered = 0;

  constructor(stream: ByteStream, ctx: StreamContext, onChange: (stream: ExpertStream, open: boolean) => void) {
    this.#stream = stream;
    this.#ctx = ctx;
    this.#onChange = onChange;
    this.#helloLimit = ctx.clock.setTimer(HELLO_LIMIT_MS, () => {
      this.#refuse(fail('deadline_exceeded', `no hello within ${HELLO_LIMIT_MS} ms`));
    });
    stream.on('data', (bytes) => this.#onFrame(bytes));
    stream.on('end', () => this.#onEnd());
    stream.on('cancelled', () => this.#close());
  }

  get lane(): Session['lane'] | null {
    return this.#session?.lane ?? null;
  }

  /** Sends what is held now, if the hello is done. */
  sendHeld(): void {
    if (this.#session !== null) this.#write(this.#ctx.held());
  }

  /** Ends the stream because the worker stops. */
  shutDown(): void {
    this.#refuse(fail('peer_unavailable', `worker ${this.#ctx.identity.id} is shutting down`));
  }

  #onFrame(bytes: Buffer): void {
    if (!this.#open) return;
    try {
      const frame = readClientFrame(bytes);
      if (this.#session === null) {
        if (frame.kind !== 'hello') throw fail('protocol_mismatch', 'the first frame must be a Hello');
        this.#greet(frame.hello);
      } else if (frame.kind === 'forward') this.#forward(bytes, this.#session);
      else if (frame.kind === 'held_query') this.sendHeld();
      else if (frame.kind === 'hello') throw fail('protocol_mismatch', 'a second Hello');
      else this.#ctx.logger.debug('a frame of unknown kind was ignored');
    } catch (err) {
      this.#refuse(err);
    }
  }

  #greet(hello: experts.Hello): void {
    const { identity, logger } = this.#ctx;
    this.#session = acceptHello(hello, identity);
    this.#helloLimit.cancel();
    this.#write(helloReply(identity, this.#session));
    this.#onChange(this, true);
    logger.info({ router: hello.routerId, lane: this.#session.lane }, 'stream opened');
  }

  #forward(bytes: Buffer, session: Session): void {
    const header = this.#headerOf(bytes);
    if (header === null) return this.#compute(bytes, session, null, null);
    const wrong = this.#disagreement(session, header);
    if (wrong !== null) return this.#answer(bytes, REPLY_STATUS_INVALID, wrong);
    const { tracing, clock, identity } = this.#ctx;
    const trace = tracing.enabled ? ForwardTrace.of(tracing, clock, identity.id, session.lane, header) : null;
    this.#compute(bytes, session, header.layer, trace);
  }

  /** What a well-formed Forward has against the hello, if anything. */
  #disagreement(session: Session, header: ForwardFacts): string | null {
    const { identity } = this.#ctx;
    if (header.combineMode !== COMBINE_MODES[identity.combine])
      return `combine_mode is not the ${identity.combine} of the hello`;
    const rows = identity.combine === 'exact' ? header.numEntries : header.numRows;
    const replyBytes = rows * rowBytes(identity) + REPLY_OVERHEAD_BYTES;
    const limit = Math.min(session.maxReplyBytes, identity.maxMessageBytes);
    return replyBytes > limit ? `the reply would have ${replyBytes} bytes, the limit is ${limit}` : null;
  }

  /** Null for bytes that are not a Forward: native code answers those. */
  #headerOf(bytes: Buffer): ForwardFacts | null {
    try {
      return this.#ctx.codec.parseForwardHeader(bytes);
    } catch {
      return null;
    }
  }

  #compute(bytes: Buffer, session: Session, layer: number | null, trace: ForwardTrace | null): void {
    // Replies that the router has not taken yet count as waiting, or they would pile up here.
    const full = this.#stream.writableLength >= this.#ctx.identity.maxQueued;
    const taken =
      !full &&
      this.#ctx.batcher.submit({
        frame: bytes,
        lane: session.lane,
        owner: this,
        done: (reply, error) => this.#done(bytes, reply, error, layer, trace),
      });
    if (taken) this.#unanswered += 1;
    else {
      trace?.end(REPLY_STATUS_BUSY, 0, 0);
      this.#answer(bytes, REPLY_STATUS_BUSY, '');
    }
  }

  #done(request: Buffer, reply: Buffer | null, error: unknown, layer: number | null, trace: ForwardTrace | null): void {
    this.#unanswered -= 1;
    try {
      if (reply !== null) this.#reply(request, reply, layer, trace);
      else this.#failed(request, error, trace);
    } catch (err) {
      this.#refuse(err);
    }
    if (this.#ended && this.#unanswered === 0) this.#finish();
  }

  #reply(request: Buffer, reply: Buffer, layer: number | null, trace: ForwardTrace | null): void {
    const { codec, metrics, countExpert, countMessage, identity } = this.#ctx;
    const lane = this.lane ?? 'decode';
    const header = codec.parseReplyHeader(reply);
    trace?.end(header.status, header.queueUs, header.computeUs);
    metrics.count('guildhall_expert_replies_total', { lane, status: header.status });
    metrics.observe('guildhall_expert_compute_seconds', header.computeUs / 1e6, { lane });
    if (header.status === REPLY_STATUS_OK && layer !== null) {
      metrics.count('guildhall_expert_rows_total', { worker: identity.id }, header.numRows);
      let rows = 0;
      forEachExpert(request, (expert) => {
        countExpert(layer, expert);
        rows += 1;
      });
      countMessage(lane, rows, header.computeUs);
    }
    this.#write(reply);
  }

  #failed(request: Buffer, error: unknown, trace: ForwardTrace | null): void {
    const { logger, metrics } = this.#ctx;
    const known = toGuildhallError(error);
    logger.error({ err: error, ...trace?.logFields }, 'a forward failed');
    trace?.end(REPLY_STATUS_FAILED, 0, 0);
    metrics.count('guildhall_errors_total', { code: known.code });
    this.#answer(request, REPLY_STATUS_FAILED, known.message);
  }

  /** A reply without rows. */
  #answer(request: Buffer, status: number, why: string): void {
    this.#ctx.metrics.count('guildhall_expert_replies_total', { lane: this.lane ?? 'decode', status });
    this.#write(this.#ctx.codec.packStatusReply(request, status, why));
  }

  #write(bytes: Buffer): void {
    if (!this.#open) return;
    if (this.#stream.writableLength > this.#ctx.identity.maxQueued + UNREAD_SLACK) {
      this.#refuse(fail('overloaded', 'the router does not read its replies'));
      return;
    }
    this.#stream.write(bytes);
  }

  #refuse(err: unknown): void {
    if (!this.#open) return;
    const known = toGuildhallError(err);
    this.#ctx.metrics.count('guildhall_errors_total', { code: known.code });
    this.#ctx.logger.warn({ code: known.code, reason: known.message, router: this.#session?.routerId }, 'stream ended');
    this.#close();
    this.#stream.emit('error', toGrpc(known));
  }

  #onEnd(): void {
    this.#ended = true;
    if (this.#unanswered === 0) this.#finish();
  }

  #finish(): void {
    if (!this.#open) return;
    this.#close();
    this.#stream.end();
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#helloLimit.cancel();
    this.#ctx.batcher.cancel(this);
    this.#onChange(this, false);
  }
}
