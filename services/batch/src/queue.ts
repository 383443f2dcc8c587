import { type Clock, errorMessage, type Logger, type Metrics } from '@guildhall/common';
import { type Job, Queue, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { BatchRun, type BatchRunDeps } from './batch-run.ts';

export interface BatchQueueOptions {
  /** Connections that wait for Redis as long as it takes; closed by who made them. */
  connection: Redis;
  blocking: Redis;
  /** Prefix of the queue's keys. */
  prefix: string;
  /** Unique to this process's start. */
  owner: string;
  run: BatchRunDeps;
  concurrentBatches: number;
  /** Time after which a batch makes room for others that wait, milliseconds. */
  turnMs: number;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

const NAME = 'batches';
/** A process that says nothing for so long has died, and its batch goes to another. */
const LOCK_MS = 15_000;
const LOOK_FOR_DEAD_MS = 5000;
/** A turn that failed, because of a full disk for instance, is tried again after so long. */
const RETRY_MS = 5000;
const ALWAYS = 1_000_000;

/** Which process works on which batch: BullMQ gives each to one at a time, in turns, and again when a process dies. */
export class BatchQueue {
  readonly #o: BatchQueueOptions;
  readonly #queue: Queue;
  readonly #worker: Worker;
  readonly #running = new Map<string, { run: BatchRun; pause: AbortController }>();
  #turns = 0;

  constructor(options: BatchQueueOptions) {
    this.#o = options;
    const { connection, blocking, prefix, concurrentBatches, logger } = options;
    this.#queue = new Queue(NAME, { connection, prefix });
    this.#worker = new Worker(NAME, (job, token) => this.#work(job, token), {
      connection: blocking,
      prefix,
      autorun: false,
      concurrency: concurrentBatches,
      lockDuration: LOCK_MS,
      stalledInterval: LOOK_FOR_DEAD_MS,
      maxStalledCount: ALWAYS,
    });
    const note = (err: Error): void => logger.warn({ reason: err.message }, 'the queue of batches has a problem');
    this.#queue.on('error', note);
    this.#worker.on('error', note);
  }

  start(): void {
    void this.#worker.run().catch((err: unknown) => {
      this.#o.logger.error({ reason: errorMessage(err), err }, 'the queue of batches ended');
    });
  }

  /** Puts a batch at the end of the queue; a batch that is there already stays where it is. */
  async add(id: string): Promise<void> {
    const backoff = { type: 'fixed', delay: RETRY_MS };
    await this.#queue.add('batch', {}, { jobId: id, attempts: ALWAYS, backoff, removeOnComplete: true });
  }

  /** Batches that wait for their turn. */
  async depth(): Promise<number> {
    return await this.#queue.getWaitingCount();
  }

  /** Takes no new batch, lets lines on their way end for `graceMs`, and gives the batches back. */
  async stop(graceMs: number): Promise<void> {
    const { clock } = this.#o;
    for (const { pause } of this.#running.values()) pause.abort();
    const limit = clock.setTimer(graceMs, () => {
      for (const { run } of this.#running.values()) run.abort();
    });
    await this.#worker.close();
    limit.cancel();
    await this.#queue.close();
  }

  async #work(job: Job, token: string | undefined): Promise<void> {
    const { run: deps, owner, metrics, logger } = this.#o;
    const id = job.id ?? '';
    const run = new BatchRun(deps, id, `${owner}.${++this.#turns}`);
    const pause = new AbortController();
    this.#running.set(id, { run, pause });
    metrics.gauge('guildhall_batches_running', this.#running.size);
    const turn = this.#limitTurn(pause);
    try {
      const end = await run.turn(pause.signal);
      logger.debug({ batch: id, end }, 'a turn at a batch ended');
      if (end !== 'paused') return;
    } catch (err) {
      logger.warn({ batch: id, reason: errorMessage(err) }, 'a turn at a batch failed');
      throw err;
    } finally {
      turn.cancel();
      this.#running.delete(id);
      metrics.gauge('guildhall_batches_running', this.#running.size);
    }
    await job.moveToWait(token);
    throw new WaitingError();
  }

  /** Pauses a turn that is long while others wait. */
  #limitTurn(pause: AbortController): { cancel: () => void } {
    const { clock, turnMs } = this.#o;
    return clock.setInterval(turnMs, () => {
      this.depth().then(
        (waiting) => {
          if (waiting > 0) pause.abort();
        },
        () => undefined,
      );
    });
  }
}
