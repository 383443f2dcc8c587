import { type Clock, fail, type RedisKeys, runScript } from '@guildhall/common';
import type { Redis } from 'ioredis';
import { checkBatchId, newBatchId, noSuch } from '../ids.ts';
import { idsAfter, type PageRequest } from './pages.ts';

/** States as OpenAI's API names them. */
export type BatchStatus =
  'validating' | 'in_progress' | 'finalizing' | 'completed' | 'failed' | 'expired' | 'cancelling' | 'cancelled';

/** A finding about an input file. `line` from 1, 0 where it is about no line. */
export interface BatchProblem {
  code: string;
  message: string;
  param: string;
  line: number;
}

/** What does not change once a batch is made. */
export interface BatchFacts {
  id: string;
  tenant: string;
  endpoint: string;
  inputFileId: string;
  metadata: Record<string, string>;
  /** Milliseconds since the Unix epoch. */
  createdMs: number;
  expiresMs: number;
}

/** When a batch came into a status, milliseconds since the Unix epoch. */
export type StatusTimes = Partial<Record<BatchStatus, number>>;

export interface Batch extends BatchFacts {
  status: BatchStatus;
  total: number;
  completed: number;
  failed: number;
  outputFileId: string;
  errorFileId: string;
  errors: BatchProblem[];
  times: StatusTimes;
  /** Status that it goes to from `finalizing`; null before that is known. */
  end: BatchStatus | null;
}

/** A part of a batch's results: lines of its output and of its errors, stored together. */
export interface Segment {
  name: string;
  completed: number;
  failed: number;
  /** Numbers of its lines, from 0. */
  lines: readonly number[];
}

/** A batch that is over is forgotten after 30 days. */
const KEEP_S = 30 * 86_400;
export const ENDED: ReadonlySet<BatchStatus> = new Set(['completed', 'failed', 'expired', 'cancelled']);

/** Batches in Redis. Every change of a running one names its owner, and is refused once another process owns it. */
export class BatchStore {
  readonly #redis: Redis;
  readonly #keys: RedisKeys;
  readonly #clock: Clock;

  constructor(redis: Redis, keys: RedisKeys, clock: Clock) {
    this.#redis = redis;
    this.#keys = keys;
    this.#clock = clock;
  }

