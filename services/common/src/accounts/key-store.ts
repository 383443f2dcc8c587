import type { Redis } from 'ioredis';
import { fail } from '../errors.ts';
import type { AccountKeys } from '../redis/keys.ts';
import { redisError, runScript } from '../redis/scripts.ts';
import { apiKeyHash, type KeyRecord, newApiKey, parseKeyRecord } from './key-record.ts';

/** A key as Redis has it. */
export interface StoredKey {
  /** SHA-256 of the key; null once it is revoked. */
  hash: Buffer | null;
  record: KeyRecord;
}

/** What the maker of a key decides. */
export type NewKey = Omit<KeyRecord, 'id' | 'tenant' | 'createdAtMs' | 'revokedAtMs'> & { tenant: string | null };

/** What can be changed of a key. */
export type KeyChanges = Partial<Omit<KeyRecord, 'id' | 'createdAtMs' | 'revokedAtMs'>>;

/** Revoked keys stay in the list for so long. */
const REVOKED_KEPT_MS = 30 * 86_400_000;
const TRIES = 5;

/** The API keys of a cluster. Whole keys are never stored. */
export class ApiKeyStore {
  readonly #redis: Redis;
  readonly #keys: AccountKeys;

  constructor(redis: Redis, keys: AccountKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Makes a key; without a tenant it is one of its own. The key itself is not to be had again. Throws `redis_unavailable`. */
  async create(wanted: NewKey, nowMs: number): Promise<{ key: string; record: KeyRecord }> {
    const { id, key } = newApiKey();
    const record: KeyRecord = {
      ...wanted,
      id,
      tenant: wanted.tenant ?? `key-${id}`,
      createdAtMs: nowMs,
      revokedAtMs: null,
    };
    const keys = this.#keys;
    const args = [id, apiKeyHash(key).toString('hex'), JSON.stringify(record), nowMs, keys.events];
    if ((await runScript(this.#redis, 'key-create', [keys.apiKey(id), keys.apiKeys], args)) === 1)
      return { key, record };
    throw fail('id_in_use', 'the new key has the id of another one; try again');
  }

  /** The key of this id; null for one that is unknown, or that cannot be read. Throws `redis_unavailable`. */
  async read(id: string): Promise<StoredKey | null> {
    const [hash, text] = await this.#raw(id);
    const record = text === null ? null : parseKeyRecord(text);
    if (record === null) return null;
    return { hash: hash === null ? null : Buffer.from(hash, 'hex'), record };
  }

  /** All keys in the order of their creation, those that were revoked lately among them. Throws `redis_unavailable`. */
  async list(): Promise<KeyRecord[]> {
    const { apiKeys, apiKeyPrefix } = this.#keys;
    const texts = (await runScript(this.#redis, 'keys-list', [apiKeys], [apiKeyPrefix])) as Buffer[];
    return texts.map((text) => parseKeyRecord(String(text))).filter((record) => record !== null);
  }

  /** Changes a key; the next request with it goes by that. Throws `not_found` also for a revoked key, `redis_unavailable`. */
  async change(id: string, changes: KeyChanges): Promise<KeyRecord> {
    return this.#change(id, changes, 0);
  }

  /** Revokes a key for good. Throws `not_found`, `redis_unavailable`. */
  async revoke(id: string, nowMs: number): Promise<KeyRecord> {
    return this.#change(id, { revokedAtMs: nowMs }, REVOKED_KEPT_MS);
  }

  async #change(id: string, changes: Partial<KeyRecord>, forgetAfterMs: number): Promise<KeyRecord> {
    const keys = this.#keys;
    for (let tries = 0; tries < TRIES; tries++) {
      const [, text] = await this.#raw(id);
      const record = text === null ? null : parseKeyRecord(text);
      if (text === null || record === null) throw fail('not_found', `there is no key ${id}`);
      if (record.revokedAtMs !== null) throw fail('not_found', `key ${id} is revoked`);
      const next = { ...record, ...changes };
      const args = [id, text, JSON.stringify(next), forgetAfterMs, keys.events];
      if ((await runScript(this.#redis, 'key-change', [keys.apiKey(id)], args)) === 1) return next;
    }
    throw fail('overloaded', `key ${id} is being changed by others all the time; try again`);
  }

  async #raw(id: string): Promise<[hash: string | null, record: string | null]> {
    try {
      const [hash = null, record = null] = await this.#redis.hmget(this.#keys.apiKey(id), 'hash', 'record');
      return [hash, record];
    } catch (err) {
      throw redisError(err);
    }
  }
}
