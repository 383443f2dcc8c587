import type { Redis } from 'ioredis';
import type { RedisKeys } from './keys.ts';
import { redisError, runScript } from './scripts.ts';

/** A response as the store has it; the texts are JSON that only gateways read. */
export interface StoredResponse {
  id: string;
  tenant: string;
  status: string;
  /** Id of the response that it continues; '' for none. */
  previous: string;
  /** The response without its output. */
  head: string;
  /** Items that were given to it. */
  input: string;
  /** Items that it gave. */
  output: string;
  /** What it is made from, while it waits or runs in the background; '' otherwise. */
  job: string;
  /** Gateways that died while they ran it. */
  deaths: number;
}

/** How much is kept, and for how long. */
export interface ResponseLimits {
  ttlMs: number;
  /** Bytes that one tenant may keep; what would be forgotten first makes room for more. */
  tenantBytes: number;
  /** Background responses that wait or run in the whole cluster. */
  maxBackground: number;
}

/** Why a conversation cannot be read: a response of it is not there, or not over, or it is too long. */
export type ChainFault = 'missing' | 'running' | 'long';

/** The items of a conversation, oldest first, each a JSON array; or what is wrong with which response. */
export type ResponseChain = { items: string[]; fault: null } | { fault: ChainFault; id: string };

const MAX_CHAIN = 2000;
const MAX_CHAIN_BYTES = 32 << 20;
/** Entries of a log that are read at a time. */
const LOG_PAGE = 500;
/** Background response without a lease: any gateway may take it at once. */
const AT_ONCE_MS = 0;
const NOT_BACKGROUND = -1;

/** Responses in Redis, each for one tenant; and the background ones among them, each with one gateway at a time. */
export class ResponseStore {
  readonly #redis: Redis;
  readonly #keys: RedisKeys;