  async create(facts: Omit<BatchFacts, 'id' | 'createdMs' | 'expiresMs'>, windowMs: number): Promise<Batch> {
    const createdMs = this.#clock.nowMs();
    const made: BatchFacts = { ...facts, id: newBatchId(), createdMs, expiresMs: createdMs + windowMs };
    const fields = { facts: JSON.stringify(made), status: 'validating', owner: '', completed: 0, failed: 0, total: 0 };
    await this.#redis
      .multi()
      .hset(this.#keys.batch(made.id), fields)
      .zadd(this.#keys.batchesOf(made.tenant), createdMs, made.id)
      .sadd(this.#keys.batchesRunning, made.id)
      .exec();
    return await this.get(made.tenant, made.id);
  }

  /** A tenant's batch. Throws `not_found`. */
  async get(tenant: string, id: string): Promise<Batch> {
    const batch = await this.find(checkBatchId(id));
    if (batch === null || batch.tenant !== tenant) throw noSuch('batch', id, 'batch_id');
    return batch;
  }

  async find(id: string): Promise<Batch | null> {
    const fields = await this.#redis.hgetall(this.#keys.batch(id));
    return fields['facts'] === undefined ? null : batchOf(fields);
  }

  async list(tenant: string, page: PageRequest): Promise<{ batches: Batch[]; hasMore: boolean }> {
    const ids = await idsAfter(this.#redis, this.#keys.batchesOf(tenant), page, page.limit + 1);
    const found = await Promise.all(ids.map((id) => this.find(id)));
    const gone = ids.filter((_, i) => found[i] === null);
    if (gone.length > 0) await this.#redis.zrem(this.#keys.batchesOf(tenant), ...gone);
    const batches = found.filter((batch) => batch !== null);
    return { batches: batches.slice(0, page.limit), hasMore: batches.length > page.limit };
  }

  /** Asks a batch to stop. Throws `invalid_value` when it is over or about to be. */
  async cancel(batch: Batch): Promise<void> {
    const asked = await this.#advance(batch.id, '', ['validating', 'in_progress', 'cancelling'], 'cancelling', {});
    if (!asked) throw fail('invalid_value', 'the batch is over and cannot be cancelled', { field: 'batch_id' });
  }

  /** Makes `owner` the only one who may change the batch. @returns its status, null when there is no such batch. */
  async claim(id: string, owner: string): Promise<BatchStatus | null> {
    const status = String(await runScript(this.#redis, 'batch-claim', [this.#keys.batch(id)], [owner]));
    return status === '' ? null : (status as BatchStatus);
  }

  /** True while nobody else has claimed the batch. */
  async owns(id: string, owner: string): Promise<boolean> {
    return (await this.#redis.hget(this.#keys.batch(id), 'owner')) === owner;
  }

  /** False when another process owns the batch, or it is in none of the statuses `from`. */
  async advance(
    id: string,
    owner: string,
    from: readonly BatchStatus[],
    to: BatchStatus,
    fields: Record<string, string | number> = {},
  ): Promise<boolean> {
    const done = await this.#advance(id, owner, from, to, fields);
    if (done && ENDED.has(to)) {
      await this.#redis.multi().expire(this.#keys.batch(id), KEEP_S).srem(this.#keys.batchesRunning, id).exec();
    }
    return done;
  }

  /** Ids of batches that are not over. */
  async running(): Promise<string[]> {
    return await this.#redis.smembers(this.#keys.batchesRunning);
  }

  /** Notes that a segment is stored. False when another process owns the batch: the segment does not count. */
  async commit(id: string, owner: string, { name, completed, failed, lines }: Segment): Promise<boolean> {
    const keys = [this.#keys.batch(id), this.#keys.batchDone(id), this.#keys.batchSegments(id)];
    return (await runScript(this.#redis, 'batch-commit', keys, [owner, name, completed, failed, ...lines])) === 1;
  }

  /** Tells which lines are done, and the segments that hold their results. */
  async done(id: string): Promise<{ has: (line: number) => boolean; segments: string[] }> {
    const bits = (await this.#redis.getBuffer(this.#keys.batchDone(id))) ?? Buffer.alloc(0);
    const segments = await this.#redis.lrange(this.#keys.batchSegments(id), 0, -1);
    // SETBIT counts from the highest bit of a byte.
    return { has: (line) => (((bits[line >> 3] ?? 0) >> (7 - (line & 7))) & 1) === 1, segments };
  }

  /** Forgets which lines are done, once the results are files. */
  async forgetLines(id: string): Promise<void> {
    await this.#redis.del(this.#keys.batchDone(id), this.#keys.batchSegments(id));
  }

  async #advance(
    id: string,
    owner: string,
    from: readonly BatchStatus[],
    to: BatchStatus,
    fields: Record<string, string | number>,
  ): Promise<boolean> {
    const pairs = Object.entries({ ...fields, [`?at:${to}`]: this.#clock.nowMs() }).flat();
    const args = [owner, `,${from.join(',')},`, to, ...pairs];
    return (await runScript(this.#redis, 'batch-advance', [this.#keys.batch(id)], args)) === 1;
  }
}

function batchOf(fields: Record<string, string>): Batch {
  const times = Object.entries(fields)
    .filter(([name]) => name.startsWith('at:'))
    .map(([name, value]) => [name.slice(3), Number(value)]);
  return {
    ...(JSON.parse(fields['facts'] ?? '{}') as BatchFacts),
    status: (fields['status'] ?? 'failed') as BatchStatus,
    total: Number(fields['total'] ?? 0),
    completed: Number(fields['completed'] ?? 0),
    failed: Number(fields['failed'] ?? 0),
    outputFileId: fields['output'] ?? '',
    errorFileId: fields['error'] ?? '',
    errors: JSON.parse(fields['errors'] ?? '[]') as BatchProblem[],
    times: Object.fromEntries(times) as StatusTimes,
    end: (fields['end'] ?? null) as BatchStatus | null,
  };
}
