import type { Lane, ReplyHeader } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import {
  type ExpertPeer,
  type MessageLimits,
  replyBytes,
  type ReplySink,
  requestBytes,
} from '@guildhall/router/scheduling';
import type { SimThread } from '../kernel/host.ts';
import { type Nic, transfer } from '../kernel/nic.ts';
import type { SimClock } from '../kernel/sim-clock.ts';
import type { Transport } from '../model/machines.ts';
import { type MessageWork, workOf } from './step-buffers.ts';
import type { SimWorker } from './worker.ts';

export interface WireOptions {
  clock: SimClock;
  /** The router's event loop, which packs, sends and takes every message. */
  loop: SimThread;
  nic: Nic;
  transport: Transport;
  rowBytes: number;
  /** One reply row for each expert of a row, or one for each row. */
  combine: 'exact' | 'partial';
  limits: MessageLimits;
}

interface Outgoing {
  lane: Lane;
  bytes: number;
  transmit: () => void;
}

/** A router's end of the wire: what is sent at one time is packed in one go and leaves when that is done. */
export class Wire {
  readonly options: WireOptions;
  #outgoing: Outgoing[] = [];

  constructor(options: WireOptions) {
    this.options = options;
  }

  send(message: Outgoing): void {
    this.#outgoing.push(message);
    if (this.#outgoing.length > 1) return;
    const { clock } = this.options;
    clock.at(clock.monotonicMs(), () => this.#flush());
  }

  /** Time of the event loop for a message in one direction, milliseconds. */
  messageMs(bytes: number): number {
    const { usPerCall, usPerKib } = this.options.transport;
    return (usPerCall / 2 + (bytes / 1024) * usPerKib) / 1000;
  }

  #flush(): void {
    const all = this.#outgoing;
    this.#outgoing = [];
    for (const [lane, messages] of Map.groupBy(all, (message) => message.lane)) {
      const ms = messages.reduce((sum, { bytes }) => sum + this.messageMs(bytes), 0);
      this.options.loop.submit(lane, ms, () => {
        for (const { transmit } of messages) transmit();
      });
    }
  }
}

const EMPTY = Buffer.alloc(0);

/** A worker as one router sees it. */
export class SimPeer implements ExpertPeer {
  readonly id: string;
  readonly isFallback = false;
  readonly worker: SimWorker;
  ready = true;
  readonly #wire: Wire;
  readonly #onDown: () => void;
  readonly #pending: Readonly<Record<Lane, Map<string, ReplySink>>> = { decode: new Map(), prefill: new Map() };

  /** `onDown` is called when it can no longer be sent to. */
  constructor(worker: SimWorker, wire: Wire, onDown: () => void) {
    this.id = worker.id;
    this.worker = worker;
    this.#wire = wire;
    this.#onDown = onDown;
  }

  limits(): MessageLimits {
    return this.#wire.options.limits;
  }

  send(lane: Lane, key: string, frame: Buffer, sink: ReplySink): boolean {
    if (!this.ready) return false;
    const { rowBytes } = this.#wire.options;
    const work = workOf(frame);
    this.#pending[lane].set(key, sink);
    const bytes = requestBytes(work.rows, work.entries, rowBytes);
    this.#wire.send({ lane, bytes, transmit: () => this.#transmit(lane, key, work, bytes) });
    return true;
  }

  forget(lane: Lane, key: string): void {
    this.#pending[lane].delete(key);
  }

  queryHeld(): void {}

  /** The stream is given up: what is on its way is lost, and a dead worker does not come back. */
  reset(lane: Lane, reason: string): void {
    this.#lose(lane, reason);
    if (this.worker.alive || !this.ready) return;
    this.down(reason);
  }

  /** The connection broke. */
  down(reason: string): void {
    this.ready = false;
    this.#lose('decode', reason);
    this.#lose('prefill', reason);
    this.#onDown();
  }

  #lose(lane: Lane, reason: string): void {
    const sinks = [...this.#pending[lane].values()];
    this.#pending[lane].clear();
    for (const sink of sinks) sink({ kind: 'lost', reason });
    this.#wire.options.clock.settle();
  }

  #transmit(lane: Lane, key: string, work: MessageWork, bytes: number): void {
    const { clock, nic, transport, rowBytes, combine, loop } = this.#wire.options;
    const { worker } = this;
    const latencyMs = transport.latencyUs / 1000;
    const answerRows = combine === 'exact' ? work.entries : work.rows;
    const answerBytes = replyBytes(answerRows, rowBytes);
    transfer({ clock, from: nic, to: worker.nic, lane, bytes, latencyMs }, () => {
      worker.compute(lane, work, () => {
        transfer({ clock, from: worker.nic, to: nic, lane, bytes: answerBytes, latencyMs }, () => {
          loop.submit(lane, this.#wire.messageMs(answerBytes), () => this.#answered(lane, key, answerRows));
        });
      });
    });
  }

  #answered(lane: Lane, key: string, numRows: number): void {
    const sink = this.#pending[lane].get(key);
    if (sink === undefined) return;
    this.#pending[lane].delete(key);
    sink({ kind: 'reply', header: headerOf(numRows), frame: EMPTY });
  }
}

const NONE = new Int32Array(0);

function headerOf(numRows: number): ReplyHeader {
  return {
    routerIncarnation: 0n,
    step: 0,
    layer: 0,
    microBatch: 0,
    attempt: 0,
    part: 0,
    status: experts.ReplyStatus.REPLY_STATUS_OK,
    numRows,
    computeUs: 0,
    queueUs: 0,
    notHeld: NONE,
    error: '',
  };
}
