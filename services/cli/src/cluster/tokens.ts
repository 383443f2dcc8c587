import { createHash, randomBytes } from 'node:crypto';
import { type Clock, fail, lockFile, sameSecret } from '@guildhall/common';
import { readJson, writeJson } from './private-files.ts';

/** What a joining machine is given: which token, its secret, and whom to believe. */
export interface JoinToken {
  id: string;
  secret: string;
  /** Hash of the authority's certificate. */
  authority: string;
}

/** A token as the head keeps it: without the secret. */
export interface TokenRecord {
  id: string;
  /** SHA-256 of the secret, hex. */
  hash: string;
  createdAtMs: number;
  expiresAtMs: number;
  revoked: boolean;
}

export type TokenState = 'valid' | 'expired' | 'revoked';

const TOKEN = /^([a-z0-9]{8})\.([A-Za-z0-9_-]{32})\.([A-Za-z0-9_-]{43})$/;
/** Records of dead tokens are kept so long that their errors can still say what happened. */
const FORGET_AFTER_MS = 30 * 86_400_000;

export function formatToken({ id, secret, authority }: JoinToken): string {
  return `${id}.${secret}.${authority}`;
}

/** Throws `join_token_invalid` for a text that is no token. */
export function parseToken(text: string): JoinToken {
  const [, id, secret, authority] = TOKEN.exec(text.trim()) ?? [];
  if (id === undefined || secret === undefined || authority === undefined)
    throw fail('join_token_invalid', '--token: expected ID.SECRET.HASH as `guildhall cluster token create` prints it', {
      field: 'token',
    });
  return { id, secret, authority };
}

export function tokenState(record: TokenRecord, nowMs: number): TokenState {
  if (record.revoked) return 'revoked';
  return nowMs >= record.expiresAtMs ? 'expired' : 'valid';
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** The tokens of a cluster, in a file that the join server and commands share. */
export class TokenStore {
  readonly #path: string;
  readonly #clock: Clock;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  list(): TokenRecord[] {
    return readJson<TokenRecord[]>(this.#path) ?? [];
  }

  /** Makes a token; its secret is in the answer and nowhere else. */
  async create(options: { ttlMs: number; authority: string }): Promise<{ token: JoinToken; record: TokenRecord }> {
    const secret = randomBytes(24).toString('base64url');
    const nowMs = this.#clock.nowMs();
    const record: TokenRecord = {
      id: randomBytes(4).toString('hex'),
      hash: hashOf(secret),
      createdAtMs: nowMs,
      expiresAtMs: nowMs + options.ttlMs,
      revoked: false,
    };
    await this.#change((records) => [
      ...records.filter(({ expiresAtMs }) => nowMs - expiresAtMs < FORGET_AFTER_MS),
      record,
    ]);
    return { token: { id: record.id, secret, authority: options.authority }, record };
  }

  /** Throws `not_found`. */
  async revoke(id: string): Promise<TokenRecord> {
    if (!this.list().some((record) => record.id === id)) throw fail('not_found', `there is no token ${id}`);
    const records = await this.#change((all) =>
      all.map((record) => (record.id === id ? { ...record, revoked: true } : record)),
    );
    const revoked = records.find((record) => record.id === id);
    if (revoked === undefined) throw fail('not_found', `there is no token ${id}`);
    return revoked;
  }

  /**
   * The record behind a token that may be used now. Throws `join_token_invalid`, alike for an unknown id and a wrong
   * secret, and `join_token_expired`.
   */
  check({ id, secret }: Pick<JoinToken, 'id' | 'secret'>): TokenRecord {
    const record = this.list().find((one) => one.id === id);
    const matches = sameSecret(hashOf(secret), record?.hash ?? '');
    if (record === undefined || !matches) throw fail('join_token_invalid', 'this token is not one of the cluster');
    const state = tokenState(record, this.#clock.nowMs());
    if (state === 'revoked') throw fail('join_token_invalid', `the token ${id} was revoked`);
    if (state === 'expired')
      throw fail('join_token_expired', `the token ${id} expired at ${new Date(record.expiresAtMs).toISOString()}`);
    return record;
  }

  async #change(edit: (records: TokenRecord[]) => TokenRecord[]): Promise<TokenRecord[]> {
    const lock = await lockFile(`${this.#path}.lock`, { clock: this.#clock });
    try {
      const records = edit(this.list());
      writeJson(this.#path, records, 0o600);
      return records;
    } finally {
      lock.release();
    }
  }
}
