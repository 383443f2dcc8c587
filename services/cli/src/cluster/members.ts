import { createHash } from 'node:crypto';
import { type Clock, fail, lockFile } from '@guildhall/common';
import { readJson, writeJson } from './private-files.ts';

/** A machine's process that was let into the cluster. */
export interface MemberRecord {
  id: string;
  addresses: string[];
  /** Serial numbers of its latest certificates, newest first: an answer that was lost must not lock it out. */
  serials: string[];
  joinedAtMs: number;
  expiresAtMs: number;
  /** Token that it came with. */
  token: string;
  /** SHA-256 of its Redis password, hex. */
  redisHash: string;
  removed: boolean;
}

/** How Redis keeps passwords in its configuration. */
export function redisHash(password: string): string {
  return createHash('sha256').update(password).digest('hex');
}

/** True while a member counts: it was not removed, and its certificate has not run out. */
export function isCurrent(record: MemberRecord, nowMs: number): boolean {
  return !record.removed && record.expiresAtMs > nowMs;
}

/** Who was let in, in a file that the join server and commands share. */
export class MemberStore {
  readonly #path: string;
  readonly #clock: Clock;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  list(): MemberRecord[] {
    return readJson<MemberRecord[]>(this.#path) ?? [];
  }

  find(id: string): MemberRecord | null {
    return this.list().find((record) => record.id === id) ?? null;
  }

  /** Members whose access to Redis counts. */
  admitted(): MemberRecord[] {
    return this.list().filter((record) => isCurrent(record, this.#clock.nowMs()));
  }

  /**
   * Reserves an id, signs for it by `make`, and notes it. Without a wish it is `expert-N` with the next free N.
   * Throws `id_in_use` for a wish that another member has.
   */
  async add(
    wish: { id: string | null; addresses: string[]; reserved: readonly string[] },
    make: (id: string) => Promise<Omit<MemberRecord, 'id' | 'addresses' | 'removed'>>,
  ): Promise<MemberRecord> {
    const lock = await this.#lock();
    try {
      const records = this.list();
      const taken = new Set([
        ...wish.reserved,
        ...records.filter((record) => isCurrent(record, this.#clock.nowMs())).map(({ id }) => id),
      ]);
      const id = wish.id ?? nextId(new Set([...taken, ...records.map((record) => record.id)]));
      if (taken.has(id)) {
        const remedy = `take another --id, or if the machine that had it is gone: guildhall cluster remove ${id}`;
        throw fail('id_in_use', `${id} is a member of the cluster already; ${remedy}`, { field: 'id' });
      }
      const record: MemberRecord = { id, addresses: wish.addresses, removed: false, ...(await make(id)) };
      writeJson(this.#path, [...records.filter((one) => one.id !== id), record], 0o600);
      return record;
    } finally {
      lock.release();
    }
  }

  /** Notes a new certificate of a member. Throws `forbidden` when it was removed meanwhile. */
  async renewed(
    id: string,
    change: { serial: string; expiresAtMs: number; addresses: string[] },
  ): Promise<MemberRecord> {
    const { serial, ...rest } = change;
    return this.#edit(id, (record) => {
      if (record.removed) throw fail('forbidden', `${id} was removed from the cluster`);
      return { ...record, ...rest, serials: [serial, ...record.serials].slice(0, 2) };
    });
  }

  /** Takes a member's right to renew, and with the caller's help its access to Redis. Throws `not_found`. */
  async remove(id: string): Promise<MemberRecord> {
    return this.#edit(id, (record) => ({ ...record, removed: true }));
  }

  async #edit(id: string, edit: (record: MemberRecord) => MemberRecord): Promise<MemberRecord> {
    const lock = await this.#lock();
    try {
      const records = this.list();
      const at = records.findIndex((record) => record.id === id);
      const found = records[at];
      if (found === undefined) throw fail('not_found', `${id} never joined this cluster`);
      const changed = edit(found);
      writeJson(this.#path, records.with(at, changed), 0o600);
      return changed;
    } finally {
      lock.release();
    }
  }

  #lock(): ReturnType<typeof lockFile> {
    return lockFile(`${this.#path}.lock`, { clock: this.#clock });
  }
}

function nextId(taken: ReadonlySet<string>): string {
  for (let number = 1; ; number++) if (!taken.has(`expert-${number}`)) return `expert-${number}`;
}
