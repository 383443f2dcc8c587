import type { Lane } from '@guildhall/native';
import type { SimHost, SimThread } from '../kernel/host.ts';
import { Nic } from '../kernel/nic.ts';
import type { Random } from '../kernel/random.ts';
import { computeMs, type WorkerKind } from '../model/machines.ts';
import type { ModelShape } from '../model/shape.ts';
import type { MessageWork } from './step-buffers.ts';

export interface SimWorkerOptions {
  id: string;
  kind: WorkerKind;
  shape: ModelShape;
  host: SimHost;
  nicBytesPerSecond: number;
  failureDomain: string;
  random: Random;
}

/** A worker: a queue, a processor and a network card. */
export class SimWorker {
  readonly id: string;
  readonly kind: WorkerKind;
  readonly failureDomain: string;
  readonly nic: Nic;
  readonly thread: SimThread;
  /** Experts that it holds, as the router's views take them. */
  readonly held: Uint8Array;
  alive = true;
  /** Times are multiplied by it. */
  slowness = 1;
  entries = 0;
  messages = 0;
  readonly #shape: ModelShape;
  readonly #random: Random;

  constructor(options: SimWorkerOptions) {
    const { id, kind, shape, host, nicBytesPerSecond, failureDomain, random } = options;
    this.id = id;
    this.kind = kind;
    this.failureDomain = failureDomain;
    this.nic = new Nic(nicBytesPerSecond);
    this.thread = host.thread();
    this.held = new Uint8Array(shape.numLayers * shape.numExperts);
    this.#shape = shape;
    this.#random = random;
  }

  /** Computes a message that has arrived; `done` is called when its reply can be sent, never once the worker is dead. */
  compute(lane: Lane, work: MessageWork, done: () => void): void {
    if (!this.alive) return;
    this.entries += work.entries;
    this.messages += 1;
    this.thread.submit(lane, this.messageMs(work) * this.slowness * this.#noise(), done);
  }

  /** Milliseconds of a message on an idle worker, without noise. */
  messageMs({ entries, experts }: Omit<MessageWork, 'rows'>): number {
    const { usPerMessage, usPerRow } = this.kind;
    const { expertBytes, expertFlops } = this.#shape;
    return (
      (usPerMessage + entries * usPerRow) / 1000 + computeMs(this.kind, experts * expertBytes, entries * expertFlops)
    );
  }

  /** Ends it: messages on their way to it and in it are lost. */
  kill(): void {
    this.alive = false;
    this.thread.kill();
  }

  #noise(): number {
    const { jitter, stragglers, stragglerFactor } = this.kind;
    const straggles = stragglers > 0 && this.#random.next() < stragglers;
    return this.#random.logNormal(1, jitter) * (straggles ? stragglerFactor : 1);
  }
}
