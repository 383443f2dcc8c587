import { type Clock, identityBidiDefinition, type Timer } from '@guildhall/common';
import type { Server, ServerDuplexStream } from '@grpc/grpc-js';
import { ExpertStream, type StreamContext } from './stream.ts';

/** Path of guildhall.v1.Experts.Stream. */
export const STREAM_PATH = '/guildhall.v1.Experts/Stream';

/** Changes of the held set are gathered for so long before routers are told. */
const HELD_DELAY_MS = 100;
const LANES = ['decode', 'prefill'] as const;

/** All open streams of a worker. */
export class ExpertsService {
  readonly #ctx: StreamContext;
  readonly #clock: Clock;
  readonly #streams = new Set<ExpertStream>();
  #pendingHeld: Timer | null = null;

  constructor(ctx: StreamContext) {
    this.#ctx = ctx;
    this.#clock = ctx.clock;
  }

  addTo(server: Server): void {
    server.addService(
      { stream: identityBidiDefinition(STREAM_PATH) },
      {
        stream: (call: ServerDuplexStream<Buffer, Buffer>) => this.#accept(call),
      },
    );
  }

  /** Tells every router soon what is held now. */
  heldChanged(): void {
    this.#pendingHeld ??= this.#clock.setTimer(HELD_DELAY_MS, () => {
      this.#pendingHeld = null;
      for (const stream of this.#streams) stream.sendHeld();
    });
  }

  /** Ends every stream. */
  shutDown(): void {
    this.#pendingHeld?.cancel();
    for (const stream of this.#streams) stream.shutDown();
  }

  #accept(call: ServerDuplexStream<Buffer, Buffer>): void {
    const stream = new ExpertStream(call, this.#ctx, (changed, open) => {
      if (!open) this.#streams.delete(changed);
      this.#gauge();
    });
    this.#streams.add(stream);
  }

  #gauge(): void {
    for (const lane of LANES) {
      const open = [...this.#streams].filter((stream) => stream.lane === lane).length;
      this.#ctx.metrics.gauge('guildhall_expert_streams', open, { lane });
    }
  }
}
