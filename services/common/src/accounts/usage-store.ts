import type { Redis } from 'ioredis';
import { fail } from '../errors.ts';
import type { AccountKeys } from '../redis/keys.ts';
import { redisError, runScript } from '../redis/scripts.ts';

/** What is counted of a key's use. */
export interface UsageCounts {
  requests: number;
  /** Prompt tokens, those that were cached among them. */
  inputTokens: number;
  cachedTokens: number;
  outputTokens: number;
  /** Of the output: within think blocks. */
  reasoningTokens: number;
  /** Microseconds that workers computed experts for it. */
  expertMicros: number;
}

/** Spelling of each counter in Redis. */
const FIELDS = {
  requests: 'requests',
  inputTokens: 'in',
  cachedTokens: 'cached',
  outputTokens: 'out',
  reasoningTokens: 'reasoning',
  expertMicros: 'expert_us',
} as const satisfies Record<keyof UsageCounts, string>;

const COUNTERS = Object.entries(FIELDS) as [keyof UsageCounts, string][];
const COUNTER_OF = new Map(COUNTERS.map(([counter, field]) => [field, counter]));

/** Whose use it is. Neither name holds a slash. */
export interface UsageSubject {
  tenant: string;
  /** Id of the key, `batch` for lines of batches, '' where no key is required. */
  keyId: string;
}

/** What a key used within an hour. */
export interface UsageRow extends UsageSubject, UsageCounts {
  /** Hours since the Unix epoch, by Redis's clock. */
  hour: number;
}

export const HOUR_MS = 3_600_000;
/** Longest range that is read at once, hours: 13 months. */
export const MAX_USAGE_HOURS = 396 * 24;
/** A report that nobody answered is sent again well within this time, or never. */
const SOURCE_KEPT_MS = 24 * HOUR_MS;
const HOURS_AT_ONCE = 128;

export function noUsage(): UsageCounts {
  return { requests: 0, inputTokens: 0, cachedTokens: 0, outputTokens: 0, reasoningTokens: 0, expertMicros: 0 };
}

/** Adds `by` to `counts`. */
export function addUsage(counts: UsageCounts, by: UsageCounts): void {
  for (const [counter] of COUNTERS) counts[counter] += by[counter];
}

/** What keys have used, by the hour. */
export class UsageStore {
  readonly #redis: Redis;
  readonly #keys: AccountKeys;

  constructor(redis: Redis, keys: AccountKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /**
   * Adds a report to the current hour, once however often it is sent.
   * @param source sender of the reports, whose numbers ascend.
   * @param keepMs for how long the hour is kept.
   * Throws `redis_unavailable`.
   */
  async add(
    source: string,
    number: number,
    report: readonly (UsageSubject & UsageCounts)[],
    keepMs: number,
  ): Promise<void> {
    const keys = this.#keys;
    const fields = report.flatMap((row) =>
      COUNTERS.filter(([counter]) => row[counter] !== 0).flatMap(([counter, field]) => [
        `${row.tenant}/${row.keyId}/${field}`,
        Math.round(row[counter]),
      ]),
    );
    const args = [number, SOURCE_KEPT_MS, keys.usagePrefix, keepMs, ...fields];
    await runScript(this.#redis, 'usage-add', [keys.usageSource(source)], args);
  }

  /**
   * What was used in the hours [fromHour, toHour), by hour and key; of one key where one is given. Throws `invalid_value` for more
   * than 13 months, and `redis_unavailable`.
   */
  async read(fromHour: number, toHour: number, only: UsageSubject | null = null): Promise<UsageRow[]> {
    if (toHour - fromHour > MAX_USAGE_HOURS)
      throw fail('invalid_value', 'more than 13 months of usage are not read at once');
    const rows: UsageRow[] = [];
    for (let hour = fromHour; hour < toHour; hour += HOURS_AT_ONCE) {
      const hours = Array.from({ length: Math.min(HOURS_AT_ONCE, toHour - hour) }, (_, i) => hour + i);
      const hashes = await (only === null ? this.#all(hours) : this.#one(hours, only));
      for (const [i, fields] of hashes.entries()) rows.push(...rowsOf(hours[i] as number, fields));
    }
    return rows;
  }

  async #all(hours: readonly number[]): Promise<Record<string, string>[]> {
    const pipeline = this.#redis.pipeline();
    for (const hour of hours) pipeline.hgetall(this.#keys.usage(hour));
    return (await this.#run(pipeline)) as Record<string, string>[];
  }

  async #one(hours: readonly number[], { tenant, keyId }: UsageSubject): Promise<Record<string, string>[]> {
    const fields = COUNTERS.map(([, field]) => `${tenant}/${keyId}/${field}`);
    const pipeline = this.#redis.pipeline();
    for (const hour of hours) pipeline.hmget(this.#keys.usage(hour), ...fields);
    const values = (await this.#run(pipeline)) as (string | null)[][];
    return values.map((list) => Object.fromEntries(fields.flatMap((field, i) => (list[i] ? [[field, list[i]]] : []))));
  }

  async #run(pipeline: ReturnType<Redis['pipeline']>): Promise<unknown[]> {
    try {
      const results = (await pipeline.exec()) ?? [];
      for (const [err] of results) if (err !== null) throw err;
      return results.map(([, value]) => value);
    } catch (err) {
      throw redisError(err);
    }
  }
}

function rowsOf(hour: number, fields: Record<string, string>): UsageRow[] {
  const rows = new Map<string, UsageRow>();
  for (const [name, value] of Object.entries(fields)) {
    const [tenant = '', keyId = '', field = ''] = name.split('/');
    const counter = COUNTER_OF.get(field);
    if (counter === undefined) continue;
    const key = `${tenant}/${keyId}`;
    const row = rows.get(key) ?? { hour, tenant, keyId, ...noUsage() };
    row[counter] += Number(value);
    rows.set(key, row);
  }
  return [...rows.values()];
}
