import { type Clock, errorMessage, fail, isGuildhallError, type Logger, type Metrics } from '@guildhall/common';
import { apiError, apiFailureOf } from '../api/api-error.ts';
import type { KubeClient } from '../api/client.ts';
import { statusSchema, versionedSchema, watchEventSchema } from '../api/objects.ts';
import { Backoff } from './backoff.ts';
import { LIST_MS, listAll } from './list.ts';

/** Why everything was listed: at the start, because the server no longer knew our version, because nothing came, on schedule. */
export type RelistReason = 'start' | 'expired' | 'silent' | 'resync' | 'failed';

export interface InformerOptions<T> {
  client: KubeClient;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  /** For metrics and logs: the resource's plural. */
  kind: string;
  /** Of the collection, such as /api/v1/namespaces/x/pods. */
  path: string;
  labelSelector?: string;
  /** Reads an object; throws for one that cannot be read, which is then passed over. */
  read: (object: unknown) => T;
  /** The resource may be missing from the cluster (404) or from the Role (403): then there are no objects of it. */
  optional?: boolean;
  /**
   * Time without a word from a watch, not even a bookmark, after which everything is listed again, in ms. API servers send a
   * bookmark about once a minute.
   */
  watchAgeMs: number;
  /** Everything is listed again at least so often, in ms, against what a watch may have missed. */
  resyncMs?: number;
  random?: () => number;
}

/** A watch that ends sooner than this is a failure, however politely it ended. */
const HEALTHY_MS = 5_000;
const RESYNC_MS = 600_000;
/** Watches end by themselves after this to twice this, in s, so that connections spread over API servers. */
const WATCH_S = 240;
/** How often a resource that is missing is looked for. */
const MISSING_MS = 60_000;

/**
 * The objects of one collection, by name, kept by list and watch. A watch that is silent for too long is not believed: it is
 * cut and everything listed again. Failures wait longer and longer, with jitter; what was seen last stays until then, and
 * counts as stale once nothing has confirmed it for `watchAgeMs` and the time of a list.
 */
export class Informer<T> {
  readonly #o: InformerOptions<T>;
  readonly #backoff: Backoff;
  readonly #random: () => number;
  readonly #listeners = new Set<() => void>();
  readonly #abort = new AbortController();
  #items: Map<string, T> | null = null;
  /** Where the next watch begins; null when everything must be listed first. */
  #version: string | null = null;
  #why: RelistReason = 'start';
  #listedMs = Number.NEGATIVE_INFINITY;
  /** When the server last said anything about the collection. */
  #heardMs = Number.NEGATIVE_INFINITY;
  #problem = '';
  #running: Promise<void> | null = null;

  constructor(options: InformerOptions<T>) {
    this.#o = options;
    this.#random = options.random ?? Math.random;
    this.#backoff = new Backoff(this.#random);
  }

  get kind(): string {
    return this.#o.kind;
  }

  /** By name; null before the first list and while it is stale. Do not keep it: it changes. */
  get items(): ReadonlyMap<string, T> | null {
    return this.#items === null || this.stale ? null : this.#items;
  }

  /** Time since the server last said anything about the collection, in ms; infinite before. */
  get ageMs(): number {
    return this.#o.clock.monotonicMs() - this.#heardMs;
  }

  get stale(): boolean {
    return this.ageMs > this.#o.watchAgeMs + LIST_MS;
  }

  /** Why it does not get on; empty when nothing is wrong. */
  get problem(): string {
    return this.#problem;
  }

