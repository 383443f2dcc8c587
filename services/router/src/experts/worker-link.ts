import type { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import type { Clock, Logger } from '@guildhall/common';
import type { Lane, ReplyHeader } from '@guildhall/native';
import type { experts } from '@guildhall/proto';
import { LaneStream, type ReplySink, type RouterIdentity } from './lane-stream.ts';
import type { ExpertPeer } from './peer.ts';
import type { MessageLimits } from './plan.ts';

/** A worker as its member entry describes it. */
export interface WorkerAddress {
  id: string;
  incarnation: bigint;
  /** host:port. */
  address: string;
}

/** What all links of a router share. */
export interface LinkContext {
  identity: RouterIdentity;
  credentials: ChannelCredentials;
  metadata: Metadata;
  clock: Clock;
  logger: Logger;
  parseReplyHeader: (frame: Uint8Array) => ReplyHeader;
  /** A link became ready or connected, or stopped being it. */
  onState: (link: WorkerLink) => void;
  onHeld: (link: WorkerLink, held: experts.Held) => void;
  onStray: (link: WorkerLink) => void;
}

/** The two streams, decode and prefill, to one incarnation of one worker. */
export class WorkerLink implements ExpertPeer {
  readonly id: string;
  readonly isFallback = false;
  readonly incarnation: bigint;
  readonly address: string;
  readonly #lanes: Readonly<Record<Lane, LaneStream>>;
  readonly #identity: RouterIdentity;
  #wasReady = false;
  #wasConnected = false;
  #closed = false;

  constructor(worker: WorkerAddress, context: LinkContext) {
    this.id = worker.id;
    this.incarnation = worker.incarnation;
    this.address = worker.address;
    this.#identity = context.identity;
    this.#lanes = { decode: this.#makeLane('decode', context), prefill: this.#makeLane('prefill', context) };
  }

  /** Begins to connect; once. */
  open(): void {
    this.#lanes.decode.open();
    this.#lanes.prefill.open();
  }

  /** True when both lanes can be sent to. */
  get ready(): boolean {
    return !this.#closed && this.#lanes.decode.ready && this.#lanes.prefill.ready;
  }

  /** True when either lane is up: the worker lives. */
  get connected(): boolean {
    return this.#lanes.decode.ready || this.#lanes.prefill.ready;
  }

  /** True when the stream of a lane is up. */
  up(lane: Lane): boolean {
    return this.#lanes[lane].ready;
  }

  /** Why it is not ready. */
  get problem(): string {
    return this.#lanes.decode.ready ? this.#lanes.prefill.problem : this.#lanes.decode.problem;
  }

  limits(lane: Lane): MessageLimits {
    const own = this.#identity.maxMessageBytes;
    const theirs = this.#lanes[lane].hello?.maxMessageBytes ?? own;
    return { requestBytes: Math.min(own, theirs), replyBytes: Math.min(own, theirs) };
  }

  /** See LaneStream.send. */
  send(lane: Lane, key: string, frame: Buffer, sink: ReplySink): boolean {
    return this.#lanes[lane].send(key, frame, sink);
  }

  forget(lane: Lane, key: string): void {
    this.#lanes[lane].forget(key);
  }

  /** Asks again what the worker holds. */
  queryHeld(): void {
    this.#lanes.decode.queryHeld();
  }

  /** Opens the stream of a lane again, because it no longer answers. */
  reset(lane: Lane, reason: string): void {
    this.#lanes[lane].reset(reason);
  }

  close(): void {
    this.#closed = true;
    this.#lanes.decode.close();
    this.#lanes.prefill.close();
  }

  #makeLane(lane: Lane, context: LinkContext): LaneStream {
    const log = context.logger.child({ worker: this.id, lane });
    return new LaneStream({
      address: this.address,
      lane,
      identity: context.identity,
      credentials: context.credentials,
      metadata: context.metadata,
      clock: context.clock,
      parseReplyHeader: context.parseReplyHeader,
      onState: () => this.#onState(context),
      onHeld: (held) => context.onHeld(this, held),
      onStray: () => context.onStray(this),
      onProblem: (reason) => log.warn({ reason, address: this.address }, 'stream to the worker lost'),
    });
  }

  #onState(context: LinkContext): void {
    const { ready, connected } = this;
    const wasReady = this.#wasReady;
    if (ready === wasReady && connected === this.#wasConnected) return;
    this.#wasReady = ready;
    this.#wasConnected = connected;
    if (ready && !wasReady) {
      context.logger.info({ worker: this.id, address: this.address }, 'worker connected');
      this.queryHeld();
    }
    context.onState(this);
  }
}