  constructor(redis: Redis, keys: RedisKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Keeps a response that is over. Throws `redis_unavailable`. */
  async put(response: StoredResponse, limits: ResponseLimits): Promise<void> {
    await this.#put(response, limits, NOT_BACKGROUND, '');
  }

  /**
   * Keeps a background response for `owner`, or for whoever takes it where that is ''. False when too many wait or run.
   * Throws `redis_unavailable`.
   */
  async begin(response: StoredResponse, owner: string, leaseMs: number, limits: ResponseLimits): Promise<boolean> {
    return await this.#put(response, limits, owner === '' ? AT_ONCE_MS : leaseMs, owner);
  }

  async #put(response: StoredResponse, limits: ResponseLimits, leaseMs: number, owner: string): Promise<boolean> {
    const { id, tenant } = response;
    const names = this.#keys;
    const { ttlMs, tenantBytes, maxBackground } = limits;
    const fields = { ...fieldsOf(response), owner };
    const { responsePrefix, responseLogPrefix } = names;
    const args = [id, ttlMs, bytesOf(response), tenantBytes, responsePrefix, responseLogPrefix, leaseMs, maxBackground];
    const keys = [names.response(id), ...this.#sums(tenant)];
    const done = await runScript(this.#redis, 'response-put', keys, [...args, ...Object.entries(fields).flat()]);
    return done === 1;
  }

  /** A tenant's response; null when there is none. Throws `redis_unavailable`. */
  async get(tenant: string, id: string): Promise<StoredResponse | null> {
    const fields = await this.#try(() => this.#redis.hgetall(this.#keys.response(id)));
    return fields['tenant'] === tenant && fields['head'] !== undefined ? responseOf(id, fields) : null;
  }

  /** The status of a response; null when it is gone. Throws `redis_unavailable`. */
  async status(id: string): Promise<string | null> {
    return await this.#try(() => this.#redis.hget(this.#keys.response(id), 'status'));
  }

  /** Any tenant's response, for the gateway that runs it. Throws `redis_unavailable`. */
  async claimed(id: string): Promise<StoredResponse | null> {
    const fields = await this.#try(() => this.#redis.hgetall(this.#keys.response(id)));
    return fields['head'] === undefined ? null : responseOf(id, fields);
  }

  /** The items of a response and of those that it continues; they are kept for `ttlMs` again. Throws `redis_unavailable`. */
  async chain(tenant: string, id: string, ttlMs: number): Promise<ResponseChain> {
    const args = [id, tenant, ttlMs, this.#keys.responsePrefix, MAX_CHAIN, MAX_CHAIN_BYTES];
    const answer = await runScript(this.#redis, 'response-chain', this.#sums(tenant).slice(0, 2), args);
    const [first, ...rest] = (answer as Buffer[]).map(String);
    if (first !== 'ok') return { fault: first as ChainFault, id: rest[0] ?? id };
    // Input and output alternate, the last response first.
    const turns = Array.from({ length: rest.length / 2 }, (_, i) => rest.slice(2 * i, 2 * i + 2));
    return { items: turns.toReversed().flat(), fault: null };
  }

  /** False when the tenant has no such response. Throws `redis_unavailable`. */
  async delete(tenant: string, id: string): Promise<boolean> {
    const keys = [this.#keys.response(id), this.#keys.responseLog(id), ...this.#sums(tenant)];
    return (await runScript(this.#redis, 'response-delete', keys, [id, tenant])) === 1;
  }

  /** Takes up to `count` background responses that nobody has. Throws `redis_unavailable`. @returns their ids. */
  async claim(owner: string, leaseMs: number, count: number): Promise<string[]> {
    const { responsesRunning, responsePrefix } = this.#keys;
    const args = [owner, leaseMs, count, responsePrefix];
    return ((await runScript(this.#redis, 'response-claim', [responsesRunning], args)) as Buffer[]).map(String);
  }

  /**
   * Keeps a background response for its owner, and adds an entry to its log unless that is ''. False when it is over or
   * somebody else has it. Throws `redis_unavailable`.
   */
  async append(id: string, owner: string, leaseMs: number, entry: string): Promise<boolean> {
    const keys = [this.#keys.response(id), this.#keys.responseLog(id), this.#keys.responsesRunning];
    return (await runScript(this.#redis, 'response-append', keys, [id, owner, leaseMs, entry])) === 1;
  }

  /** Gives a background response up, so that any gateway may take it at once. Throws `redis_unavailable`. */
  async release(id: string, owner: string): Promise<boolean> {
    return await this.append(id, owner, 0, '');
  }

  /**
   * Ends a background response that `owner` has, or anybody where that is ''. False when it is over or somebody else has
   * it. Throws `redis_unavailable`.
   */
  async finish(response: StoredResponse, owner: string): Promise<boolean> {
    const { id, tenant, status, head, output } = response;
    const keys = [this.#keys.response(id), ...this.#sums(tenant)];
    // The log, which stays, takes about twice as much as the output that it became.
    const bytes = bytesOf({ ...response, job: '' }) + 2 * Buffer.byteLength(output);
    const args = [id, owner, bytes, 'status', status, 'head', head, 'output', output];
    return (await runScript(this.#redis, 'response-finish', keys, args)) === 1;
  }

  /** Entries of a background response's log from number `from` on, at most some hundreds. Throws `redis_unavailable`. */
  async log(id: string, from: number): Promise<string[]> {
    return await this.#try(() => this.#redis.lrange(this.#keys.responseLog(id), from, from + LOG_PAGE - 1));
  }

  /** Keys of what a tenant keeps and of what runs. */
  #sums(tenant: string): string[] {
    return [this.#keys.responsesOf(tenant), this.#keys.responseBytesOf(tenant), this.#keys.responsesRunning];
  }

  async #try<T>(command: () => Promise<T>): Promise<T> {
    try {
      return await command();
    } catch (err) {
      throw redisError(err);
    }
  }
}

/** Bytes that a response takes. */
function bytesOf({ head, input, output, job }: StoredResponse): number {
  return Buffer.byteLength(head) + Buffer.byteLength(input) + Buffer.byteLength(output) + Buffer.byteLength(job);
}

function fieldsOf({ tenant, status, previous, head, input, output, job }: StoredResponse): Record<string, string> {
  return { tenant, status, previous, head, input, output, job };
}

function responseOf(id: string, fields: Record<string, string>): StoredResponse {
  const text = (name: string): string => fields[name] ?? '';
  return {
    id,
    tenant: text('tenant'),
    status: text('status'),
    previous: text('previous'),
    head: text('head'),
    input: text('input'),
    output: text('output'),
    job: text('job'),
    deaths: Number(fields['deaths'] ?? 0),
  };
}
