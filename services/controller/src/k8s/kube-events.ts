import { type Clock, errorMessage, type Logger, type Metrics } from '@guildhall/common';
import { createHash } from 'node:crypto';
import { apiFailureOf } from './api/api-error.ts';
import type { KubeClient } from './api/client.ts';
import { FIELD_MANAGER } from './lease/lease-record.ts';

/** What an Event is about. */
export interface Regarding {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
}

export interface KubeEvent {
  regarding: Regarding;
  type: 'Normal' | 'Warning';
  /** UpperCamelCase, of a closed list. */
  reason: string;
  message: string;
}

export interface KubeEventsOptions {
  client: Pick<KubeClient, 'json'>;
  namespace: string;
  /** Name of this process. */
  instance: string;
  /** True while this process may write. */
  mayWrite: () => boolean;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

interface Series {
  name: string;
  count: number;
  lastMs: number;
}

/** Events that differ in nothing but their time count up one object for so long; as client-go. */
const SAME_MS = 600_000;
/** As client-go: an object gets so many at once, and then one in so many ms. */
const BURST = 25;
const REFILL_MS = 300_000;
/** Kept in memory of each: series, rates, and events that wait to be written. */
const MAX_SERIES = 512;
const MAX_WAITING = 64;
/** The API server refuses more. */
const MAX_MESSAGE = 1024;

/**
 * Kubernetes Events, for `kubectl describe` and `kubectl get events`. Writing never waits and never throws; equal ones count up
 * one object; an object that something keeps happening to is bounded to a burst and a slow rate.
 */
export class KubeEvents {
  readonly #o: KubeEventsOptions;
  readonly #series = new Map<string, Series>();
  readonly #tokens = new Map<string, { left: number; atMs: number }>();
  #waiting: KubeEvent[] = [];
  #writing: Promise<void> | null = null;

  constructor(options: KubeEventsOptions) {
    this.#o = options;
  }

  /** Notes an event; nothing happens unless this process may write. */
  note(event: KubeEvent): void {
    const { mayWrite, metrics } = this.#o;
    if (!mayWrite()) return;
    if (!this.#allowed(event.regarding) || this.#waiting.length >= MAX_WAITING) {
      metrics.count('guildhall_k8s_writes_total', { what: 'event', outcome: 'dropped' });
      return;
    }
    this.#waiting.push({ ...event, message: event.message.slice(0, MAX_MESSAGE) });
    this.#writing ??= this.#drain().finally(() => (this.#writing = null));
  }

  /** Resolves when what was noted so far is written or given up. */
  async flushed(): Promise<void> {
    await this.#writing;
  }

  /** Takes one of the object's tokens. */
  #allowed({ kind, name, uid }: Regarding): boolean {
    const key = `${kind}/${name}/${uid}`;
    const nowMs = this.#o.clock.monotonicMs();
    const { left, atMs } = this.#tokens.get(key) ?? { left: BURST, atMs: nowMs };
    const now = Math.min(BURST, left + (nowMs - atMs) / REFILL_MS);
    keep(this.#tokens, key, { left: now < 1 ? now : now - 1, atMs: nowMs });
    return now >= 1;
  }

  async #drain(): Promise<void> {
    for (let event = this.#waiting.shift(); event !== undefined; event = this.#waiting.shift()) {
      const outcome = await this.#write(event);
      this.#o.metrics.count('guildhall_k8s_writes_total', { what: 'event', outcome });
    }
  }

  async #write(event: KubeEvent): Promise<'done' | 'refused'> {
    const { regarding, type, reason, message } = event;
    const key = [regarding.kind, regarding.name, regarding.uid, type, reason, message].join('\0');
    const known = this.#series.get(key);
    const nowMs = this.#o.clock.nowMs();
    try {
      if (known !== undefined && nowMs - known.lastMs < SAME_MS && (await this.#countUp(known, nowMs))) return 'done';
      const fresh = await this.#create(event, key, nowMs);
      keep(this.#series, key, fresh);
      return 'done';
    } catch (err) {
      this.#o.logger.debug({ reason: errorMessage(err) }, 'an Event was not written');
      return 'refused';
    }
  }

  /** False when the API server has forgotten the Event: they are kept for an hour. */
  async #countUp(series: Series, nowMs: number): Promise<boolean> {
    const { client, namespace } = this.#o;
    try {
      await client.json({
        method: 'PATCH',
        path: `/api/v1/namespaces/${namespace}/events/${series.name}`,
        query: { fieldManager: FIELD_MANAGER },
        contentType: 'application/merge-patch+json',
        body: { count: series.count + 1, lastTimestamp: textOf(nowMs) },
      });
    } catch (err) {
      if (apiFailureOf(err).status === 404) return false;
      throw err;
    }
    series.count += 1;
    series.lastMs = nowMs;
    return true;
  }

  async #create({ regarding, type, reason, message }: KubeEvent, key: string, nowMs: number): Promise<Series> {
    const { client, namespace, instance } = this.#o;
    const hash = createHash('sha256').update(`${key}\0${instance}\0${nowMs}`).digest('hex').slice(0, 16);
    const name = `${regarding.name.slice(0, 200)}.${hash}`;
    const at = textOf(nowMs);
    await client.json({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/events`,
      query: { fieldManager: FIELD_MANAGER },
      body: {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name, namespace },
        involvedObject: { ...regarding, namespace },
        type,
        reason,
        message,
        count: 1,
        firstTimestamp: at,
        lastTimestamp: at,
        source: { component: FIELD_MANAGER },
        reportingComponent: FIELD_MANAGER,
        reportingInstance: instance,
      },
    });
    return { name, count: 1, lastMs: nowMs };
  }
}

/** Whole seconds: what metav1.Time holds. */
function textOf(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}

/** Sets an entry as the youngest; the oldest goes when there are too many. */
function keep<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  const oldest = map.keys().next();
  if (map.size > MAX_SERIES && oldest.done !== true) map.delete(oldest.value);
}
