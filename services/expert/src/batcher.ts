import type { Clock, Metrics } from '@guildhall/common';
import type { Lane } from '@guildhall/native';

/** Where forwards are computed. */
export interface ForwardTarget {
  forward(frame: Uint8Array, queueUs: number, lane: Lane): Promise<Buffer>;
}

/** One Forward of a stream. */
export interface Job {
  frame: Buffer;
  lane: Lane;
  /** The stream: its limit and its cancellation. */
  owner: object;
  /** Called once with the reply, or with the error that the computation ended with; not after a cancellation. */
  done(reply: Buffer | null, error: unknown): void;
}

interface Queued extends Job {
  sinceMs: number;
}

export interface BatcherOptions {
  target: ForwardTarget;
  clock: Clock;
  metrics: Metrics;
  /** Requests that may wait or run per stream. */
  maxQueued: number;
}

/** Decode forwards that may go before a waiting prefill one. */
const MAX_OVERTAKING = 16;
const LANES: readonly Lane[] = ['decode', 'prefill'];

/**
 * Queues the forwards of all streams by lane, one in flight per lane. A prefill forward does not start while decode
 * ones wait, unless it was overtaken 16 times.
 */
export class Batcher {
  readonly #options: BatcherOptions;
  readonly #queues: Record<Lane, Queued[]> = { decode: [], prefill: [] };
  readonly #inFlight: Record<Lane, boolean> = { decode: false, prefill: false };
  readonly #perOwner = new Map<object, number>();
  /** Depths that the gauges show. */
  readonly #shown: Record<Lane, number> = { decode: -1, prefill: -1 };
  #overtaken = 0;
  /** When the last forward ended. */
  #endedMs = -Infinity;
  #idle: (() => void)[] = [];

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  /** Takes a job, or returns false when its stream has its limit waiting. */
  submit(job: Job): boolean {
    const { clock, maxQueued } = this.#options;
    const waiting = this.#perOwner.get(job.owner) ?? 0;
    if (waiting >= maxQueued) return false;
    this.#perOwner.set(job.owner, waiting + 1);
    this.#queues[job.lane].push({ ...job, sinceMs: clock.monotonicMs() });
    this.#pump();
    return true;
  }

  /** Forgets what a stream has waiting; a forward in flight ends without being heard. */
  cancel(owner: object): void {
    for (const lane of LANES) {
      this.#queues[lane] = this.#queues[lane].filter((job) => job.owner !== owner);
      this.#gauge(lane);
    }
    this.#perOwner.delete(owner);
    this.#pump();
  }

  depth(lane: Lane): number {
    return this.#queues[lane].length;
  }

  /** Time since a forward waited or ran, milliseconds; 0 while one does. */
  quietMs(): number {
    const busy = LANES.some((lane) => this.#inFlight[lane] || this.#queues[lane].length > 0);
    return busy ? 0 : this.#options.clock.monotonicMs() - this.#endedMs;
  }

  /** Resolves when nothing waits or runs. */
  async idle(): Promise<void> {
    while (LANES.some((lane) => this.#inFlight[lane] || this.#queues[lane].length > 0)) {
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  #pump(): void {
    for (const lane of LANES) {
      if (this.#inFlight[lane] || this.#queues[lane].length === 0) continue;
      if (lane === 'prefill' && this.#decodeFirst()) continue;
      const job = this.#queues[lane].shift();
      if (job !== undefined) void this.#run(job);
    }
    for (const lane of LANES) this.#gauge(lane);
  }

  #decodeFirst(): boolean {
    return this.#queues.decode.length > 0 && this.#overtaken < MAX_OVERTAKING;
  }

  #noteStart(lane: Lane): void {
    if (lane === 'prefill') this.#overtaken = 0;
    else if (this.#queues.prefill.length > 0) this.#overtaken += 1;
  }

  async #run(job: Queued): Promise<void> {
    const { target, clock, metrics } = this.#options;
    this.#inFlight[job.lane] = true;
    this.#noteStart(job.lane);
    const queueMs = clock.monotonicMs() - job.sinceMs;
    metrics.observe('guildhall_expert_queue_seconds', queueMs / 1000, { lane: job.lane });
    let reply: Buffer | null = null;
    let error: unknown = null;
    try {
      reply = await target.forward(job.frame, Math.round(queueMs * 1000), job.lane);
    } catch (err) {
      error = err;
    }
    this.#inFlight[job.lane] = false;
    this.#endedMs = clock.monotonicMs();
    this.#finish(job, reply, error);
    this.#pump();
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #finish(job: Queued, reply: Buffer | null, error: unknown): void {
    const waiting = this.#perOwner.get(job.owner);
    if (waiting === undefined) return;
    if (waiting <= 1) this.#perOwner.delete(job.owner);
    else this.#perOwner.set(job.owner, waiting - 1);
    job.done(reply, error);
  }

  #gauge(lane: Lane): void {
    const depth = this.#queues[lane].length;
    if (depth === this.#shown[lane]) return;
    this.#shown[lane] = depth;
    this.#options.metrics.gauge('guildhall_expert_queue_depth', depth, { lane });
  }
}
