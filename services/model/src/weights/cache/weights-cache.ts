import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '@guildhall/common';
import type { TensorSource } from '@guildhall/native';
import type { MapFile } from '../safetensors/file.ts';
import type { CacheLocation } from './location.ts';
import { DRAFT_PREFIX, isSegmentName, Segment, writeSegment, type SegmentOrigin } from './segment.ts';

export interface WeightsCacheOptions {
  location: CacheLocation;
  origin: SegmentOrigin;
  /** Maps files; without it weights are read into memory. */
  mapFile: MapFile | null;
  /** Told what was discarded, or why nothing is kept. */
  onWarning: (message: string) => void;
  /** Bytes that are gathered before a segment is written. */
  segmentBytes?: number;
}

const SEGMENT_BYTES = 256 << 20;
/** Room that the cache leaves on the disk. */
const SPARE_BYTES = 1 << 30;
/** A draft that is older than this was left by a process that died. */
const DRAFT_MS = 3_600_000;

/**
 * Quantised weights on the disk. They lie in immutable segments that are named by their contents and appear whole, so
 * that any number of processes may read and add at the same time without a lock: each adds what it had to make itself
 * and did not find. A segment that is damaged is thrown away, and its weights are made again.
 */
export class WeightsCache {
  readonly dir: string;
  /** Weights that were taken from the disk, that were not there, and that were written. */
  readonly counts = { hits: 0, misses: 0, written: 0 };
  readonly #options: WeightsCacheOptions;
  readonly #segments = new Map<string, Segment>();
  readonly #index = new Map<string, Segment>();
  #fresh = new Map<string, TensorSource>();
  #freshBytes = 0;
  #scannedAt = -1;
  #full = false;
  #writing: Promise<void> = Promise.resolve();

  private constructor(options: WeightsCacheOptions, dir: string) {
    this.#options = options;
    this.dir = dir;
  }

  /**
   * Opens or begins the cache of one checkpoint in one format, and clears away what can never be used again.
   * @returns null where its folder cannot be made; the warning says why.
   */
  static open(options: WeightsCacheOptions): WeightsCache | null {
    const { location, origin, onWarning } = options;
    const prefix = `${origin.format}-v`;
    const dir = join(location.root, `${prefix}${origin.version}-${origin.fingerprint}`);
    try {
      mkdirSync(dir, { recursive: true });
      for (const name of location.own ? readdirSync(location.root) : []) {
        if (!isStale(name, prefix, origin)) continue;
        onWarning(`${join(location.root, name)} is of another checkpoint or an older version: discarded`);
        rmSync(join(location.root, name), { recursive: true, force: true });
      }
      const cache = new WeightsCache(options, dir);
      cache.#scan();
      return cache;
    } catch (err) {
      onWarning(`${dir}: quantised weights are not kept: ${errorMessage(err)}`);
      return null;
    }
  }

  /** A weight from the disk, checked; null where it is not there or was damaged. */
  get(name: string): TensorSource | null {
    if (!this.#index.has(name)) this.#scan();
    const segment = this.#index.get(name);
    if (segment !== undefined) {
      try {
        const weight = segment.take(name);
        this.counts.hits += 1;
        return weight;
      } catch (err) {
        this.#rescue(segment, name);
        this.#discard(segment.path, err);
      }
    }
    this.counts.misses += 1;
    return null;
  }

  /**
   * Keeps a weight that was just made. It is written together with others, at the latest by `flush`; the promise
   * resolves when there is room for more.
   */
  async put(name: string, weight: TensorSource): Promise<void> {
    if (this.#full) return;
    this.#add(name, weight);
    if (this.#freshBytes >= (this.#options.segmentBytes ?? SEGMENT_BYTES)) await this.flush();
  }

  /** Writes what was put. A failure to write costs the next start time, nothing else: it is a warning. */
  flush(): Promise<void> {
    const weights = this.#fresh;
    const bytes = this.#freshBytes;
    this.#fresh = new Map();
    this.#freshBytes = 0;
    this.#writing = this.#writing.then(() => this.#write(weights, bytes));
    return this.#writing;
  }

  async #write(weights: Map<string, TensorSource>, bytes: number): Promise<void> {
    try {
      this.#scan();
      // Another process may have made the same in the meantime.
      for (const name of weights.keys()) if (this.#index.has(name)) weights.delete(name);
      if (weights.size === 0 || this.#full) return;
      const { bavail, bsize } = statfsSync(this.dir);
      if (bavail * bsize < bytes + SPARE_BYTES) {
        this.#giveUp(`only ${Math.floor((bavail * bsize) / (1 << 20))} MiB are free on the disk`);
        return;
      }
      const draft = join(this.dir, `${DRAFT_PREFIX}${randomUUID()}`);
      const name = await writeSegment(this.dir, draft, this.#options.origin, weights);
      this.counts.written += weights.size;
      this.#adopt(name);
    } catch (err) {
      this.#giveUp(errorMessage(err));
    }
  }

  #add(name: string, weight: TensorSource): void {
    this.#fresh.set(name, weight);
    this.#freshBytes += weight.data.byteLength + (weight.scale?.data.byteLength ?? 0);
  }

  /** Takes what is sound out of a damaged segment, to be written again. */
  #rescue(segment: Segment, damaged: string): void {
    for (const name of segment.names) {
      if (name === damaged) continue;
      try {
        this.#add(name, segment.take(name));
      } catch {
        // It is made again when somebody asks for it.
      }
    }
  }

  #giveUp(reason: string): void {
    this.#full = true;
    this.#options.onWarning(`${this.dir}: quantised weights are not kept: ${reason}`);
  }

  /** Finds segments that appeared since the last look. */
  #scan(): void {
    const changed = statSync(this.dir, { throwIfNoEntry: false })?.mtimeMs ?? -1;
    if (changed === this.#scannedAt || changed === -1) return;
    this.#scannedAt = changed;
    for (const name of readdirSync(this.dir)) {
      if (isSegmentName(name)) this.#adopt(name);
      else if (name.startsWith(DRAFT_PREFIX)) removeOldDraft(join(this.dir, name), changed);
    }
  }

  #adopt(name: string): void {
    if (this.#segments.has(name)) return;
    const path = join(this.dir, name);
    try {
      const segment = Segment.open(path, this.#options.origin, this.#options.mapFile);
      this.#segments.set(name, segment);
      for (const weight of segment.names) this.#index.set(weight, segment);
    } catch (err) {
      this.#discard(path, err);
    }
  }

  #discard(path: string, err: unknown): void {
    this.#options.onWarning(`${errorMessage(err)}: discarded, its weights are made again`);
    rmSync(path, { force: true });
    for (const [weight, segment] of this.#index) if (segment.path === path) this.#index.delete(weight);
    for (const [name, segment] of this.#segments) if (segment.path === path) this.#segments.delete(name);
  }
}

/** True for a cache of the same format that no process of this version will use again. */
function isStale(name: string, prefix: string, origin: SegmentOrigin): boolean {
  const [, version, fingerprint] = /^(\d+)-([0-9a-f]{32})$/.exec(name.slice(prefix.length)) ?? [];
  if (!name.startsWith(prefix) || version === undefined) return false;
  return fingerprint !== origin.fingerprint || Number(version) < origin.version;
}

function removeOldDraft(path: string, newest: number): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat !== undefined && newest - stat.mtimeMs > DRAFT_MS) rmSync(path, { force: true });
}
