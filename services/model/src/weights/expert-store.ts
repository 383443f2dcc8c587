import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { open, readFile, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage, fail } from '@guildhall/common';
import { describe, parseJsonObject } from '../json-file.ts';
import type { Checkpoint, TensorRange } from './checkpoint.ts';
import { ExpertBytes } from './expert-bytes.ts';
import { expertRanges } from './experts.ts';
import { sha256Hex } from './sha256.ts';

/** Folder beside the outlines of a checkpoint that holds single experts. */
export const EXPERTS_DIR = '.guildhall-experts';

const SCHEMA = 'guildhall.expert/1';
const NAME = /^(\d{1,6})-(\d{1,6})\.expert$/;
const DRAFT_PREFIX = '.draft-';
/** A draft that is older than this was left by a process that died. */
const DRAFT_MS = 3_600_000;
/** Room that the store leaves on the disk. */
const SPARE_BYTES = 1 << 30;

export interface ExpertStoreOptions {
  checkpoint: Checkpoint;
  /** Bytes that the store may take; null for as many as the disk has but one GiB. */
  budgetBytes: number | null;
  /** Told what was discarded, or why something is not kept. */
  onWarning: (message: string) => void;
  /** Milliseconds since the Unix epoch. */
  nowMs: () => number;
}

/**
 * Single experts on the disk beside the outlines of their checkpoint, a file for each: its ranges of tensors as they were
 * published, with their SHA-256. Files appear whole and never change, so that several processes may share the folder.
 */
export class ExpertStore {
  readonly #options: ExpertStoreOptions;
  readonly #dir: string;
  /** Bytes of each file by its name; those used last come last. */
  readonly #files = new Map<string, number>();

  private constructor(options: ExpertStoreOptions) {
    this.#options = options;
    this.#dir = join(options.checkpoint.dir, EXPERTS_DIR);
  }

  /** Opens or begins the store of a checkpoint's folder. Their checksums are compared when experts are read. */
  static open(options: ExpertStoreOptions): ExpertStore {
    const store = new ExpertStore(options);
    mkdirSync(store.#dir, { recursive: true });
    for (const name of readdirSync(store.#dir)) {
      const { size, mtimeMs } = statSync(join(store.#dir, name));
      if (NAME.test(name)) store.#files.set(name, size);
      else if (name.startsWith(DRAFT_PREFIX) && mtimeMs < options.nowMs() - DRAFT_MS)
        rmSync(join(store.#dir, name), { force: true });
    }
    return store;
  }

  has(layer: number, expert: number): boolean {
    return this.#files.has(nameOf(layer, expert));
  }

  /** Bytes on the disk. */
  get bytes(): number {
    return [...this.#files.values()].reduce((sum, size) => sum + size, 0);
  }

  /** An expert, its checksum compared; null where it is not there or was damaged and therefore removed. */
  async read(layer: number, expert: number): Promise<ExpertBytes | null> {
    const name = nameOf(layer, expert);
    const size = this.#files.get(name);
    if (size === undefined) return null;
    try {
      const bytes = await this.#decode(layer, expert, await readFile(join(this.#dir, name)));
      this.#files.delete(name);
      this.#files.set(name, size);
      return bytes;
    } catch (err) {
      this.#options.onWarning(`${join(this.#dir, name)}: ${errorMessage(err)}: discarded`);
      await this.#remove(name);
      return null;
    }
  }

  /**
   * Keeps an expert. Where the budget is used up, those used longest ago go that nobody `needs`.
   * @returns false where it is not kept: no room, or the disk does not take it; the warning says why.
   */
  async write(bytes: ExpertBytes, needs: (layer: number, expert: number) => boolean): Promise<boolean> {
    const name = nameOf(bytes.layer, bytes.expert);
    if (this.#files.has(name)) return true;
    const draft = join(this.#dir, `${DRAFT_PREFIX}${randomUUID()}`);
    try {
      const head = await this.#head(bytes);
      const size = head.length + bytes.data.length;
      if (!(await this.#makeRoom(size, needs))) return false;
      const handle = await open(draft, 'wx');
      try {
        await handle.writeFile(head);
        await handle.writeFile(bytes.data);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(draft, join(this.#dir, name));
      this.#files.set(name, size);
      return true;
    } catch (err) {
      this.#options.onWarning(`${join(this.#dir, name)}: not kept: ${errorMessage(err)}`);
      await rm(draft, { force: true }).catch(() => undefined);
      return false;
    }
  }

  async #head({ layer, expert, ranges, data }: ExpertBytes): Promise<Buffer> {
    const { fingerprint } = this.#options.checkpoint;
    const about = {
      schema: SCHEMA,
      fingerprint,
      layer,
      expert,
      ranges: rangesJson(ranges),
      sha256: await sha256Hex(data),
    };
    const json = Buffer.from(JSON.stringify(about));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    return Buffer.concat([length, json]);
  }

  async #decode(layer: number, expert: number, file: Buffer): Promise<ExpertBytes> {
    const { checkpoint } = this.#options;
    const length = file.length < 8 ? -1 : Number(file.readBigUInt64LE());
    if (length < 2 || length > file.length - 8) throw fail('checkpoint_invalid', 'its header does not fit');
    const about = parseJsonObject('its header', file.toString('utf8', 8, 8 + length));
    const ranges = expertRanges(checkpoint, layer, expert);
    const wanted = { schema: SCHEMA, fingerprint: checkpoint.fingerprint, layer, expert, ranges: rangesJson(ranges) };
    for (const [key, value] of Object.entries(wanted)) {
      if (JSON.stringify(about[key]) === JSON.stringify(value)) continue;
      throw fail('checkpoint_invalid', `found ${key} ${describe(about[key])}, expected ${describe(value)}`);
    }
    const data = Uint8Array.from(file.subarray(8 + length));
    if ((await sha256Hex(data)) !== about['sha256']) throw fail('checkpoint_invalid', 'its checksum is wrong');
    return new ExpertBytes({ layer, expert }, ranges, data);
  }

  async #makeRoom(size: number, needs: (layer: number, expert: number) => boolean): Promise<boolean> {
    const { budgetBytes } = this.#options;
    for (;;) {
      const over = budgetBytes !== null && this.bytes + size > budgetBytes;
      if (!over) break;
      const name = [...this.#files.keys()].find((file) => !needs(...addressOf(file)));
      if (name === undefined) return false;
      await this.#remove(name);
    }
    const { bavail, bsize } = await statfs(this.#dir);
    if (bavail * bsize - size > SPARE_BYTES || budgetBytes !== null) return true;
    this.#options.onWarning(`${this.#dir}: the disk is nearly full: experts are not kept`);
    return false;
  }

  async #remove(name: string): Promise<void> {
    this.#files.delete(name);
    await rm(join(this.#dir, name), { force: true }).catch(() => undefined);
  }
}

function nameOf(layer: number, expert: number): string {
  return `${layer}-${expert}.expert`;
}

function addressOf(name: string): [layer: number, expert: number] {
  const [, layer, expert] = NAME.exec(name) ?? [];
  return [Number(layer), Number(expert)];
}

function rangesJson(ranges: readonly TensorRange[]): [string, number, number][] {
  return ranges.map(({ tensor, begin, end }) => [tensor, begin, end]);
}