  /** Calls `listener` after objects changed, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    this.#listeners.clear();
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      let waitMs = 0;
      try {
        if (this.#version === null) await this.#list();
        const livedMs = await this.#watch();
        if (livedMs >= HEALTHY_MS) this.#backoff.reset();
        else waitMs = this.#backoff.next();
        if (this.#o.clock.monotonicMs() - this.#listedMs >= (this.#o.resyncMs ?? RESYNC_MS)) this.#relist('resync');
      } catch (err) {
        if (signal.aborted) break;
        waitMs = this.#failed(err);
      }
      if (waitMs > 0) await this.#o.clock.sleep(waitMs, signal).catch(() => undefined);
    }
  }

  #relist(why: RelistReason): void {
    this.#version = null;
    this.#why = why;
  }

  async #list(): Promise<void> {
    const { client, path, labelSelector, kind, metrics, clock } = this.#o;
    metrics.count('guildhall_k8s_relists_total', { kind, reason: this.#why });
    const query = labelSelector === undefined ? {} : { labelSelector };
    const { items, version } = await listAll(client, path, query, this.#abort.signal);
    const read = new Map<string, T>();
    for (const item of items) {
      const name = this.#nameOf(item);
      const value = this.#read(item);
      if (name !== '' && value !== null) read.set(name, value);
    }
    this.#items = read;
    this.#version = version;
    this.#listedMs = this.#heardMs = clock.monotonicMs();
    this.#recovered();
    this.#emit();
  }

  /** Follows the collection until the server ends the watch; how long that was, in ms. */
  async #watch(): Promise<number> {
    const { client, path, labelSelector, clock } = this.#o;
    const startMs = clock.monotonicMs();
    const abort = new AbortController();
    const watchdog = clock.setInterval(Math.max(10, this.#o.watchAgeMs / 10), () => {
      if (clock.monotonicMs() - Math.max(this.#heardMs, startMs) >= this.#o.watchAgeMs) abort.abort(SILENT);
    });
    const query = {
      watch: true,
      allowWatchBookmarks: true,
      resourceVersion: this.#version ?? '',
      timeoutSeconds: Math.round(WATCH_S * (1 + this.#random())),
      ...(labelSelector === undefined ? {} : { labelSelector }),
    };
    const signal = AbortSignal.any([this.#abort.signal, abort.signal]);
    const timeoutMs = Math.min(LIST_MS, this.#o.watchAgeMs);
    try {
      const heard = (): void => void (this.#heardMs = clock.monotonicMs());
      for await (const line of client.lines({ method: 'GET', path, query, signal, timeoutMs }, heard)) {
        this.#apply(line);
        this.#recovered();
      }
    } catch (err) {
      if (abort.signal.aborted) throw SILENT;
      throw err;
    } finally {
      watchdog.cancel();
    }
    return clock.monotonicMs() - startMs;
  }

  #apply(line: string): void {
    const { type, object } = watchEventSchema.parse(JSON.parse(line));
    if (type === 'ERROR') {
      const { code, reason, message } = statusSchema.parse(object);
      throw apiError(`watch of ${this.#o.kind}`, { status: code, reason, retryAfterMs: null }, message);
    }
    const { metadata } = versionedSchema.parse(object);
    if (metadata.resourceVersion !== '') this.#version = metadata.resourceVersion;
    if (type === 'BOOKMARK' || this.#items === null) return;
    const value = type === 'DELETED' ? null : this.#read(object);
    if (value === null) this.#items.delete(metadata.name);
    else this.#items.set(metadata.name, value);
    this.#emit();
  }

  /** Notes a failure; how long to wait, in ms. */
  #failed(err: unknown): number {
    const { kind, logger, optional } = this.#o;
    if (err === SILENT) {
      this.#note(`nothing came for ${this.#o.watchAgeMs} ms`);
      this.#relist('silent');
      return 0;
    }
    const { status, reason, retryAfterMs } = apiFailureOf(err);
    if (optional === true && (status === 404 || status === 403)) {
      // The resource's definition is not installed, or its objects are none of our business: an answer too.
      this.#items = new Map();
      this.#heardMs = this.#o.clock.monotonicMs();
      this.#relist('start');
      return Math.min(MISSING_MS, this.#o.watchAgeMs) * (0.5 + 0.5 * this.#random());
    }
    this.#note(errorMessage(err));
    // 410 in any clothes: this version is too old to go on from. What is no answer of the server leaves the version good.
    if (status === 410 || reason === 'Expired' || reason === 'Gone') this.#relist('expired');
    else if (!isGuildhallError(err)) this.#relist('failed');
    const waitMs = this.#backoff.next(retryAfterMs ?? 0);
    logger.debug({ kind, status, waitMs: Math.round(waitMs), reason: errorMessage(err) }, 'a watch failed');
    return waitMs;
  }

  #note(problem: string): void {
    if (this.#problem === '') this.#o.logger.warn({ kind: this.#o.kind, reason: problem }, 'a watch does not get on');
    this.#problem = problem;
  }

  #recovered(): void {
    if (this.#problem !== '') this.#o.logger.info({ kind: this.#o.kind }, 'a watch goes on');
    this.#problem = '';
  }

  #nameOf(object: unknown): string {
    const result = versionedSchema.safeParse(object);
    return result.success ? result.data.metadata.name : '';
  }

  #read(object: unknown): T | null {
    try {
      return this.#o.read(object);
    } catch (err) {
      const { kind, logger } = this.#o;
      logger.warn({ kind, name: this.#nameOf(object), reason: errorMessage(err) }, 'an object cannot be read');
      return null;
    }
  }

  #emit(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Why the watchdog ends a watch. */
const SILENT = fail('deadline_exceeded', 'a watch is silent');
